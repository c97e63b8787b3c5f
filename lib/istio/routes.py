"""Which way a request takes into the mesh: the Service that its URL names, the route behind a gateway, the workload."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from lib.kubernetes.status import is_terminating

API = "networking.istio.io/v1"
CLUSTER_DOMAIN = ".svc.cluster.local"
PROTOCOLS = ("http", "http2", "https", "grpc", "grpc-web", "tcp", "tls", "udp", "mongo", "mysql", "redis")


@dataclass(frozen=True)
class Route:
    """A way from a gateway to a Service: the VirtualService, what it removes, and where it leads to."""

    name: str
    destination: str
    port: int | None
    namespace: str
    removed: tuple[str, ...] = ()


def by_address(services: Iterable[Mapping], address: str) -> Mapping | None:
    """Return the Service that has this address: of a load balancer, of the cluster, or as an external IP."""
    return next((one for one in services if address in _addresses(one)), None)


def by_host(services: Iterable[Mapping], host: str, namespace: str) -> Mapping | None:
    """Return the Service that a host names, seen from a namespace: name, name.namespace, or in full."""
    short = host.removesuffix(".").removesuffix(CLUSTER_DOMAIN).removesuffix(".svc")
    name, _, home = short.partition(".")
    wanted = name, home or namespace
    return next((one for one in services if (one["metadata"]["name"], one["metadata"]["namespace"]) == wanted), None)


def gateways_of(gateways: Iterable[Mapping], labels: Mapping[str, str]) -> list[Mapping]:
    """Return the Gateways that select a gateway's pods."""
    return [one for one in gateways if one["spec"].get("selector", {}).items() <= labels.items()]


def routes(virtuals: Sequence[Mapping], gateways: Sequence[Mapping], host: str) -> list[Mapping]:
    """Return the VirtualServices that these Gateways serve for a host: those alone whose hosts fit it most exactly."""
    served = {f"{one['metadata']['namespace']}/{one['metadata']['name']}" for one in gateways}
    bound = [one for one in virtuals if served & set(_bound(one))]
    found = [(_exactness(hit), one) for one in bound if (hit := _hit(one["spec"].get("hosts", []), host))]
    most = max((exactness for exactness, _ in found), default=None)
    return [one for exactness, one in found if exactness == most]


def route(virtual: Mapping, path: str) -> Route | None:
    """Return where a VirtualService leads a path; None where none of its matches fits."""
    for rule in virtual["spec"].get("http", []):
        uris = [one.get("uri") for one in rule.get("match", [])]
        if not uris or any(uri is None or _fits(uri, path) for uri in uris):
            target = (rule.get("route") or [{}])[0]
            removed = [
                *rule.get("headers", {}).get("request", {}).get("remove", []),
                *target.get("headers", {}).get("request", {}).get("remove", []),
            ]
            destination = target.get("destination", {})
            home, name = virtual["metadata"]["namespace"], virtual["metadata"]["name"]
            port = destination.get("port", {}).get("number")
            gone = tuple(one.lower() for one in removed)
            return Route(f"{home}/{name}", destination.get("host", ""), port, home, gone)
    return None


def serves(gateways: Iterable[Mapping], host: str) -> bool:
    """Whether any of these Gateways takes requests for a host."""
    return bool(_hit([one for server in _servers(gateways) for one in _hosts(server)], host))


def shown(gateways: Iterable[Mapping], name: str) -> list[Mapping]:
    """Return the servers of these Gateways that speak TLS to who asks for a name (SNI); "" is who names none."""
    return [one for one in _secure(gateways) if _hit(_hosts(one), name)]


def secured(gateways: Iterable[Mapping]) -> list[str]:
    """Return the hosts that these Gateways speak TLS for."""
    return [host for one in _secure(gateways) for host in _hosts(one)]


def is_address(host: str) -> bool:
    """Return whether a host is an IP address: such a one is never asked for by SNI (RFC 6066, section 3)."""
    try:
        return bool(ipaddress.ip_address(host))
    except ValueError:
        return False


def port_of(service: Mapping, number: int | None) -> Mapping:
    """Return a Service's port by its number, or its first; {} where it has none such."""
    ports = service["spec"].get("ports", [])
    return next((one for one in ports if number in (None, one["port"])), {})


def target(port: Mapping, pods: Iterable[Mapping]) -> int | None:
    """Return the number of the pods' port that a Service's port leads to; None where it is a name that none has."""
    wanted = port.get("targetPort", port.get("port"))
    if not isinstance(wanted, str):
        return wanted
    ports = [one for pod in pods for each in pod["spec"]["containers"] for one in each.get("ports", [])]
    return next((one["containerPort"] for one in ports if one.get("name") == wanted), None)


def protocol(port: Mapping) -> str:
    """Return the protocol that Istio takes a Service's port for, by appProtocol or name; "" is detected by Envoy."""
    stated = port.get("appProtocol") or port.get("name", "").partition("-")[0]
    return stated.removeprefix("kubernetes.io/").lower() if stated.lower() in PROTOCOLS else ""


def selected(pods: Iterable[Mapping], service: Mapping) -> list[Mapping]:
    """Return the pods that a Service selects."""
    wanted, home = service["spec"].get("selector") or {}, service["metadata"]["namespace"]
    return [
        pod
        for pod in pods
        if wanted
        and pod["metadata"]["namespace"] == home
        and wanted.items() <= pod["metadata"].get("labels", {}).items()
        and not is_terminating(pod)
    ]


def rule_for(rules: Iterable[Mapping], service: Mapping, caller: str) -> Mapping | None:
    """Return the DestinationRule that a caller's namespace, the Service's own or the root has for a Service."""
    name, home = service["metadata"]["name"], service["metadata"]["namespace"]
    full = f"{name}.{home}{CLUSTER_DOMAIN}"

    def fits(one: Mapping) -> bool:
        host, place = one["spec"]["host"], one["metadata"]["namespace"]
        own = host in (full, f"{name}.{home}", f"{name}.{home}.svc") or (host == name and place == home)
        return own or (host.startswith("*") and full.endswith(host[1:]))

    found = [one for one in rules if fits(one) and "tls" in one["spec"].get("trafficPolicy", {})]
    places = {caller: 0, home: 1}
    return min(found, key=lambda one: places.get(one["metadata"]["namespace"], 2), default=None)


def _servers(gateways: Iterable[Mapping]) -> list[Mapping]:
    return [server for gateway in gateways for server in gateway["spec"]["servers"]]


def _hosts(server: Mapping) -> list[str]:
    """A server's hosts without the namespaces that may bind to them."""
    return [one.rpartition("/")[2] for one in server["hosts"]]


def _secure(gateways: Iterable[Mapping]) -> list[Mapping]:
    return [one for one in _servers(gateways) if one["port"].get("protocol") in ("HTTPS", "TLS")]


def _addresses(service: Mapping) -> set[str]:
    spec = service["spec"]
    ingress = service.get("status", {}).get("loadBalancer", {}).get("ingress") or []
    found = [one.get(key) for one in ingress for key in ("ip", "hostname")]
    return {one for one in (*found, *spec.get("clusterIPs", []), *spec.get("externalIPs", [])) if one and one != "None"}


def _bound(virtual: Mapping) -> list[str]:
    home = virtual["metadata"]["namespace"]
    return [one if "/" in one else f"{home}/{one}" for one in virtual["spec"].get("gateways", ["mesh"])]


def _hit(hosts: Iterable[str], host: str) -> str:
    """Return the most exact of the hosts that fits: exact, *.suffix, or *."""
    bare = host.partition(":")[0]
    fitting = [one for one in hosts if one in (bare, "*") or (one.startswith("*") and bare.endswith(one[1:]))]
    return max(fitting, key=_exactness, default="")


def _exactness(host: str) -> tuple[bool, int]:
    return not host.startswith("*"), len(host)


def _fits(uri: Mapping, path: str) -> bool:
    if "exact" in uri:
        return path == uri["exact"]
    return path.startswith(uri["prefix"]) if "prefix" in uri else True
