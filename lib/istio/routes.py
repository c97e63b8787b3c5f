"""Find a request's way into the mesh: the Service that its URL names, the route behind a gateway, the workload."""

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
    return next((service for service in services if address in _addresses(service)), None)


def by_host(services: Iterable[Mapping], host: str, namespace: str) -> Mapping | None:
    """Return the Service that a host names, seen from a namespace: name, name.namespace, or in full."""
    short = host.removesuffix(".").removesuffix(CLUSTER_DOMAIN).removesuffix(".svc")
    name, _, home = short.partition(".")
    wanted = {"name": name, "namespace": home or namespace}
    return next((service for service in services if wanted.items() <= service["metadata"].items()), None)


def gateways_of(gateways: Iterable[Mapping], labels: Mapping[str, str]) -> list[Mapping]:
    """Return the Gateways that select a gateway's pods."""
    return [gateway for gateway in gateways if gateway["spec"].get("selector", {}).items() <= labels.items()]


def routes(virtuals: Sequence[Mapping], gateways: Sequence[Mapping], host: str) -> list[Mapping]:
    """Return the VirtualServices that these Gateways serve for a host: only the ones that match it most exactly."""
    served = {f"{gateway['metadata']['namespace']}/{gateway['metadata']['name']}" for gateway in gateways}
    bound = [virtual for virtual in virtuals if served & set(_bound(virtual))]
    hits = [(_exactness(hit), virtual) for virtual in bound if (hit := _hit(virtual["spec"].get("hosts", []), host))]
    most = max((exactness for exactness, _ in hits), default=None)
    return [virtual for exactness, virtual in hits if exactness == most]


def route(virtual: Mapping, path: str) -> Route | None:
    """Return the route of a VirtualService for a path; None if none of its matches fits."""
    for rule in virtual["spec"].get("http", []):
        uris = [match.get("uri") for match in rule.get("match", [])]
        if not uris or any(uri is None or _fits(uri, path) for uri in uris):
            target = (rule.get("route") or [{}])[0]
            removed = [
                *rule.get("headers", {}).get("request", {}).get("remove", []),
                *target.get("headers", {}).get("request", {}).get("remove", []),
            ]
            destination = target.get("destination", {})
            home, name = virtual["metadata"]["namespace"], virtual["metadata"]["name"]
            port = destination.get("port", {}).get("number")
            headers = tuple(header.lower() for header in removed)
            return Route(f"{home}/{name}", destination.get("host", ""), port, home, headers)
    return None


def serves(gateways: Iterable[Mapping], host: str) -> bool:
    """Return whether any of these Gateways accepts requests for a host."""
    return bool(_hit([served for server in _servers(gateways) for served in _hosts(server)], host))


def tls_servers(gateways: Iterable[Mapping], name: str) -> list[Mapping]:
    """Return the servers of these Gateways that speak TLS for a client's SNI name; "" is a client without SNI."""
    return [server for server in _secure(gateways) if _hit(_hosts(server), name)]


def tls_hosts(gateways: Iterable[Mapping]) -> list[str]:
    """Return the hosts that these Gateways speak TLS for."""
    return [host for server in _secure(gateways) for host in _hosts(server)]


def is_address(host: str) -> bool:
    """Return whether a host is an IP address, which a client never sends as SNI (RFC 6066, section 3)."""
    try:
        return bool(ipaddress.ip_address(host))
    except ValueError:
        return False


def port_of(service: Mapping, number: int | None) -> Mapping:
    """Return a Service's port by its number, or its first port; {} if it has no such port."""
    ports = service["spec"].get("ports", [])
    return next((port for port in ports if number in (None, port["port"])), {})


def target(port: Mapping, pods: Iterable[Mapping]) -> int | None:
    """Return the number of the pods' port behind a Service's port; None if no pod has a port of that name."""
    wanted = port.get("targetPort", port.get("port"))
    if not isinstance(wanted, str):
        return wanted
    containers = [container for pod in pods for container in pod["spec"]["containers"]]
    ports = [entry for container in containers for entry in container.get("ports", [])]
    return next((entry["containerPort"] for entry in ports if entry.get("name") == wanted), None)


def protocol(port: Mapping) -> str:
    """Return the protocol that a Service's port states by appProtocol or name; "" if Envoy has to detect it."""
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
    """Return the DestinationRule with TLS settings for a Service, from the namespace of caller, Service or root."""
    name, home = service["metadata"]["name"], service["metadata"]["namespace"]
    full = f"{name}.{home}{CLUSTER_DOMAIN}"

    def fits(rule: Mapping) -> bool:
        host, namespace = rule["spec"]["host"], rule["metadata"]["namespace"]
        own = host in (full, f"{name}.{home}", f"{name}.{home}.svc") or (host == name and namespace == home)
        return own or (host.startswith("*") and full.endswith(host[1:]))

    fitting = [rule for rule in rules if fits(rule) and "tls" in rule["spec"].get("trafficPolicy", {})]
    precedence = {caller: 0, home: 1}
    return min(fitting, key=lambda rule: precedence.get(rule["metadata"]["namespace"], 2), default=None)


def _servers(gateways: Iterable[Mapping]) -> list[Mapping]:
    return [server for gateway in gateways for server in gateway["spec"]["servers"]]


def _hosts(server: Mapping) -> list[str]:
    """Return a server's hosts without the namespaces that may bind to them."""
    return [host.rpartition("/")[2] for host in server["hosts"]]


def _secure(gateways: Iterable[Mapping]) -> list[Mapping]:
    return [server for server in _servers(gateways) if server["port"].get("protocol") in ("HTTPS", "TLS")]


def _addresses(service: Mapping) -> set[str]:
    spec = service["spec"]
    ingress = service.get("status", {}).get("loadBalancer", {}).get("ingress") or []
    public = [entry.get(key) for entry in ingress for key in ("ip", "hostname")]
    return {*public, *spec.get("clusterIPs", []), *spec.get("externalIPs", [])} - {None, "", "None"}


def _bound(virtual: Mapping) -> list[str]:
    home = virtual["metadata"]["namespace"]
    return [name if "/" in name else f"{home}/{name}" for name in virtual["spec"].get("gateways", ["mesh"])]


def _hit(hosts: Iterable[str], host: str) -> str:
    """Return the most exact of the hosts that fits: exact, *.suffix, or *."""
    bare = host.partition(":")[0]
    fitting = [item for item in hosts if item in (bare, "*") or (item.startswith("*") and bare.endswith(item[1:]))]
    return max(fitting, key=_exactness, default="")


def _exactness(host: str) -> tuple[bool, int]:
    return not host.startswith("*"), len(host)


def _fits(uri: Mapping, path: str) -> bool:
    if "exact" in uri:
        return path == uri["exact"]
    return path.startswith(uri["prefix"]) if "prefix" in uri else True
