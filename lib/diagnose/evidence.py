"""What there is to know about one refused request: the answer, the logs of both proxies, the token, policies, keys."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from lib.crypto import jwt
from lib.diagnose import jwks
from lib.diagnose import pods as who
from lib.diagnose.pods import Workload
from lib.errors import RunbookError
from lib.http_client import Answer, over_exec, over_http
from lib.istio import access_log, installation, policies, routes
from lib.kubernetes.cluster import Cluster
from lib.polling import until

SINCE = 20  # seconds of access log that are read
PATIENCE = 3.0  # seconds until Envoy has written its line


@dataclass(frozen=True)
class Token:
    """What may be told of a token: its header and claims, or what it is instead of one."""

    header: Mapping = field(default_factory=dict)
    claims: Mapping = field(default_factory=dict)
    trouble: str = ""


@dataclass(frozen=True)
class Scene:
    """One request, with what there was to know about it a moment later; `skew` is the proxy's clock less ours, in s."""

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
    def refuser(self) -> access_log.Hop | None:
        """The hop whose answer it was: the nearest to the application that wrote of the request."""
        return self.sidecar_hop or self.gateway_hop or self.caller_hop

    @property
    def guard(self) -> Workload | None:
        """The workload whose policies refused: the gateway where it answered itself, else the one that was asked."""
        stopped = self.gateway_hop and not self.sidecar_hop and not self.gateway_hop.upstream
        return self.gateway if stopped and self.gateway else self.workload

    def rules(self, kind: str, workload: Workload | None = None) -> list[Mapping]:
        """Return the policies of a kind that are in force for a workload, the refusing one without a name."""
        about = workload or self.guard
        return policies.applying(self.policies, kind, about.namespace, about.labels) if about else []

    @property
    def jwt_rules(self) -> list[tuple[str, Mapping]]:
        """The rules for tokens that are in force where it was refused, each with its policy's name."""
        found = self.rules(policies.REQUESTS)
        return [(policies.name(one), rule) for one in found for rule in one["spec"].get("jwtRules", [])]

    def principal(self, workload: Workload | None) -> str:
        """Return a workload's principal, "" of one without a proxy."""
        if not workload or not workload.proxied:
            return ""
        return f"{self.trust_domain}/ns/{workload.namespace}/sa/{workload.account}"


def ask(
    cluster: Cluster,
    url: str,
    token: str | None = None,
    caller: str = "",
    host: str = "",
    method: str = "GET",
    to: str = "",
) -> Scene:
    """Send the request once, from here or from a pod (`caller` is its app label, or namespace/app); return the scene.

    RunbookError where the caller's pod is not there. The token is in nothing that is returned.
    """
    label = f"why-{time.time_ns():x}"
    pods = cluster.items("v1", "Pod")
    inside = who.caller(pods, caller) if caller else None
    place = urlsplit(url)
    options = {"token": token, "host": host or None, "method": method, "agent": label}
    if inside:
        name = who.container(inside, pods)
        execute = cluster.execute(who.selector(inside.labels), inside.namespace, name)
        answer = over_exec(execute, url, **options)
    else:
        answer = over_http(url, to=to, **options)
    named = host or (place.netloc if to else "")
    facts = _placed(cluster, pods, to or place.hostname or "", place.port, named, place.path or "/", inside)
    scene = Scene(
        url=url,
        host=host or place.netloc,
        path=(place.path or "/") + (f"?{place.query}" if place.query else ""),
        method=method,
        answer=answer,
        token=read(token),
        from_inside=bool(inside),
        caller=inside,
        policies=[one for kind in policies.KINDS for one in cluster.items(policies.API, kind)],
        workloads=pods,
        trust_domain=installation.trust_domain(cluster),
        istiod_ready=_istiod_ready(cluster),
        now=time.time(),
        skew=_skew(answer),
        **facts,
    )
    scene = replace(scene, **_hops(cluster, label, scene))
    return replace(scene, keys=_keys(cluster, scene))


def read(token: str | None) -> Token | None:
    """Return what may be told of a token, None without one."""
    if token is None:
        return None
    if token.count(".") != 2:
        what = f'the word "{token}"' if token in ("null", "None", "undefined") else "empty" if not token else "opaque"
        return Token(trouble=f"{what}, {len(token)} characters with {token.count('.')} dots")
    try:
        return Token(jwt.header(token), jwt.claims(token))
    except ValueError as error:
        return Token(trouble=f"three parts that cannot be read ({type(error).__name__})")


def _placed(cluster: Cluster, pods, address: str, number: int | None, host: str, path: str, inside) -> dict:
    """Return which Service, route and workloads the request is about."""
    services = cluster.items("v1", "Service")
    rules = cluster.items(routes.API, "DestinationRule")
    if inside:
        service = routes.by_host(services, address, inside.namespace) or routes.by_address(services, address)
        return _target(cluster, service, number, pods, rules, inside.namespace)
    # A name that no Service has as its address is one of DNS, and leads to the mesh's own gateway
    front = routes.by_address(services, address) or routes.by_host(
        services, installation.GATEWAY, installation.ROOT_NAMESPACE
    )
    at = routes.selected(pods, front) if front else []
    gateway = who.workload(at)
    if not gateway:
        return _target(cluster, None, number, pods, rules, "")
    bound = routes.gateways_of(cluster.items(routes.API, "Gateway"), gateway.labels)
    virtuals = cluster.items(routes.API, "VirtualService")
    name = host or address
    fitting = routes.routes(virtuals, bound, name)
    way = next((found for one in fitting if (found := routes.route(one, path))), None)
    service = routes.by_host(services, way.destination, way.namespace) if way else None
    about = _target(cluster, service, way.port if way else None, pods, rules, gateway.namespace)
    served = {"hosts_served": routes.serves(bound, name), "gateways": bound, "virtuals": fitting}
    return {**about, **served, "gateway": gateway, "route": way}


def _target(cluster: Cluster, service, number: int | None, pods, rules, caller: str) -> dict:
    if not service:
        return {"service": None}
    behind = routes.selected(pods, service)
    return {
        "service": service,
        "port": routes.port_of(service, number),
        "workload": who.workload(behind, who.complaint(cluster, behind)),
        "destination_rule": routes.rule_for(rules, service, caller),
    }


def _hops(cluster: Cluster, label: str, scene: Scene) -> dict:
    """Read the proxies' access logs until the request stands in one of them, as long as Envoy keeps lines back."""
    places = {"gateway_hop": scene.gateway, "sidecar_hop": scene.workload, "caller_hop": scene.caller}
    proxied = {name: one for name, one in places.items() if one and one.proxied}

    def found() -> dict:
        return {name: hop for name, one in proxied.items() if (hop := _hop(cluster, one, label))}

    def settled(hops: dict) -> bool:
        first = hops.get("gateway_hop") or hops.get("caller_hop")
        return "sidecar_hop" in hops or bool(first and (not first.upstream or "sidecar_hop" not in proxied))

    return until(found, settled, deadline=PATIENCE if proxied else 0.0).value or {}


def _hop(cluster: Cluster, one: Workload, label: str) -> access_log.Hop | None:
    with suppress(RunbookError):
        found = access_log.fetch(cluster, who.selector(one.labels), one.namespace, SINCE)
        return found.get(label)
    return None


def _keys(cluster: Cluster, scene: Scene) -> jwks.Keys:
    """Return the keys in question: those of the rule for the token's issuer, or of the only rule there is."""
    said = scene.token.claims.get("iss") if scene.token else None
    rules = [rule for _, rule in scene.jwt_rules]
    rule = next((one for one in rules if one.get("issuer") == said), rules[0] if len(rules) == 1 else None)
    if not rule or not scene.token or scene.answer.status not in (401, 403) or not scene.guard:
        return jwks.Keys()
    execute = None
    if scene.guard.proxied and scene.guard.ready:
        with suppress(RunbookError):
            execute = cluster.execute(who.selector(scene.guard.labels), scene.guard.namespace, access_log.PROXY)
    return jwks.gather(cluster, rule, execute)


def _istiod_ready(cluster: Cluster) -> bool:
    found = cluster.find("apps/v1", "Deployment", "istiod", installation.ROOT_NAMESPACE)
    return found is None or found.get("status", {}).get("availableReplicas", 0) > 0


def _skew(answer: Answer) -> float | None:
    with suppress(ValueError, KeyError):
        return round(parsedate_to_datetime(answer.headers["date"]).timestamp() - time.time(), 1)
    return None


def plain(scene: Scene) -> str:
    """Return the token's header and claims as JSON on a line, those that refusals depend on."""
    kept = ("iss", "aud", "azp", "sub", "typ", "iat", "nbf", "exp")
    claims = {key: scene.token.claims[key] for key in kept if scene.token and key in scene.token.claims}
    return json.dumps({**{key: value for key, value in scene.token.header.items() if key in ("alg", "kid")}, **claims})
