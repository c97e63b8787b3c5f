"""Random policies for two workloads and a gateway, and what their Envoys answer to random requests."""

from __future__ import annotations

import ipaddress
import time
from dataclasses import dataclass, replace
from random import Random

import yaml

from lib.errors import RunbookError
from lib.istio import authentication, evaluator, mesh, policies
from lib.istio.attributes import Call
from lib.istio.extension_providers import AUTHORIZER
from lib.names import ISTIO_SYSTEM
from lib.polling import until, wait
from lib.probes.tokens import forge
from lib.probes.tokens.keys import SigningKey
from tests.support import evaluated_objects, pod_curl
from tests.support.evaluated_objects import (
    APP,
    BY_HTTP,
    CALLER,
    GATE,
    GATE_PORT,
    GONE,
    LABELS,
    MARKS,
    NAMESPACE,
    OUTSIDER,
    PERMISSIVE,
    RAW,
    RAW_LABELS,
    RAW_PORTS,
    TCP,
    WEB,
    manifest,
)
from tests.support.random_peers import peers
from tests.support.random_policies import ABSENT, ALIAS, HEADER, Asked, Place, Policies

CALLERS = ((True, CALLER), (False, OUTSIDER))  # with a sidecar, without one
URL = f"http://{APP}.{NAMESPACE}:8000"
# A second provider makes Istio refuse all that either would be asked about; what the last two answer is not known
PROVIDERS = ((ABSENT,), (GONE,), (ABSENT, AUTHORIZER), (AUTHORIZER,), (BY_HTTP,))
BATCH = 100  # requests in one run of curl
PATIENCE = 120  # seconds until the sidecar has new policies
SETTLING = 60  # seconds until all proxies know new policies and modes
CLOSED = 503, "upstream connect error"  # of the caller's own sidecar, if the workload's closes the connection
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
        self.gate = evaluated_objects.gate(run)
        self.peers = self.cluster.items(policies.API, policies.PEERS, ISTIO_SYSTEM)  # those of the mesh before
        self.applied: set[tuple[str, str, str]] = set()  # kind, name and namespace of the policies that were drawn

    def build(self) -> None:
        """Give the mesh an alias and more authorizers, create the workloads, and wait until they are ready."""
        stated = yaml.safe_load(self.stated)
        providers = [*stated.get("extensionProviders", []), *evaluated_objects.PROVIDERS]
        self._configure(yaml.safe_dump(stated | {"trustDomainAliases": [ALIAS], "extensionProviders": providers}))
        for one in self.peers:
            self.cluster.delete(policies.API, policies.PEERS, one["metadata"]["name"], ISTIO_SYSTEM)
        tokens = [evaluated_objects.tokens(place, self.key.public) for place in (WEB, self.gate)]
        made = [*evaluated_objects.workloads(self.run), *evaluated_objects.ways(), *tokens]
        self._apply([*made, *evaluated_objects.gateway(self.gate)])
        for name in (APP, RAW, CALLER, OUTSIDER, *([f"{GATE}-istio"] if self.gate.gateway else [])):
            self.cluster.wait_rolled_out("Deployment", name, NAMESPACE, self.run.params.deadline)
        self.mesh = mesh.read(self.cluster)

    def close(self) -> None:
        """Delete the namespace and the policies in others, and restore what the mesh had."""
        self._configure(self.stated)
        self._replace_drawn([])
        self.cluster.delete(policies.API, policies.REQUESTS, self.gate.name, self.gate.namespace)
        self._apply([manifest(policies.PEERS, one["metadata"]["name"], one["spec"], namespace=ISTIO_SYSTEM)
                     for one in self.peers])  # fmt: skip
        self.cluster.delete("v1", "Namespace", NAMESPACE)

    def pairs(self, seed: int, cases: tuple[int, int, int], each: int, modes: int) -> list[Pair]:
        """Draw cases, apply them, send `each` requests to each, and return what came and what was expected.

        Args:
            seed: Of what is drawn.
            cases: How many cases to draw for `web`, `raw` and the gateway.
            each: Requests to a case.
            modes: How often to draw PeerAuthentications for the same cases, with one request to each port.
        """
        random = Random(seed)
        pods = {name: self.cluster.pod(f"app={name}", NAMESPACE) for name in (APP, RAW, CALLER, OUTSIDER)}
        selector = ",".join(f"{key}={value}" for key, value in self.gate.labels.items())
        pods[GATE] = self.cluster.pod(selector, self.gate.namespace)
        self.ips = {name: pod["status"]["podIP"] for name, pod in pods.items()}
        self.account = pods[CALLER]["spec"]["serviceAccountName"]
        draws = [
            Policies(random, place, NAMESPACE, self.account, {"caller": self.ips[CALLER], "web": self.ips[place.name]},
                     PROVIDERS[(seed + number) % len(PROVIDERS)])
            for number, place in enumerate((WEB, TCP, self.gate))
        ]  # fmt: skip
        numbered = [(draw, case) for draw, count in zip(draws, cases, strict=True) for case in range(count)]
        self._replace_drawn([PERMISSIVE])
        found = self._replace([one for draw, case in numbered for one in draw.case(case)], seed)
        made = self._settled([(draw.place, draw.request(case)) for draw, case in numbered for _ in range(each)], found)
        ports = [(LABELS, [WEB.port]), (RAW_LABELS, RAW_PORTS)]
        some = [(place, random.choice([one for one in numbered if one[0].place is place])) for place in (WEB, WEB)]
        some += [(TCP, one) for one in numbered if one[0].place is TCP]
        for number in range(modes):
            self._replace_drawn(peers(random, NAMESPACE, ports))
            marks = self._mark(seed, number + 1)
            asked = [(place, replace(draw.request(case), sidecar=sidecar))
                     for sidecar, _ in CALLERS for place, (draw, case) in some]  # fmt: skip
            made += self._settled(asked, [*found, *marks])
        return made

    def _settled(self, asked: list[tuple[Place, Asked]], found: list[dict]) -> list[Pair]:
        """Ask until Envoy and the evaluator agree twice, or the proxies had time to follow; return the pairs."""
        return until(lambda: self._answered(asked, found), _agree, streak=2, deadline=SETTLING).value

    def _answered(self, asked: list[tuple[Place, Asked]], found: list[dict]) -> list[Pair]:
        modes = self.cluster.items(policies.API, policies.PEERS)
        made = []
        for sidecar, name in CALLERS:
            mine = [(place, one, self._written(one)) for place, one in asked if one.sidecar is sidecar]
            replies = self._send(name, [self._request(*one) for one in mine])
            for (place, one, headers), reply in zip(mine, replies, strict=True):
                made.append(self._pair(place, one, headers, reply, self._about(place, one, name, modes), found))
        return made

    def _request(self, place: Place, asked: Asked, headers: dict[str, str]) -> tuple:
        if place.tcp:
            return _raw(int(place.port_of(asked.case))), "GET", "/status/200", {}
        url = URL if place is WEB else self._gate_url()
        return url, asked.method, self._path(asked, headers), {"Host": asked.host, **_sent(headers)}

    def _gate_url(self) -> str:
        return f"http://{self.ips[GATE]}:{GATE_PORT}"

    def _about(self, place: Place, asked: Asked, name: str, modes: list[dict]) -> Call | None:
        """Return what a place sees of a caller's connection, None if it refuses it."""
        port, principal = place.port_of(asked.case), ""
        if asked.sidecar and place is not self.gate:  # no sidecar knows the gateway's own port
            principal = f"{self.mesh.trust_domain}/ns/{NAMESPACE}/sa/{self.account}"
        if place is not self.gate:
            principal = policies.peer(modes, principal, place.namespace, place.labels, port, self.mesh)
        if principal is None:
            return None
        return Call(principal=principal, source_ip=self.ips[name], destination_ip=self.ips[place.name], port=port,
                    remote_ip=self.ips[name], tcp=place.tcp)  # fmt: skip

    def _replace_drawn(self, drawn: list[dict], kind: str = policies.PEERS) -> list[dict]:
        """Put policies in the place of those of their kind that were drawn before; return those that Istio took."""
        found = []
        for one in drawn:
            try:
                self._apply([one])
                found.append(one)
            except RunbookError as error:
                assert "admission webhook" in str(error), error
        keys = {(one["kind"], one["metadata"]["name"], one["metadata"]["namespace"]) for one in found}
        old = {key for key in self.applied if key[0] == kind} if drawn else self.applied
        for key in old - keys:
            self.cluster.delete(policies.API, *key)
        self.applied = (self.applied - old) | keys
        return found

    def _replace(self, drawn: list[dict], seed: int) -> list[dict]:
        """Put AuthorizationPolicies in the place of those before; return those that Istio took, with the marks."""
        found = self._replace_drawn(drawn, policies.RULES)
        return [*found, *self._mark(seed)]

    def _mark(self, seed: int, number: int = 0) -> list[dict]:
        """Apply policies that show whether the proxies have all that was applied before; return them, once seen."""
        name, port = f"mark-{seed}-{number}", MARKS[seed % 2]
        mark = {"key": "request.headers[x-case]", "values": [name]}
        made = [self._policy("mark-gate", self.gate, mark)]
        asked = [(self._gate_url(), "GET", "/status/200", {"X-Case": case}) for case in (name, "mark-before")]
        if not number:  # later the workloads may refuse all connections
            made += [self._policy("mark-web", WEB, mark),
                     self._policy("mark-raw", TCP, {"key": "destination.port", "values": [str(port)]})]  # fmt: skip
            asked += [(URL, "GET", "/status/200", {"X-Case": case}) for case in (name, "mark-before")]
            asked += [(_raw(one), "GET", "/status/200", {}) for one in (port, sum(MARKS) - port)]
        self._apply(made)
        self.applied |= {(one["kind"], one["metadata"]["name"], one["metadata"]["namespace"]) for one in made}

        def statuses() -> list[list[int]]:
            return [[status for status, _ in self._send(name, asked)] for _, name in CALLERS]

        wait("the proxies have the policies", statuses, lambda found: all(map(_marked, found)), deadline=PATIENCE,
             streak=3)  # fmt: skip
        return made

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

    def _pair(self, place: Place, asked: Asked, headers: dict[str, str], reply: tuple[int, str], call: Call | None,
              found: list[dict]) -> Pair:  # fmt: skip
        status, body = reply
        refused = status in (0, 401) or (status == 403 and body.strip() in REFUSALS) or (status, body[:22]) == CLOSED
        answer = f"{place.name} {status} {body[:60]}"
        if call is None:
            return Pair(asked, not refused, False, (), answer)
        if not place.tcp:
            path = self._path(asked, headers)
            sent = {"host": asked.host, **_sent(headers)}
            if place is self.gate:  # Envoy adds the client's address, as a gateway knows it
                sent["X-Forwarded-For"] = ",".join(filter(None, (sent.get("X-Forwarded-For"), call.source_ip)))
            rules = authentication.rules([evaluated_objects.tokens(place, self.key.public)])
            outcome = authentication.authenticate(rules, asked.method, path, sent, lambda *_: asked.good, time.time())
            if outcome.error:
                return Pair(asked, not refused, False, (), answer)
            call = replace(call, claims=outcome.claims, host=asked.host, method=asked.method, path=path,
                           headers=outcome.headers, unread=sent, remote_ip=_remote(sent, call.source_ip))  # fmt: skip
        rules = policies.applying(found, policies.RULES, place.namespace, place.labels, self.mesh)
        verdict = evaluator.decide(rules, call, self.mesh)
        return Pair(asked, not refused, verdict.allowed, verdict.unknown, answer)

    def _policy(self, name: str, place: Place, when: dict) -> dict:
        spec = {"selector": {"matchLabels": place.labels}, "rules": [{"when": [when]}]}
        return manifest(policies.RULES, name, spec, namespace=place.namespace)

    def _configure(self, stated: str) -> None:
        metadata = {"name": "istio", "namespace": ISTIO_SYSTEM}
        self._apply([{"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"mesh": stated}}])

    def _apply(self, objects: list[dict]) -> None:
        for one in objects:
            self.cluster.apply(one)


def _agree(pairs: list[Pair]) -> bool:
    return all(one.evaluator in (None, one.envoy) for one in pairs)


def _marked(statuses: list[int]) -> bool:
    """Return whether each second request, before which one with a mark passed, was refused."""
    passed = all(status in (200, 404, 500) for status in statuses[::2])  # a route without a backend answers 500
    return passed and statuses[1::2] in ([403], [403, 403, 0])


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
