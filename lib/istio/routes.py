"""Find a request's way into the mesh: the Service that its URL names, the route behind a gateway, the workload."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from lib.kubernetes.status import is_terminating

API = "networking.istio.io/v1"
CLUSTER_DOMAIN = ".svc.cluster.local"
LINES = "\n"  # between the values of a header that a request has on several lines
PLAIN_TCP = ("tcp", "tls", "mongo", "mysql", "redis")  # protocols without HTTP's fields
PROTOCOLS = ("http", "http2", "https", "grpc", "grpc-web", "tcp", "tls", "udp", "mongo", "mysql", "redis")


@dataclass(frozen=True)
class Route:
    """A way from a gateway to a Service: the VirtualService, what it changes, and where it leads to.

    `answer` says what the route answers itself, "" if it leads to a Service. A `catch_all` stands behind all others.
    """

    name: str
    destination: str
    port: int | None
    namespace: str
    removed: tuple[str, ...] = ()
    path: str | None = None
    host: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    answer: str = ""
    subset: str = ""
    catch_all: bool = False
    added: Mapping[str, str] = field(default_factory=dict)

    def changed(self, headers: Mapping[str, str]) -> dict[str, str]:
        """Return a request's headers after this route: Envoy removes some, then sets some, then adds lines to some."""
        kept = {name: one for name, one in headers.items() if name not in self.removed} | dict(self.headers)
        return kept | {name: LINES.join(filter(None, (kept.get(name), one))) for name, one in self.added.items()}


def by_address(services: Iterable[Mapping], address: str) -> Mapping | None:
    """Return the Service that has this address: of a load balancer, of the cluster, or as an external IP."""
    return next((service for service in services if address in _addresses(service)), None)


def front(
    services: Sequence[Mapping], host: str, resolve: Callable[[str], set[str]] = lambda _: set()
) -> Mapping | None:
    """Return the Service that a host leads to from outside: by its address, its load balancer's name, or by DNS."""
    found = by_address(services, host) or (by_host(services, host, "") if host.endswith(CLUSTER_DOMAIN) else None)
    if found or is_address(host):
        return found
    wanted, balanced = resolve(host), (one for one in services if one["spec"].get("type") == "LoadBalancer")
    return next((one for one in balanced if wanted & _resolved(one, resolve)), None)


def by_host(services: Iterable[Mapping], host: str, namespace: str) -> Mapping | None:
    """Return the Service that a host names, seen from a namespace: name, name.namespace, or in full."""
    short = host.removesuffix(".").removesuffix(CLUSTER_DOMAIN).removesuffix(".svc")
    name, home = short.split(".")[-2:] if "." in short else (short, "")  # also web-0.web.shop
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


def names(virtual: Mapping, host: str) -> bool:
    """Return whether a VirtualService is for a host."""
    return bool(_hit(virtual["spec"].get("hosts", []), host))


def route(virtual: Mapping, path: str, method: str = "GET", headers: Mapping[str, str] | None = None) -> Route | None:
    """Return the route of a VirtualService for a request; None if none of its matches fits.

    Args:
        virtual: The VirtualService.
        path: The path, with or without the query.
        method: The HTTP method.
        headers: The request's headers by lower-case names. None: a condition on headers counts as met.
    """
    for rule in virtual["spec"].get("http") or []:
        hit = next((one for one in rule.get("match") or [{}] if _meets(one, path, method, headers)), None)
        if hit is not None:
            return _route(virtual, rule, hit, path)
    return None


def claim_matches(virtual: Mapping) -> list[str]:
    """Return the claims that a VirtualService's matches compare: such a route exists only with the claim."""
    matches = [match for rule in virtual["spec"].get("http") or [] for match in rule.get("match") or []]
    conditions = [name for one in matches for key in ("headers", "withoutHeaders") for name in one.get(key) or {}]
    return [name.removeprefix("@request.auth.") for name in conditions if name.startswith("@request.auth.")]


def _route(virtual: Mapping, rule: Mapping, match: Mapping, path: str) -> Route:
    target = (rule.get("route") or [{}])[0]
    changes = [(one.get("headers") or {}).get("request") or {} for one in (rule, target)]
    removed = tuple(name.lower() for one in changes for name in one.get("remove") or [])
    values = {key: {name.lower(): str(one) for each in changes for name, one in (each.get(key) or {}).items()}
              for key in ("add", "set")}  # fmt: skip
    destination = target.get("destination") or {}
    home, name = virtual["metadata"]["namespace"], virtual["metadata"]["name"]
    rewrite = rule.get("rewrite") or {}
    return Route(
        f"{home}/{name}",
        destination.get("host", ""),
        (destination.get("port") or {}).get("number"),
        home,
        removed,
        _rewritten(rewrite, match.get("uri") or {}, path),
        rewrite.get("authority", ""),
        values["set"],
        next((one for one in ("redirect", "directResponse") if one in rule), ""),
        destination.get("subset", ""),
        match in ({}, {"uri": {"prefix": "/"}}),
        values["add"],
    )


def _rewritten(rewrite: Mapping, uri: Mapping, path: str) -> str | None:
    """Return the path after a rewrite, None if the route has none. A prefix is replaced, anything else as a whole."""
    bare, mark, query = path.partition("?")
    if pattern := rewrite.get("uriRegexRewrite"):
        with suppress(re.error):
            return re.sub(pattern["match"], pattern.get("rewrite", ""), bare) + mark + query
    if "uri" not in rewrite:
        return None
    rest = bare[len(uri.get("prefix", "/")) :] if "prefix" in uri or not uri else ""
    made = rewrite["uri"] + rest
    if rewrite["uri"].endswith("/") and rest.startswith("/"):
        made = rewrite["uri"] + rest[1:]
    return made + mark + query


def _meets(match: Mapping, path: str, method: str, headers: Mapping[str, str] | None) -> bool:
    if "uri" in match and not _fits(match["uri"], path.partition("?")[0]):
        return False
    if "method" in match and not _fits(match["method"], method):
        return False
    if headers is None:
        return True
    wanted = {name.lower(): one for name, one in (match.get("headers") or {}).items() if not name.startswith("@")}
    found = all(name in headers and _fits(one or {}, headers[name]) for name, one in wanted.items())
    barred = {
        name.lower(): one for name, one in (match.get("withoutHeaders") or {}).items() if not name.startswith("@")
    }
    return found and not any(name in headers and _fits(one or {}, headers[name]) for name, one in barred.items())


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


def _resolved(service: Mapping, resolve: Callable[[str], set[str]]) -> set[str]:
    known = _addresses(service)
    return known | {address for name in known if not is_address(name) for address in resolve(name)}


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


def _fits(match: Mapping, value: str) -> bool:
    """Return whether a value fits a StringMatch; {} is any value."""
    if "exact" in match:
        return value == match["exact"]
    if "regex" in match:
        with suppress(re.error):
            return re.fullmatch(match["regex"], value) is not None
    return value.startswith(match.get("prefix", ""))
