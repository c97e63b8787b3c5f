"""Everything known about one request: the answer, the proxies' access logs, the token, the policies, the keys."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from lib.crypto import jwt
from lib.diagnose import jwks
from lib.diagnose.pods import Workload, application_container, find_caller, label_selector, probe_failure, workload_of
from lib.errors import RunbookError
from lib.http_client import Answer, over_exec, over_http
from lib.istio import access_log, installation, policies, routes
from lib.kubernetes.cluster import Cluster
from lib.polling import until

SINCE = 20  # seconds of access log to read
PATIENCE = 3.0  # seconds until Envoy has written its line
KEPT_HEADERS = ("alg", "kid")
KEPT_CLAIMS = ("iss", "aud", "azp", "sub", "typ", "iat", "nbf", "exp")


@dataclass(frozen=True)
class Token:
    """The public part of a token: its header and claims; `problem` says what was sent if it was not a token."""

    header: Mapping = field(default_factory=dict)
    claims: Mapping = field(default_factory=dict)
    problem: str = ""


@dataclass(frozen=True)
class Evidence:
    """One request, and what was known about it a moment later.

    `skew` is the proxy's clock minus this machine's, in seconds.
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
    gateway_hop: access_log.Hop | None = None
    sidecar_hop: access_log.Hop | None = None
    caller_hop: access_log.Hop | None = None
    policies: Sequence[Mapping] = ()
    workloads: Sequence[Mapping] = ()
    gateways: Sequence[Mapping] = ()
    virtuals: Sequence[Mapping] = ()
    destination_rule: Mapping | None = None
    keys: jwks.Keys = field(default_factory=jwks.Keys)
    trust_domain: str = "cluster.local"
    istiod_ready: bool = True
    now: float = 0.0
    skew: float | None = None

    @property
    def claims(self) -> Mapping:
        """The token's claims, none without a token."""
        return self.token.claims if self.token else {}

    @property
    def header(self) -> Mapping:
        """The token's header, empty without a token."""
        return self.token.header if self.token else {}

    @property
    def refuser(self) -> access_log.Hop | None:
        """The hop that answered: the one nearest to the application that logged the request."""
        return self.sidecar_hop or self.gateway_hop or self.caller_hop

    @property
    def guard(self) -> Workload | None:
        """The workload whose policies decided: the gateway if it answered itself, else the destination."""
        stopped = self.gateway_hop and not self.sidecar_hop and not self.gateway_hop.upstream
        return self.gateway if stopped and self.gateway else self.workload

    def rules(self, kind: str, workload: Workload | None = None) -> list[Mapping]:
        """Return the policies of a kind that are in force for a workload; the default is the guard."""
        about = workload or self.guard
        return policies.applying(self.policies, kind, about.namespace, about.labels) if about else []

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
    def workload_port(self) -> str:
        """The number of the pod's port, which a policy's ports mean; "" if it is not known."""
        if self.guard is self.gateway or not self.port:
            return ""
        pods = [pod for pod in self.workloads if self.workload and pod["metadata"]["name"] == self.workload.pod]
        return str(routes.target(self.port, pods) or "")

    def mutual_tls(self) -> tuple[str, str]:
        """Return the destination's mutual TLS mode and the PeerAuthentication that sets it, "" for the default."""
        if not self.workload:
            return "", ""
        return policies.mode(self.policies, self.workload.namespace, self.workload.labels, self.workload_port)

    def principal(self, workload: Workload | None) -> str:
        """Return a workload's principal, "" if it has no proxy."""
        if not workload or not workload.proxied:
            return ""
        return f"{self.trust_domain}/ns/{workload.namespace}/sa/{workload.account}"


def collect(
    cluster: Cluster,
    url: str,
    token: str | None = None,
    caller: str = "",
    host: str = "",
    method: str = "GET",
    to: str = "",
) -> Evidence:
    """Send the request once and return the evidence; lib.diagnose.ask describes the arguments."""
    label = f"why-{time.time_ns():x}"
    pods = cluster.items("v1", "Pod")
    inside = find_caller(pods, caller) if caller else None
    parts = urlsplit(url)
    options: dict[str, Any] = {"token": token, "host": host or None, "method": method, "agent": label}
    if inside:
        container = application_container(inside, pods)
        execute = cluster.execute(label_selector(inside.labels), inside.namespace, container)
        answer = over_exec(execute, url, **options)
    else:
        answer = over_http(url, to=to, **options)
    named = host or (parts.netloc if to else "")
    target = _target(cluster, pods, to or parts.hostname or "", parts.port, named, parts.path or "/", inside)
    evidence = Evidence(
        url=url,
        host=host or parts.netloc,
        path=(parts.path or "/") + (f"?{parts.query}" if parts.query else ""),
        method=method,
        answer=answer,
        token=describe_token(token),
        from_inside=bool(inside),
        caller=inside,
        policies=[one for kind in policies.KINDS for one in cluster.items(policies.API, kind)],
        workloads=pods,
        trust_domain=installation.trust_domain(cluster),
        istiod_ready=_istiod_ready(cluster),
        now=time.time(),
        skew=_skew(answer),
        **target,
    )
    evidence = replace(evidence, **_hops(cluster, label, evidence))
    return replace(evidence, keys=_keys(cluster, evidence))


def describe_token(token: str | None) -> Token | None:
    """Return the public part of a token, None without one."""
    if token is None:
        return None
    if token.count(".") != 2:
        what = f'the word "{token}"' if token in ("null", "None", "undefined") else "opaque" if token else "empty"
        return Token(problem=f"{what}, {len(token)} characters with {token.count('.')} dots")
    try:
        return Token(jwt.header(token), jwt.claims(token))
    except ValueError as error:
        return Token(problem=f"three parts that cannot be read ({type(error).__name__})")


def token_line(evidence: Evidence) -> str:
    """Return the parts of the token's header and claims that refusals depend on, as one line of JSON."""
    header = {key: value for key, value in evidence.header.items() if key in KEPT_HEADERS}
    return json.dumps({**header, **{key: evidence.claims[key] for key in KEPT_CLAIMS if key in evidence.claims}})


def _target(
    cluster: Cluster,
    pods: Sequence[Mapping],
    address: str,
    port: int | None,
    host: str,
    path: str,
    inside: Workload | None,
) -> dict[str, Any]:
    """Return the fields of Evidence about the destination: Service, route, workloads."""
    services = cluster.items("v1", "Service")
    rules = cluster.items(routes.API, "DestinationRule")
    if inside:
        service = routes.by_host(services, address, inside.namespace) or routes.by_address(services, address)
        return _service_target(cluster, service, port, pods, rules, inside.namespace)
    # A DNS name that is no Service's address leads to the mesh's own gateway
    own = routes.by_host(services, installation.GATEWAY, installation.ROOT_NAMESPACE)
    front = routes.by_address(services, address) or own
    gateway = workload_of(routes.selected(pods, front)) if front else None
    if not gateway:
        return _service_target(cluster, None, port, pods, rules, "")
    gateways = routes.gateways_of(cluster.items(routes.API, "Gateway"), gateway.labels)
    name = host or address
    virtuals = routes.routes(cluster.items(routes.API, "VirtualService"), gateways, name)
    route = next((found for one in virtuals if (found := routes.route(one, path))), None)
    service = routes.by_host(services, route.destination, route.namespace) if route else None
    return {
        **_service_target(cluster, service, route.port if route else None, pods, rules, gateway.namespace),
        "hosts_served": routes.serves(gateways, name),
        "gateways": gateways,
        "virtuals": virtuals,
        "gateway": gateway,
        "route": route,
    }


def _service_target(
    cluster: Cluster,
    service: Mapping | None,
    port: int | None,
    pods: Sequence[Mapping],
    rules: Sequence[Mapping],
    caller: str,
) -> dict[str, Any]:
    """Return the fields of Evidence about a Service; `caller` is the caller's namespace."""
    if not service:
        return {"service": None}
    behind = routes.selected(pods, service)
    return {
        "service": service,
        "port": routes.port_of(service, port),
        "workload": workload_of(behind, probe_failure(cluster, behind)),
        "destination_rule": routes.rule_for(rules, service, caller),
    }


def _hops(cluster: Cluster, label: str, evidence: Evidence) -> dict[str, Any]:
    """Read the proxies' access logs until the request is in them, or Envoy had time to write it."""
    places = {"gateway_hop": evidence.gateway, "sidecar_hop": evidence.workload, "caller_hop": evidence.caller}
    proxied = {name: one for name, one in places.items() if one and one.proxied}

    def logged() -> dict[str, access_log.Hop]:
        return {name: hop for name, one in proxied.items() if (hop := _hop(cluster, one, label))}

    def complete(hops: dict[str, access_log.Hop]) -> bool:
        first = hops.get("gateway_hop") or hops.get("caller_hop")
        return "sidecar_hop" in hops or bool(first and (not first.upstream or "sidecar_hop" not in proxied))

    return until(logged, complete, deadline=PATIENCE if proxied else 0.0).value or {}


def _hop(cluster: Cluster, workload: Workload, label: str) -> access_log.Hop | None:
    with suppress(RunbookError):
        hops = access_log.fetch(cluster, label_selector(workload.labels), workload.namespace, SINCE)
        return hops.get(label)
    return None


def _keys(cluster: Cluster, evidence: Evidence) -> jwks.Keys:
    """Return the keys of the rule for the token's issuer, or of the only rule in force."""
    rules = [rule for _, rule in evidence.jwt_rules]
    rule = evidence.jwt_rule or (rules[0] if len(rules) == 1 else None)
    guard = evidence.guard
    if not rule or not evidence.token or evidence.answer.status not in (401, 403) or not guard:
        return jwks.Keys()
    execute = None
    if guard.proxied and guard.ready:
        with suppress(RunbookError):
            execute = cluster.execute(label_selector(guard.labels), guard.namespace, access_log.PROXY)
    return jwks.collect(cluster, rule, execute)


def _istiod_ready(cluster: Cluster) -> bool:
    found = cluster.find("apps/v1", "Deployment", "istiod", installation.ROOT_NAMESPACE)
    return found is None or found.get("status", {}).get("availableReplicas", 0) > 0


def _skew(answer: Answer) -> float | None:
    with suppress(ValueError, KeyError):
        return round(parsedate_to_datetime(answer.headers["date"]).timestamp() - time.time(), 1)
    return None
