"""Everything known about one request: the answer, the proxies' access logs, the token, the policies, the keys."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from lib.crypto import jwt
from lib.diagnose import jwks
from lib.diagnose.authorizers import Authorizer
from lib.diagnose.pods import WAYPOINT, Workload
from lib.http_client import Answer
from lib.istio import access_log, authentication, policies, routes, sidecars
from lib.istio.mesh import Mesh

KEPT_HEADERS = ("alg", "kid")
KEPT_CLAIMS = ("iss", "aud", "azp", "sub", "typ", "iat", "nbf", "exp")
BEARER = "header Authorization"  # where a token is usually sent, as lib.istio.authentication.places names it


@dataclass(frozen=True)
class Token:
    """The public part of a token: its header and claims; `problem` says what was sent if it was not a token.

    `place` is where the request carries it, as lib.istio.authentication.places names the places.
    """

    header: Mapping = field(default_factory=dict)
    claims: Mapping = field(default_factory=dict)
    problem: str = ""
    place: str = BEARER


@dataclass(frozen=True)
class Evidence:
    """One request, and what was known about it a moment later.

    `skew` is the proxy's clock minus this machine's, in seconds. `headers` are what the client sent, by lower-case
    names. `secrets` must not be shown. `log_problem` says why no access log has the request, "" if one has.
    `istiod_since` is when istiod last became available, in seconds since 1970, 0 if that is not known.
    `direct` is a request to a pod's own address. `rejected` is why the guard's Envoy refuses istiod's configuration.
    If the request is a callback: `untrusted` says whether a gateway refused a server's certificate meanwhile, and
    `login_log` has what oauth2-proxy wrote about it.
    """

    url: str
    host: str
    path: str
    method: str
    answer: Answer
    token: Token | None = None
    from_inside: bool = False
    caller: Workload | None = None
    gateway: Workload | None = None
    workload: Workload | None = None
    service: Mapping | None = None
    port: Mapping = field(default_factory=dict)
    route: routes.Route | None = None
    hosts_served: bool = True
    way_known: bool = True
    gateway_hop: access_log.Hop | None = None
    sidecar_hop: access_log.Hop | None = None
    caller_hop: access_log.Hop | None = None
    policies: Sequence[Mapping] = ()
    workloads: Sequence[Mapping] = ()
    gateways: Sequence[Mapping] = ()
    virtuals: Sequence[Mapping] = ()
    destination_rule: Mapping | None = None
    keys: jwks.Keys = field(default_factory=jwks.Keys)
    authorizers: Sequence[Authorizer] = ()
    mesh: Mesh = field(default_factory=Mesh)
    istiod_ready: bool = True
    istiod_since: float = 0.0
    now: float = 0.0
    skew: float | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    secrets: Sequence[str] = field(default=(), repr=False)
    log_problem: str = ""
    direct: bool = False
    sidecars: Sequence[Mapping] = ()
    rejected: str = ""
    untrusted: bool = False
    login_log: str = ""

    @property
    def claims(self) -> Mapping:
        """The token's claims, none without a token."""
        return self.token.claims if self.token else {}

    @property
    def header(self) -> Mapping:
        """The token's header, empty without a token."""
        return self.token.header if self.token else {}

    @property
    def shown_path(self) -> str:
        """The path without its query, which may hold a secret."""
        return self.path.partition("?")[0]

    @property
    def refuser(self) -> access_log.Hop | None:
        """The hop that answered: the one nearest to the application that logged the request."""
        return self.sidecar_hop or self.gateway_hop or self.caller_hop

    @property
    def details(self) -> str:
        """The details of the refuser's response code, "" if no hop logged the request."""
        return self.refuser.details if self.refuser else ""

    @property
    def guard(self) -> Workload | None:
        """The workload whose policies decided: the gateway if it answered itself, else the destination."""
        if not self.gateway:
            return self.workload
        stopped = self.gateway_hop and not self.sidecar_hop and not self.gateway_hop.upstream
        unlogged = not self.gateway_hop and not self.sidecar_hop and self.answered_at_the_edge
        return self.gateway if stopped or unlogged else self.workload

    @property
    def answered_at_the_edge(self) -> bool:
        """Whether the gateway answered, by the answer's headers: Envoy adds one to what comes from upstream."""
        headers = self.answer.headers
        return headers.get("server") == "istio-envoy" and "x-envoy-upstream-service-time" not in headers

    def rules(self, kind: str, workload: Workload | None = None) -> list[Mapping]:
        """Return the policies of a kind that are in force for a workload; the default is the guard."""
        about = workload or self.guard
        return policies.applying(self.policies, kind, about.namespace, about.labels, self.mesh) if about else []

    def policy(self, kind: str, name: str) -> Mapping:
        """Return the policy with this namespace/name; {} if there is none."""
        return next((one for one in self.policies if one["kind"] == kind and policies.name(one) == name), {})

    def set_aside(self, workload: Workload | None = None) -> list[tuple[Mapping, str]]:
        """Return the policies that are meant for a workload and have no effect, each with why."""
        about = workload or self.guard
        if not about:
            return []
        meant = [one for one in self.policies if policies.applies(one, about.namespace, about.labels, self.mesh)]
        return [(one, why) for one in meant if (why := policies.set_aside(one, self.mesh, about.labels))]

    @property
    def jwt_rules(self) -> list[tuple[str, Mapping]]:
        """The JWT rules in force at the guard, each with its policy's name."""
        found = self.rules(policies.REQUESTS)
        return [(policies.name(one), rule) for one in found for rule in one["spec"].get("jwtRules", [])]

    @property
    def jwt_rule(self) -> Mapping | None:
        """The JWT rule for the token's issuer, None if there is none."""
        rules = (rule for _, rule in self.jwt_rules if self.token and rule.get("issuer") == self.claims.get("iss"))
        return next(rules, None)

    @property
    def token_read(self) -> bool:
        """Whether the rule for the token's issuer looks for tokens where the request carries it."""
        return bool(self.token and self.jwt_rule and self.token.place in authentication.places(self.jwt_rule))

    @property
    def workload_port(self) -> str:
        """The number of the pod's port, which a policy's ports mean; "" if it is not known."""
        if self.guard is self.gateway or not self.port:
            return ""
        return self.destination_port

    @property
    def destination_port(self) -> str:
        """The number of the destination pod's port, "" if it is not known."""
        pods = [pod for pod in self.workloads if self.workload and pod["metadata"]["name"] == self.workload.pod]
        return str(routes.target(self.port, pods) or "") if self.port else ""

    @property
    def waypoint(self) -> str:
        """The waypoint before the destination, as name or namespace/name; "" for none."""
        labels = (self.service or {}).get("metadata", {}).get("labels") or {}
        stated = labels.get(WAYPOINT, self.workload.waypoint if self.workload else "")
        return "" if stated == "none" else stated

    @property
    def service_host(self) -> str:
        """The Service's name in full, "" without a Service."""
        about = self.service["metadata"] if self.service else None
        return f"{about['name']}.{about['namespace']}{routes.CLUSTER_DOMAIN}" if about else ""

    @property
    def hidden_by(self) -> Mapping | None:
        """The Sidecar (the resource) that hides the destination from the caller's proxy."""
        if not self.caller or not self.caller.proxied or not self.service:
            return None
        caller, home = (self.caller.namespace, self.caller.labels), self.service["metadata"]["namespace"]
        return sidecars.hiding(self.sidecars, self.mesh.root, caller, self.service_host, home)

    def mutual_tls(self) -> tuple[str, str]:
        """Return the destination's mutual TLS mode and the PeerAuthentication that sets it, "" for the default."""
        if not self.workload:
            return "", ""
        place = self.workload.namespace, self.workload.labels
        return policies.mode(self.policies, *place, self.destination_port, self.mesh)

    def peer(self, principal: str) -> str | None:
        """Return the principal that the destination sees of a caller, None if it refuses the connection."""
        if not self.workload:
            return principal
        place = self.workload.namespace, self.workload.labels
        return policies.peer(self.policies, principal, *place, self.destination_port, self.mesh)

    def principal(self, workload: Workload | None) -> str:
        """Return a workload's principal, "" if it has no proxy."""
        if not workload or not (workload.proxied or workload.ambient):
            return ""
        return f"{self.mesh.trust_domain}/ns/{workload.namespace}/sa/{workload.account}"


def describe_token(token: str | None, place: str = BEARER) -> Token | None:
    """Return the public part of a token, None without one."""
    if token is None:
        return None
    if token.count(".") != 2:
        what = f'the word "{token}"' if token in ("null", "None", "undefined") else "opaque" if token else "empty"
        what = "encrypted (JWE)" if token.count(".") == 4 else what  # RFC 7516, section 3.1
        return Token(problem=f"{what}, {len(token)} characters with {token.count('.')} dots", place=place)
    try:
        return Token(jwt.header(token), jwt.claims(token), place=place)
    except ValueError as error:
        return Token(problem=f"three parts that cannot be read ({type(error).__name__})", place=place)


def token_line(evidence: Evidence) -> str:
    """Return the parts of the token's header and claims that refusals depend on, as one line of JSON."""
    header = {key: value for key, value in evidence.header.items() if key in KEPT_HEADERS}
    return json.dumps({**header, **{key: evidence.claims[key] for key in KEPT_CLAIMS if key in evidence.claims}})
