"""VirtualServices at gateways as HTTPRoutes, with the ReferenceGrants that their backends in other namespaces need."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from lib.errors import LegacyError
from lib.gateway_api.gateways import Old, check_revision, of
from lib.gateway_api.matches import pieces
from lib.gateway_api.read import Changes, Rule, Virtual
from lib.istio.routes import CLUSTER_DOMAIN, by_host
from lib.legacy.write import Translated
from lib.names import GATEWAY_GROUP

MESH = "VirtualService {0} is for the mesh too: keep Istio's with `gateways: [mesh]` for callers inside the mesh."
NOWHERE = "No listener serves a host of VirtualService {0}: it had no effect at the gateway, and gets no HTTPRoute."
DIRECT = "The gateway refused these requests with {0}; a rule without backends refuses them with 500."
RETRIES = "retries are left out: the Gateway API's standard routes have none. Envoy's own two retries stay."
GRANT = "{0} lets HTTPRoutes of {1} lead to its Services: the Gateway API asks the backends' namespace."

ANY = "{0} also has the host *: an HTTPRoute of its own, without hostnames, comes after those that name a host."


@dataclass(frozen=True)
class Backend:
    """A Service that a route leads to."""

    name: str
    namespace: str
    port: int

    def reference(self, home: str) -> dict:
        """Return the backendRef of a route in `home`."""
        away = {} if self.namespace == home else {"namespace": self.namespace}
        return {"name": self.name, **away, "port": self.port}


def translate(one: Mapping, spec: Virtual, gateways: Sequence[Old], services: Sequence[Mapping]) -> list[Translated]:
    """Return the HTTPRoute of a VirtualService and its grants.

    Raises:
        LegacyError: A field has no equal, or a Gateway or a Service is not among the files.
    """
    name, home = one["metadata"]["name"], one["metadata"]["namespace"]
    notes = [MESH.format(name)] if "mesh" in spec.gateways else []
    parents = []
    for wanted in dict.fromkeys(each if "/" in each else f"{home}/{each}" for each in spec.gateways if each != "mesh"):
        gateway = _gateway(wanted, gateways)
        check_revision(one, gateway)
        parents += [(gateway, section) for section in _sections(gateway, spec.hosts, home)]
    if not parents:
        return [Translated({}, [*notes, *([] if spec.gateways == ["mesh"] else [NOWHERE.format(name)])])]
    if short := [host for host in spec.hosts if "." not in host and host != "*"]:
        raise LegacyError(f"Istio takes the host {short[0]} for that Service's whole name. Write the whole name.")
    if not spec.http:
        raise LegacyError("the VirtualService has no http routes. Leave it with Istio's Gateway, or add them.")
    references = [
        {
            "name": gateway.name,
            **({} if gateway.namespace == home else {"namespace": gateway.namespace}),
            "sectionName": section,
        }
        for gateway, section in parents
    ]
    backends: list[Backend] = []
    rules: list[dict] = []
    warnings: list[str] = []
    found = pieces(spec.http)
    for place, piece in enumerate(found):
        rule = spec.http[piece.rule]
        notes += piece.notes
        warnings += piece.warnings
        before = found[place - 1] if place else None
        single = piece.rewrite.get("type") == "ReplacePrefixMatch"  # the API server wants one match beside it
        if before and (before.rule, before.rewrite) == (piece.rule, piece.rewrite) and not single:
            rules[-1]["matches"].append(piece.new)
            continue
        made = _rule(rule, piece.rewrite, home, services, backends)
        rules.append({"matches": [piece.new], **made})
        notes += [RETRIES] if rule.retries else []
        warnings += [DIRECT.format(rule.direct_response.status)] if rule.direct_response else []
    hosts = [host for host in spec.hosts if host != "*"]
    named = {"parentRefs": references, **({"hostnames": hosts} if hosts else {}), "rules": rules}
    whole = Translated(of("HTTPRoute", name, home, {"spec": named}), _once(notes), _once(warnings))
    rest = []
    if hosts and len(hosts) < len(spec.hosts):  # a route without hostnames comes after all that have a fitting one
        any_host = {"parentRefs": references, "rules": rules}
        rest = [Translated(of("HTTPRoute", f"{name}-any", home, {"spec": any_host}), [ANY.format(name)])]
    return [whole, *rest, *grants(home, backends)]


def grants(home: str, backends: Iterable[Backend]) -> list[Translated]:
    """Return what allows routes of `home` to lead to Services of other namespaces, one object for each Service."""
    made = []
    for one in dict.fromkeys((each.namespace, each.name) for each in backends if each.namespace != home):
        spec = {
            "from": [{"group": GATEWAY_GROUP, "kind": "HTTPRoute", "namespace": home}],
            "to": [{"group": "", "kind": "Service", "name": one[1]}],
        }
        grant = of("ReferenceGrant", f"{home}-{one[1]}", one[0], {"spec": spec})
        made.append(Translated(grant, [GRANT.format(one[0], home)]))
    return made


def backend(host: str, port: int | str | None, home: str, services: Sequence[Mapping]) -> Backend:
    """Return the Service of a host; LegacyError if the files do not show its port."""
    name, _, space = host.removesuffix(CLUSTER_DOMAIN).removesuffix(".svc").partition(".")
    if "." in space or "*" in host:
        raise LegacyError(
            f"the destination {host} is no Service of this cluster. Leave its route with Istio's Gateway."
        )
    if isinstance(port, int):
        return Backend(name, space or home, port)
    ports = ((by_host(services, host, home) or {}).get("spec") or {}).get("ports") or []
    fitting = [one["port"] for one in ports if port in (None, "", one.get("name"))]
    if len(fitting) != 1:
        raise LegacyError(f"the port of the Service {host} is not known. Name its number, or give the Service.")
    return Backend(name, space or home, fitting[0])


def fits(one: str, other: str) -> bool:
    """Return whether two hosts have a name in common; each may be * or *.domain too."""
    wild = [each[1:] for each in (one, other) if each.startswith("*")]
    if len(wild) == 2:
        return wild[0].endswith(wild[1]) or wild[1].endswith(wild[0])
    exact = other if one.startswith("*") else one
    return exact.endswith(wild[0]) if wild else one == other


def check_apart(virtuals: Sequence[tuple[str, str, Virtual]]) -> None:
    """Raise LegacyError if two VirtualServices share a host at a gateway: their order would be that of their names."""
    seen: dict[tuple[str, str], str] = {}
    for name, home, spec in virtuals:
        for gateway in spec.gateways:
            for host in spec.hosts if gateway != "mesh" else []:
                key = (gateway if "/" in gateway else f"{home}/{gateway}", host)
                if seen.setdefault(key, f"{home}/{name}") != f"{home}/{name}":
                    raise LegacyError(
                        f"VirtualServices {seen[key]} and {home}/{name} both have the host {host} at {key[0]}, and the "
                        "order of their rules is not kept. Make one VirtualService of them."
                    )


def _gateway(wanted: str, gateways: Sequence[Old]) -> Old:
    for one in gateways:
        if f"{one.home}/{one.name}" == wanted:
            return one
    raise LegacyError(f"its Gateway {wanted} is not among the files. Add it.")


def _sections(gateway: Old, hosts: Sequence[str], home: str) -> list[str]:
    """Return the listeners that take a route of a namespace for these hosts; a redirect takes none."""
    return [
        listener["name"]
        for listener, server, space in gateway.listeners
        if not (server.tls and server.tls.https_redirect)
        and space in ("", home)
        and any(fits(listener.get("hostname", "*"), host) for host in hosts)
    ]


def _rule(rule: Rule, rewrite: dict, home: str, services: Sequence[Mapping], backends: list[Backend]) -> dict:
    filters = [
        {"type": kind, kind[0].lower() + kind[1:]: changes}
        for kind, changes in (
            ("RequestHeaderModifier", _changes(rule.headers.request)),
            ("ResponseHeaderModifier", _changes(rule.headers.response)),
        )
        if changes
    ]
    if rewrite or (rule.rewrite and rule.rewrite.authority):
        path = {"path": rewrite} if rewrite else {}
        host = {"hostname": rule.rewrite.authority} if rule.rewrite and rule.rewrite.authority else {}
        filters.append({"type": "URLRewrite", "urlRewrite": {**host, **path}})
    if rule.redirect:
        filters.append({"type": "RequestRedirect", "requestRedirect": _redirect(rule)})
    made: dict = {"filters": filters} if filters else {}
    if rule.timeout and rule.timeout != "0s":
        made["timeouts"] = {"request": rule.timeout}
    references = []
    for one in rule.route if not rule.redirect and not rule.direct_response else []:
        port = one.destination.port.number if one.destination.port else None
        found = backend(one.destination.host, port, home, services)
        backends.append(found)
        references.append(found.reference(home) | ({"weight": one.weight} if one.weight is not None else {}))
    if not references and not rule.redirect and not rule.direct_response:
        raise LegacyError("a rule has no destination. Add its route.")
    return made | ({"backendRefs": references} if references else {})


def _changes(changes: Changes) -> dict:
    if any(name.lower() in (":authority", "host") for name in (*changes.set, *changes.add, *changes.remove)):
        raise LegacyError("a change of the Host header is a rewrite. Write rewrite.authority.")
    lists = {key: [{"name": name, "value": value} for name, value in values.items()]
             for key, values in (("set", changes.set), ("add", changes.add)) if values}  # fmt: skip
    return lists | ({"remove": changes.remove} if changes.remove else {})


def _redirect(rule: Rule) -> dict:
    stated = rule.redirect
    assert stated
    if "%" in stated.uri:
        raise LegacyError("a redirect with a placeholder has no equal. Write the whole path.")
    made = {"scheme": stated.scheme, "hostname": stated.authority, "port": stated.port}
    made = {key: value for key, value in made.items() if value}
    path = {"path": {"type": "ReplaceFullPath", "replaceFullPath": stated.uri}} if stated.uri else {}
    return {**made, **path, "statusCode": stated.redirect_code}


def _once(texts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(texts))
