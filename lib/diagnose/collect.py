"""Send the request once, and read from the cluster what it met: the way in, the proxies' logs, policies, keys."""

from __future__ import annotations

import math
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from lib import http_client
from lib.diagnose import authorization, authorizers, jwks, login
from lib.diagnose.evidence import Evidence, describe_token
from lib.diagnose.pods import (
    Workload,
    application_container,
    find_caller,
    istiod,
    label_selector,
    probe_failure,
    with_ambient,
    workload_of,
)
from lib.diagnose.request import Request, carried, secrets, shown
from lib.errors import RunbookError
from lib.http_client import Answer, over_exec, over_http
from lib.istio import access_log, destination_rules, gateway_api, matching, mesh, policies, proxy, routes
from lib.kubernetes.cluster import Cluster
from lib.polling import until

SINCE = 20  # seconds of access log to read
PATIENCE = 3.0  # seconds until Envoy has written its line
LOG_OFF = "the proxies write no access log: set meshConfig.accessLogFile=/dev/stdout, or apply a Telemetry that logs"
LOG_STRANGE = "the proxies' access log has no line of this request in a format that `why` reads (%s)"

Resolve = Callable[[str], set[str]]
Send = Callable[..., Answer]


def addresses(host: str) -> set[str]:
    """Return the addresses that a name has in DNS, as this machine sees it."""
    with suppress(OSError, UnicodeError):
        return {str(entry[4][0]) for entry in socket.getaddrinfo(host, None)}
    return set()


def collect(
    cluster: Cluster,
    request: Request,
    caller: str = "",
    resolve: Resolve = addresses,
    send: Send | None = None,
    patience: float = PATIENCE,
) -> Evidence:
    """Send the request once and return the evidence.

    Args:
        cluster: The cluster that the URL leads to.
        request: The request.
        caller: The calling pod, as app or namespace/app; "" is this machine.
        resolve: Returns a name's addresses.
        send: Sends the request instead of this machine or the pod, with the arguments of over_http.
        patience: Seconds until the proxies have written their lines.
    """
    label = f"why-{time.time_ns():x}"
    pods = cluster.items("v1", "Pod")
    inside = find_caller(pods, caller) if caller else None
    parts = urlsplit(request.url)
    settings = mesh.read(cluster, inside.revision if inside else "")
    refused = login.refused_before(cluster, pods, request.path)
    answer = _answer(cluster, pods, request, inside, label, send)
    named = request.host or (parts.netloc if request.to else "")
    target = _target(cluster, pods, request, named, inside, resolve, settings.normalization)
    if (found := target.get("workload")) and found.revision and found.revision != settings.revision:
        settings = mesh.read(cluster, found.revision)
    evidence = Evidence(
        url=shown(request.url, secrets(request)),
        host=request.host or parts.netloc.rpartition("@")[2],
        path=request.path,
        method=request.method,
        answer=answer,
        from_inside=bool(inside),
        caller=inside,
        policies=[one for kind in policies.KINDS for one in cluster.items(policies.API, kind)],
        workloads=pods,
        mesh=settings,
        **istiod(cluster, settings),
        now=time.time(),
        skew=_skew(answer),
        headers=request.sent(),
        secrets=secrets(request),
        sidecars=cluster.items(routes.API, "Sidecar") if inside else (),
        **target,
    )
    evidence = replace(evidence, **_hops(cluster, label, evidence, patience))
    evidence = replace(evidence, token=_token(request, evidence), log_problem=_log_problem(evidence))
    evidence = replace(evidence, authorizers=_authorizers(cluster, evidence))
    evidence = replace(evidence, **login.collect(cluster, evidence, label, refused, SINCE))
    return replace(evidence, keys=_keys(cluster, evidence), rejected=_rejected(cluster, evidence))


def _answer(
    cluster: Cluster, pods: Sequence[Mapping], request: Request, inside: Workload | None, label: str, send: Send | None
) -> Answer:
    options = {**request.options(), "agent": label}
    if send:
        return send(request.url, **options)
    if not inside:
        return over_http(request.url, to=request.to, **options)
    container = application_container(inside, pods)
    execute = cluster.execute(label_selector(inside.labels), inside.namespace, container)
    return over_exec(execute, request.url, **options)


def _token(request: Request, evidence: Evidence) -> Any:
    """Return the token that Envoy reads, if the request carries several; else the first one."""
    found = [describe_token(token, place) for place, token in carried(request)]
    read = [one for one in found if replace(evidence, token=one).token_read]
    return next(iter([*read, *found]), None)


def _target(
    cluster: Cluster,
    pods: Sequence[Mapping],
    request: Request,
    named: str,
    inside: Workload | None,
    resolve: Resolve,
    normalization: str,
) -> dict[str, Any]:
    """Return the fields of Evidence about the destination: Service, route, workloads."""
    url = urlsplit(request.url)
    address, port = request.to or url.hostname or "", http_client.port(url)
    services = cluster.items("v1", "Service")
    rules = cluster.items(routes.API, "DestinationRule")
    front = None
    if inside:
        service = routes.by_host(services, address, inside.namespace) or routes.by_address(services, address)
        service = _followed(services, service)
        if not service and (pod := [one for one in pods if one.get("status", {}).get("podIP") == address]):
            alone = workload_of(pod[:1])
            entry = {"port": port, "targetPort": port}
            return {"port": entry, "workload": alone and with_ambient(cluster, alone), "direct": True}
        if not service or not _is_gateway(pods, service):
            return _service_target(cluster, service, url.port or 80, pods, rules, inside.namespace)
        front = service
    front = front or routes.front(services, address, resolve)
    known = front is not None
    if not front:  # a name without an address that leads to the only gateway
        fronts = [one for one in services if _is_gateway(pods, one) and one["spec"].get("type") == "LoadBalancer"]
        front = fronts[0] if len(fronts) == 1 else None
    behind = routes.selected(pods, front) if front else []
    gateway = workload_of(behind)
    if not gateway or not front:
        return {**_service_target(cluster, None, port, pods, rules, ""), "way_known": known}
    if not _is_gateway(pods, front):
        return _service_target(cluster, front, port, pods, rules, "")
    modern, attached = (cluster.items(gateway_api.API, kind) for kind in ("Gateway", "HTTPRoute"))
    own = cluster.items(routes.API, "Gateway")
    gateways = routes.gateways_of([*own, *gateway_api.gateways(modern)], gateway.labels)
    name = named or address
    listening = gateway_api.virtual_services(gateway_api.at_port(attached, modern, port))
    virtuals = routes.routes([*cluster.items(routes.API, "VirtualService"), *listening], gateways, name)
    virtuals = virtuals or [one for one in gateway_api.astray(attached, modern) if routes.names(one, name)]
    asked = (matching.normalized(request.path, normalization) or request.path, request.method, request.sent())
    hits = [found for one in virtuals if (found := routes.route(one, *asked))]
    route = min(hits, key=lambda one: one.catch_all, default=None)
    service = routes.by_host(services, route.destination, route.namespace) if route else None
    return {
        **_service_target(cluster, service, route.port if route else None, pods, rules, gateway.namespace, route),
        "hosts_served": routes.serves(gateways, name),
        "gateways": gateways,
        "virtuals": virtuals,
        "gateway": gateway,
        "route": route,
        "way_known": known or front is not None,
    }


def _followed(services: Sequence[Mapping], service: Mapping | None) -> Mapping | None:
    """Return the Service that another one of type ExternalName stands for, else the Service itself."""
    name = service["spec"].get("externalName") if service else None
    return routes.by_host(services, name, "") if name else service


def _is_gateway(pods: Sequence[Mapping], service: Mapping) -> bool:
    """Return whether a Service leads to gateways: pods whose only container is the proxy."""
    behind = routes.selected(pods, service)
    return bool(behind) and proxy.is_gateway(behind[0])


def _service_target(
    cluster: Cluster,
    service: Mapping | None,
    port: int | None,
    pods: Sequence[Mapping],
    rules: Sequence[Mapping],
    caller: str,
    route: routes.Route | None = None,
) -> dict[str, Any]:
    """Return the fields of Evidence about a Service; `caller` is the caller's namespace."""
    if not service:
        return {"service": None}
    behind = routes.selected(pods, service)
    entry = routes.port_of(service, port)
    subset = route.subset if route else ""
    setting = [
        one
        for one in destination_rules.rules_for(rules, service, caller)
        if destination_rules.tls_of(one, entry.get("port"), subset)[0]
    ]
    workload = workload_of(behind, probe_failure(cluster, behind))
    return {
        "service": service,
        "port": entry,
        "workload": with_ambient(cluster, workload) if workload else None,
        "destination_rule": setting[0] if setting else None,
    }


def _hops(cluster: Cluster, label: str, evidence: Evidence, patience: float) -> dict[str, Any]:
    """Read the proxies' access logs until the request is in them, or Envoy had time to write it."""
    places = {"gateway_hop": evidence.gateway, "sidecar_hop": evidence.workload, "caller_hop": evidence.caller}
    proxied = {name: one for name, one in places.items() if one and one.proxied}

    def logged() -> dict[str, access_log.Hop]:
        found = {name: _hop(cluster, one, label, evidence.mesh.log_format) for name, one in proxied.items()}
        return {name: hop for name, hop in found.items() if hop}

    def complete(hops: dict[str, access_log.Hop]) -> bool:
        first = hops.get("gateway_hop") or hops.get("caller_hop")
        return "sidecar_hop" in hops or bool(first and (not first.upstream or "sidecar_hop" not in proxied))

    return until(logged, complete, deadline=patience if proxied else 0.0).value or {}


def _hop(cluster: Cluster, workload: Workload, label: str, log_format: str) -> access_log.Hop | None:
    with suppress(RunbookError):
        selector = label_selector(workload.labels)
        hops = access_log.fetch(cluster, selector, workload.namespace, SINCE, log_format=log_format)
        return hops.get(label)
    return None


def _log_problem(evidence: Evidence) -> str:
    """Return why no proxy's log has the request although a proxy answered, "" if this is in order."""
    if evidence.refuser or not evidence.answer.status or evidence.answer.headers.get("server") != "istio-envoy":
        return ""
    settings = evidence.mesh
    return LOG_STRANGE % settings.encoding if settings.access_log else LOG_OFF


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
    return jwks.collect(cluster, rule, execute, evidence.mesh, evidence.policies)


def _rejected(cluster: Cluster, evidence: Evidence) -> str:
    """Return why the guard's Envoy refused what istiod sent it since the newest policy, "" if it did not."""
    guard = evidence.guard
    if not evidence.answer.status or not guard or not guard.proxied:
        return ""
    with suppress(RunbookError):
        newest = authorization.newest_change(evidence)
        since = math.ceil(time.time() - newest) if newest is not None else jwks.SINCE  # evidence.now is seconds old
        seconds = min(jwks.SINCE, max(1, since))
        return proxy.refusal(jwks.istiod_log(cluster, seconds, evidence.mesh), guard.pod, guard.namespace)
    return ""


def _authorizers(cluster: Cluster, evidence: Evidence) -> list[authorizers.Authorizer]:
    """Return the mesh's external authorizers if one of them had a say."""
    refuser = evidence.refuser
    if not refuser or not refuser.details.startswith("ext_authz"):
        return []
    hosts = {name: one.host for name, one in evidence.mesh.providers.items()}
    return authorizers.collect(cluster, evidence.workloads, hosts, refuser.request_id, SINCE)


def _skew(answer: Answer) -> float | None:
    with suppress(ValueError, KeyError):
        return round(parsedate_to_datetime(answer.headers["date"]).timestamp() - time.time(), 1)
    return None
