"""Two workloads of its own on the sandbox, random policies for them, and what their Envoys answer to random requests.

The workload `web` has an HTTP port. The workload `raw` has a port of plain TCP for each case: its Sidecar sends all of
them to one application.
"""

from __future__ import annotations

import ipaddress
import json
import time
from dataclasses import dataclass, replace
from random import Random

import yaml

from lib.errors import RunbookError
from lib.istio import authentication, evaluator, mesh, policies
from lib.istio.attributes import Call
from lib.istio.extension_providers import AUTHORIZER
from lib.istio.routes import API as NETWORKING
from lib.names import ISTIO_SYSTEM
from lib.polling import wait
from lib.probes.tokens import forge
from lib.probes.tokens.keys import SigningKey
from tests.support import pod_curl
from tests.support.random_policies import ABSENT, ALIAS, AUDIENCE, HEADER, ISSUERS, Asked, Policies

NAMESPACE, APP, RAW, CALLER, OUTSIDER = "evaluated", "web", "raw", "caller", "plain"
LABELS, RAW_LABELS = {"app": APP}, {"app": RAW}
SELECTED = {"selector": {"matchLabels": LABELS}}
URL = f"http://{APP}.{NAMESPACE}:8000"
FIRST, TCP_CASES = 9000, 8  # the port of the first TCP case, and how many ports there are
MARKS = (8998, 8999)  # ports of raw that tell a round's policies from those of the round before
# A second provider makes Istio refuse all that either would be asked about; what the last answers is not known
PROVIDERS = ((ABSENT,), (ABSENT, AUTHORIZER), (AUTHORIZER,))
BATCH = 100  # requests in one run of curl
PATIENCE = 120  # seconds until the sidecar has new policies
REFUSALS = ("RBAC: access denied", "Audiences in Jwt are not allowed", "")  # of policies, of tokens, of the authorizer


@dataclass(frozen=True)
class Pair:
    """A request under the policies: what Envoy did, and what the evaluator says; None is not known."""

    asked: Asked
    envoy: bool
    evaluator: bool | None
    unknown: tuple[str, ...]
    answer: str


class EvaluatedMesh:
    """The workload, its callers with and without a sidecar, and the key that signs the tokens."""

    def __init__(self, run) -> None:
        self.run, self.cluster = run, run.cluster
        self.key = SigningKey.generate()
        self.stranger = SigningKey.generate(kid=self.key.kid)
        self.stated = self.cluster.get("v1", "ConfigMap", "istio", ISTIO_SYSTEM)["data"]["mesh"]
        self.mesh = mesh.read(self.cluster)

    def build(self) -> None:
        """Give the mesh's trust domain an alias, create the workloads, and wait until they are ready."""
        self._configure(yaml.safe_dump(yaml.safe_load(self.stated) | {"trustDomainAliases": [ALIAS]}))
        self.mesh = mesh.read(self.cluster)
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": {
            "istio-injection": "enabled"}}}  # fmt: skip
        self._apply([namespace])
        self._apply(self.run.load("httpbin.yaml", name=APP, namespace=NAMESPACE))
        for one in self.run.load("httpbin.yaml", name=RAW, namespace=NAMESPACE):
            if one["kind"] == "Service":
                one["spec"]["ports"] = [{"name": f"tcp-{port}", "port": port} for port in _ports()]
            self._apply([one])
        for name, inject in ((CALLER, "true"), (OUTSIDER, "false")):
            self._apply(self.run.load("caller.yaml", name=name, home=NAMESPACE, inject=inject))
        self._apply([self._object("PeerAuthentication", "default", {"mtls": {"mode": "PERMISSIVE"}}), self.tokens()])
        self._apply([self._names(), self._ingress(), *self._fresh()])
        for name in (APP, RAW, CALLER, OUTSIDER):
            self.cluster.wait_rolled_out("Deployment", name, NAMESPACE, self.run.params.deadline)

    def close(self) -> None:
        """Delete the namespace with everything in it, and restore the mesh's configuration."""
        self._configure(self.stated)
        self.cluster.delete("v1", "Namespace", NAMESPACE)

    def tokens(self) -> dict:
        """The RequestAuthentication: two issuers, in two places, with each field that policies can see."""
        jwks = json.dumps({"keys": [self.key.public]})
        first = {"issuer": ISSUERS[0], "jwks": jwks, "forwardOriginalToken": True,
                 "outputClaimToHeaders": [{"header": "x-user", "claim": "sub"}]}  # fmt: skip
        second = {"issuer": ISSUERS[1], "jwks": jwks, "fromHeaders": [{"name": HEADER}], "audiences": [AUDIENCE],
                  "spaceDelimitedClaims": ["words"]}  # fmt: skip
        return self._object("RequestAuthentication", "web", {**SELECTED, "jwtRules": [first, second]})

    def pairs(self, seed: int, cases: int, tcp: int, each: int) -> list[Pair]:
        """Draw cases, apply them, send `each` requests to each, and return what came and what was expected."""
        random = Random(seed)
        pods = {name: self.cluster.pod(f"app={name}", NAMESPACE) for name in (APP, RAW, CALLER, OUTSIDER)}
        ips = {name: pod["status"]["podIP"] for name, pod in pods.items()}
        account = pods[CALLER]["spec"]["serviceAccountName"]
        providers = PROVIDERS[seed % len(PROVIDERS)]
        draws = [(Policies(random, NAMESPACE, labels, account, {"caller": ips[CALLER], "web": ips[labels["app"]]},
                           providers, port), count)
                 for labels, port, count in ((LABELS, 0, cases), (RAW_LABELS, FIRST, tcp))]  # fmt: skip
        found = self._replace(
            [one for draw, count in draws for number in range(count) for one in draw.case(number)], seed
        )
        made = []
        for draw, count in draws:
            asked = [draw.request(number) for number in range(count) for _ in range(each)]
            for sidecar, name in ((True, CALLER), (False, OUTSIDER)):
                mine = [one for one in asked if one.sidecar is sidecar]
                principal = f"{self.mesh.trust_domain}/ns/{NAMESPACE}/sa/{account}" if sidecar else ""
                about = Call(principal=principal, source_ip=ips[name], destination_ip=draw.addresses["web"],
                             port="8080", tcp=bool(draw.tcp))  # fmt: skip
                made += self._answered(name, mine, about, found)
        return made

    def _answered(self, name: str, asked: list[Asked], about: Call, found: list[dict]) -> list[Pair]:
        if about.tcp:
            replies = self._send(name, [(_raw(FIRST + one.case), "GET", "/status/200", {}) for one in asked])
            return [self._tcp_pair(one, reply, about, found) for one, reply in zip(asked, replies, strict=True)]
        written = [self._written(one) for one in asked]
        requests = [
            (URL, one.method, self._path(one, headers), {"Host": one.host, **_sent(headers)})
            for one, headers in zip(asked, written, strict=True)
        ]
        return [
            self._pair(one, headers, reply, about, found)
            for one, headers, reply in zip(asked, written, self._send(name, requests), strict=True)
        ]

    def _replace(self, drawn: list[dict], seed: int) -> list[dict]:
        """Put policies in the place of those before; return those that Istio took, once the sidecar has them."""
        found = []
        for one in drawn:
            try:
                self._apply([one])
                found.append(one)
            except RunbookError as error:
                assert "admission webhook" in str(error), error
        names = {one["metadata"]["name"] for one in found}
        for one in self.cluster.items("security.istio.io/v1", "AuthorizationPolicy", NAMESPACE):
            if one["metadata"]["name"] not in names:
                self.cluster.delete("security.istio.io/v1", one["kind"], one["metadata"]["name"], NAMESPACE)
        mark = {"key": "request.headers[x-case]", "values": [f"mark-{seed}"]}
        port = {"key": "destination.port", "values": [str(MARKS[seed % 2])]}
        made = [self._policy("mark", LABELS, mark), self._policy("mark-raw", RAW_LABELS, port)]
        self._apply(made)
        marks = [(URL, "GET", "/status/200", {"X-Case": f"mark-{number}"}) for number in (seed, "before")]
        marks += [(_raw(number), "GET", "/status/200", {}) for number in (MARKS[seed % 2], MARKS[(seed + 1) % 2])]

        def there() -> bool:
            answers = [[status for status, _ in self._send(name, marks)] for name in (CALLER, OUTSIDER)]
            return all(one == [200, 403, 200, 0] for one in answers)

        wait("the sidecars have the policies", there, bool, deadline=PATIENCE, streak=3)
        return [*found, *made]

    def _written(self, asked: Asked) -> dict[str, str]:
        headers = {"X-Case": str(asked.case), **asked.headers}
        if asked.place:
            token = forge.signed(self.key if asked.good else self.stranger, asked.claims)
            if asked.place == "header":
                headers["Authorization"] = f"Bearer {token}"
            elif asked.place == HEADER:
                headers[HEADER] = token
            else:
                headers["?"] = token
        return headers

    def _path(self, asked: Asked, headers: dict[str, str]) -> str:
        if "?" not in headers:
            return asked.path
        return f"{asked.path}{'&' if '?' in asked.path else '?'}access_token={headers['?']}"

    def _send(self, name: str, requests: list[tuple]) -> list[tuple[int, str]]:
        execute = self.cluster.execute(f"app={name}", NAMESPACE, "curl")
        replies = []
        for start in range(0, len(requests), BATCH):
            replies += pod_curl.send(execute, requests[start : start + BATCH], '{"http_code":"%{http_code}"}')
        return [(int(about["http_code"]), body) for about, body in replies]

    def _tcp_pair(self, asked: Asked, reply: tuple[int, str], about: Call, found: list[dict]) -> Pair:
        call = replace(about, port=str(FIRST + asked.case), remote_ip=about.source_ip)
        verdict = self._decided(found, RAW_LABELS, call)
        return Pair(asked, reply[0] == 200, verdict.allowed, verdict.unknown, f"TCP {reply[0]}")

    def _decided(self, found: list[dict], labels: dict[str, str], call: Call) -> evaluator.Verdict:
        rules = policies.applying(found, policies.RULES, NAMESPACE, labels, self.mesh)
        return evaluator.decide(rules, call, self.mesh)

    def _pair(
        self, asked: Asked, headers: dict[str, str], reply: tuple[int, str], about: Call, found: list[dict]
    ) -> Pair:
        status, body = reply
        refused = status == 401 or (status == 403 and body.strip() in REFUSALS)
        path = self._path(asked, headers)
        sent = {"host": asked.host, **_sent(headers)}
        rules = authentication.rules([self.tokens()])
        outcome = authentication.authenticate(rules, asked.method, path, sent, lambda *_: asked.good, time.time())
        if outcome.error:
            return Pair(asked, not refused, False, (), f"{status} {body[:60]}")
        call = replace(about, claims=outcome.claims, host=asked.host, method=asked.method, path=path,
                       headers=outcome.headers, remote_ip=_remote(sent, about.source_ip))  # fmt: skip
        verdict = self._decided(found, LABELS, call)
        return Pair(asked, not refused, verdict.allowed, verdict.unknown, f"{status} {body[:60]}")

    def _names(self) -> dict:
        """The other hosts of the workload: without this, a sidecar would send their requests in plain text."""
        port = {"number": 8000, "name": "http", "protocol": "HTTP", "targetPort": 8080}
        spec = {"hosts": ["web.example", "api.web.example"], "location": "MESH_INTERNAL", "ports": [port],
                "resolution": "STATIC", "workloadSelector": {"labels": LABELS}}  # fmt: skip
        return self._object("ServiceEntry", "names", spec, NETWORKING)

    def _fresh(self) -> list[dict]:
        """A new connection for each request: one that is open keeps the policies of the time when it was made."""
        policy = {"connectionPool": {"http": {"maxRequestsPerConnection": 1}}}
        hosts = {"own": f"{APP}.{NAMESPACE}.svc.cluster.local", "name": "web.example", "api": "api.web.example"}
        return [
            self._object("DestinationRule", name, {"host": host, "trafficPolicy": policy}, NETWORKING)
            for name, host in hosts.items()
        ]

    def _ingress(self) -> dict:
        ports = [{"port": {"number": number, "name": f"tcp-{number}", "protocol": "TCP"},
                  "defaultEndpoint": "127.0.0.1:8080"} for number in _ports()]  # fmt: skip
        return self._object("Sidecar", RAW, {"workloadSelector": {"labels": RAW_LABELS}, "ingress": ports}, NETWORKING)

    def _policy(self, name: str, labels: dict, when: dict) -> dict:
        return self._object(
            "AuthorizationPolicy", name, {"selector": {"matchLabels": labels}, "rules": [{"when": [when]}]}
        )

    def _configure(self, stated: str) -> None:
        metadata = {"name": "istio", "namespace": ISTIO_SYSTEM}
        self._apply([{"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"mesh": stated}}])

    def _object(self, kind: str, name: str, spec: dict, api: str = policies.API) -> dict:
        metadata = {"name": name, "namespace": NAMESPACE}
        return {"apiVersion": api, "kind": kind, "metadata": metadata, "spec": spec}

    def _apply(self, objects: list[dict]) -> None:
        for one in objects:
            self.cluster.apply(one)


def _ports() -> list[int]:
    return [*MARKS, *range(FIRST, FIRST + TCP_CASES)]


def _raw(port: int) -> str:
    return f"http://{RAW}.{NAMESPACE}:{port}"


def _sent(headers: dict[str, str]) -> dict[str, str]:
    return {key: value for key, value in headers.items() if key != "?"}


def _remote(headers: dict[str, str], connection: str | None) -> str | None:
    """The client's address as a sidecar reads it: the last one in X-Forwarded-For, else the connection's."""
    last = headers.get("X-Forwarded-For", "").rpartition(",")[2].strip()
    try:
        return str(ipaddress.ip_address(last))
    except ValueError:
        return connection
