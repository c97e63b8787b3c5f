"""A gateway of Istio's own kinds and its translation, side by side on the sandbox, with the same requests to both."""

from __future__ import annotations

import json
from random import Random

import yaml

from lib.errors import LegacyError
from lib.gateway_api import filters, translate
from lib.polling import wait
from lib.probes.tokens import forge
from lib.probes.tokens.keys import SigningKey
from tests.support import pod_curl

SPACE, ASKER, GATE = "forms", "asker", "gateway"
NEW = f"http://front-istio.{SPACE}"
OLD_PODS = f"istio={SPACE},!gateway.networking.k8s.io/gateway-name"  # the old Service selects the new ones too
ISSUER = "https://forms.example"
PATHS = ("/anything", "/anything/", "/anything/a", "/anything/ab", "/anything/a/b", "/anything/%61", "/anything//a",
         "/anything/a/../c", "/anything/admin", "/old/x", "/old")  # fmt: skip
AT = {"selector": {"matchLabels": {"istio": SPACE}}}
PATIENCE = 120  # seconds


class SideBySide:
    """The namespace with both gateways, two Services behind them, and a pod that asks."""

    def __init__(self, run, random: Random) -> None:
        self.run, self.cluster, self.random, self.key = run, run.cluster, random, SigningKey.generate()

    def build(self, hosts: int) -> None:
        """Create everything; the translation comes from the objects as they are applied."""
        labels = {"istio-injection": "enabled"}
        self._apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SPACE, "labels": labels}}])
        for name in ("web", "api"):
            self._apply(self.run.load("httpbin.yaml", name=name, namespace=SPACE))
        self._apply(self.run.load("caller.yaml", name=ASKER, home=SPACE, inject="false"))
        text = yaml.safe_dump_all(self.run.load("hardened/gateway.yaml"))
        text = text.replace("hardened-gateway", SPACE).replace("namespace: hardened", f"namespace: {SPACE}")
        pods = [one for one in yaml.safe_load_all(text) if one["kind"] in ("ServiceAccount", "Service", "Deployment")]
        for one in pods:
            if one["kind"] == "Service":
                one["spec"] |= {"type": "ClusterIP", "ports": [{"name": "http", "port": 80, "targetPort": 8080}]}
        servers = [{"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["./*"]}]
        gateway = _of("networking.istio.io/v1", "Gateway", "front", {"selector": {"istio": SPACE}, "servers": servers})
        old = [*pods, gateway, *self._policies()]
        virtuals = []
        while len(virtuals) < hosts:
            one = self._virtual(len(virtuals))
            try:
                translate([*old, one], strict=True)
            except LegacyError:
                continue
            virtuals.append(one)
        self._apply([*old, *virtuals])
        new = [one.manifest for one in translate([*old, *virtuals]) if one.manifest]
        (inner,) = [one for one in new if one["metadata"]["name"] == "web"]
        source = inner["spec"]["rules"][0]["from"][0]["source"]
        source["principals"].append(f"cluster.local/ns/{SPACE}/sa/{GATE}")  # while users come through both
        target = [{"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "front"}]
        self._apply([*new, filters.without(SPACE, "headers", ["x-user"], target)])
        for name in ("web", "api", ASKER, GATE):
            self.cluster.wait_rolled_out("Deployment", name, SPACE, self.run.params.deadline)
        made = lambda: self.cluster.find("apps/v1", "Deployment", "front-istio", SPACE)  # noqa: E731
        wait("istiod makes the new gateway", made, bool, deadline=PATIENCE)
        self.cluster.wait_rolled_out("Deployment", "front-istio", SPACE, self.run.params.deadline)

    def close(self) -> None:
        """Delete the namespace with everything in it."""
        self.cluster.delete("v1", "Namespace", SPACE)

    def answers(self, hosts: int, each: int) -> tuple[list, list[tuple], list[tuple]]:
        """Send `each` requests to each host of both gateways; return them, and the old and the new one's answers."""
        asked = [self._request(f"h{number}.example") for number in range(hosts) for _ in range(each)]
        found: dict = {}

        def same() -> list:
            found.update(old=self._send(self._old(), asked), new=self._send(NEW, asked))
            pairs = zip(asked, found["old"], found["new"], strict=True)
            return [(one[:3], *pair) for one, *pair in pairs if pair[0] != pair[1]]

        wait("both forms answer alike", same, lambda differences: not differences, deadline=PATIENCE, streak=2)
        return asked, found["old"], found["new"]

    def removed(self) -> bool:
        """Return whether the new gateway removes the authorizer's header from a client's request."""
        bodies = [
            self._send(url, [("mark.example", "GET", "/headers", {"X-User": "root"})])[0] for url in (self._old(), NEW)
        ]
        return "root" in str(bodies[0]) and "root" not in str(bodies[1])

    def _old(self) -> str:
        return f"http://{self.cluster.pod(OLD_PODS, SPACE)['status']['podIP']}:8080"

    def _policies(self) -> list[dict]:
        jwks = json.dumps({"keys": [self.key.public]})
        admin = {"operation": {"paths": ["/anything/admin*"], "ports": ["8080"]}}
        web = {"selector": {"matchLabels": {"app": "web"}}}
        spec = {"hosts": ["mark.example"], "gateways": ["front"], "http": [{"route": [_to("api")]}]}
        mark = _of("networking.istio.io/v1", "VirtualService", "mark", spec)
        through = {"source": {"principals": [f"cluster.local/ns/{SPACE}/sa/{GATE}"]}}
        return [
            mark,
            _policy("RequestAuthentication", "tokens", {**AT, "jwtRules": [{"issuer": ISSUER, "jwks": jwks}]}),
            _policy("AuthorizationPolicy", "admin", {**AT, "action": "DENY", "rules": [
                {"from": [{"source": {"notRequestPrincipals": [f"{ISSUER}/*"]}}], "to": [admin]},
                {"to": [{"operation": {"methods": ["DELETE"]}}]}]}),
            _policy("AuthorizationPolicy", "web", {**web, "rules": [
                {"from": [through], "to": [{"operation": {"methods": ["GET"]}}]}]}),
        ]  # fmt: skip

    def _virtual(self, number: int) -> dict:
        rules = [self._rule() for _ in range(self.random.randint(1, 3))]
        spec = {"hosts": [f"h{number}.example"], "gateways": ["front"], "http": rules}
        return _of("networking.istio.io/v1", "VirtualService", f"h{number}", spec)

    def _rule(self) -> dict:
        choose, chance = self.random.choice, self.random.random
        rule: dict = {"route": [_to(choose(["web", "api"]))]}
        if chance() < 0.8:
            kinds = choose([["exact"], ["prefix"], ["prefix", "exact"]])
            rule["match"] = [
                {"uri": {kind: choose(["/anything/a", "/anything/", "/old", "/anything"])}} for kind in kinds
            ]
            for one in rule["match"]:
                one |= choose([{}, {}, {"method": {"exact": "GET"}}, {"headers": {"x-v": {"prefix": "1"}}}])
        if chance() < 0.3:
            rule["rewrite"] = {"uri": choose(["/anything/new", "/anything/"])}
        if chance() < 0.3:
            rule["headers"] = {"request": {"set": {"x-a": "1"}, "remove": ["x-v"]}}
        return choose([rule] * 5 + [{"match": rule.get("match", [{}]), "redirect": {"uri": "/login"}}])

    def _request(self, host: str) -> tuple:
        choose = self.random.choice
        headers = choose([{}, {"X-V": "1"}, {"X-V": "12"}])
        claims = {"iss": ISSUER, "sub": "u", "exp": 4_000_000_000}
        key = choose([None, None, self.key, self.key, SigningKey.generate(kid=self.key.kid)])
        token = {"Authorization": f"Bearer {forge.signed(key, claims)}"} if key else {}
        return host, choose(["GET", "GET", "POST", "DELETE"]), choose(PATHS), headers | token

    def _send(self, url: str, asked: list[tuple]) -> list[tuple]:
        requests = [(url, method, path, {"Host": host, **headers}) for host, method, path, headers in asked]
        execute = self.cluster.execute(f"app={ASKER}", SPACE, "curl")
        replies = pod_curl.send(execute, requests, '{"code":"%{http_code}","to":"%header{location}"}')
        return [(int(about["code"]), about["to"], _seen(body)) for about, body in replies]

    def _apply(self, objects: list[dict]) -> None:
        for one in objects:
            self.cluster.apply(one)


def _seen(body: str) -> object:
    """What the application saw of the request: its URL and the headers that routes change; else the body."""
    try:
        found = json.loads(body)
        headers = {name.lower(): value for name, value in found["headers"].items()}
    except (ValueError, KeyError, TypeError):
        return body
    return found.get("url"), [headers.get(name) for name in ("x-v", "x-a", "x-user", "host")]


def _to(name: str) -> dict:
    return {"destination": {"host": name, "port": {"number": 8000}}}


def _of(api: str, kind: str, name: str, spec: dict) -> dict:
    return {"apiVersion": api, "kind": kind, "metadata": {"name": name, "namespace": SPACE}, "spec": spec}


def _policy(kind: str, name: str, spec: dict) -> dict:
    return _of("security.istio.io/v1", kind, name, spec)
