"""Ingresses of ingress-nginx as a Gateway and HTTPRoutes; auth-url becomes a CUSTOM policy that asks an authorizer.

Source: https://kubernetes.github.io/ingress-nginx/user-guide/nginx-configuration/annotations/ and
https://istio.io/latest/docs/tasks/security/authorization/authz-custom/
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from lib.errors import LegacyError
from lib.gateway_api import exposure, filters, nginx
from lib.gateway_api.gateways import CLASS, of, to_https
from lib.gateway_api.nginx import HARMLESS
from lib.gateway_api.read import Ingress
from lib.gateway_api.routes import Backend, backend
from lib.legacy.read import checked
from lib.legacy.write import Translated, manifest
from lib.names import GATEWAY_GROUP

NGINX = "nginx.ingress.kubernetes.io/"
NAME = "ingress"
KNOWN = ("auth-url", "auth-signin", "auth-response-headers", "ssl-redirect", "rewrite-target", "use-regex")
PLAIN_PATH = re.compile(r"(/(?!\.{1,2}(/|$))[A-Za-z0-9._~-]+)*/?")  # nginx decodes a path before it compares it
REST = re.compile(r"(/.*[^/])\(/\|\$\)\(\.\*\)")  # /app(/|$)(.*)
TARGET = [{"group": GATEWAY_GROUP, "kind": "Gateway", "name": NAME}]
SENT = ["authorization", "cookie", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-uri"]
BACK = ["content-type", "location", "set-cookie", "www-authenticate"]
ONE = (
    "All Ingresses of the namespace {0} become one Gateway with its own address. Point the hosts' DNS names at its "
    "Service {1}-istio, then delete the Ingresses."
)
TO_HTTPS = "ssl-redirect: plain HTTP is redirected, with 301 instead of nginx's 308."
PLAIN = "ssl-redirect is false: {0} is also answered in plain HTTP, as before."
LOST = "{0} is left out: it sets sizes or times of nginx."
LOOSE = "{0} is ImplementationSpecific, so nginx took {0}x too. The path now ends at a segment, and {0}x gets 404."
MERGED = (
    "nginx decoded a path, resolved its .. and merged its slashes before it chose a location. This gateway does too, "
    "and sends the path on in that form; nginx sent it on as it came."
)
NO_CASE = "rewrite-target made nginx compare the paths of {0} without case; the routes compare segments, with case."
PROVIDER = (
    "Add this authorizer to the mesh's configuration (meshConfig). Until then Istio denies every request that the "
    "policy covers: {0}"
)
ASKS = (
    "auth-url: the authorizer gets the request's method and its path after {0}. Only 200 lets a request pass; nginx "
    "took any 2xx. It is asked before the redirect to https too."
)
SIGN_IN = (
    "auth-signin: Envoy redirects nobody to {0}. The authorizer itself must answer 302 with that Location; otherwise a "
    "person without a session sees its 401."
)
SPOOF = (
    "auth-response-headers: nginx replaced these headers even if the authorizer sent none. So the gateway removes what "
    "the client sent, at all hosts, before it asks the authorizer."
)


@dataclass(frozen=True)
class Way:
    """A path of a host: where it leads to and who is asked before."""

    ingress: str
    host: str
    path: str
    exact: bool
    backend: Backend
    rewrite: dict = field(default_factory=dict)
    auth: tuple[str, ...] = ()  # auth-url, auth-signin, auth-response-headers
    redirects: bool = True
    regex: bool = False
    loose: bool = False  # whether nginx takes /apix for /api too

    def patterns(self, free: bool = False) -> list[str]:
        """Return the path as strings of an AuthorizationPolicy; `free`: without what nginx redirects to /path/."""
        bare = self.path.rstrip("/")
        if self.exact or not bare:
            return [self.path if self.exact else "/*"]
        return [f"{bare}/*"] if free and bare != self.path else [bare, f"{bare}/*"]

    def below(self, other: Way) -> bool:
        """Return whether this path wins over another one for some requests."""
        inside = f"{self.path.rstrip('/')}/".startswith(f"{other.path.rstrip('/')}/") and not other.exact
        return inside and (self.exact, len(self.path)) > (other.exact, len(other.path))


def translate(found: Sequence[Mapping], services: Sequence[Mapping], authorizer: str = "") -> list[Translated]:
    """Return what replaces the Ingresses of one namespace.

    Args:
        found: The Ingresses.
        services: The Services, for backends that name a port by its name.
        authorizer: The URL of the authorizer inside the cluster, for each auth-url that names another place.

    Raises:
        LegacyError: An annotation or a combination of Ingresses has no equal.
    """
    home = found[0]["metadata"]["namespace"]
    specs = [(one, checked(Ingress, one["spec"], "the Ingresses that can be translated")) for one in found]
    secrets: dict[str, str] = {}
    ways, notes = [], [ONE.format(home, NAME)]
    for one, content in specs:
        for tls in content.tls:
            for host in tls.hosts:
                if secrets.setdefault(host, tls.secret_name) != tls.secret_name:
                    raise LegacyError(f"{host} has two certificates. Name one.")
        ways += _ways(one, content, home, services, notes)
    _check(ways)
    listeners = [_secure(place, host, secret) for place, (host, secret) in enumerate(secrets.items())]
    names = {listener["hostname"]: listener["name"] for listener in listeners}
    listeners.append(
        {"name": "http", "port": 80, "protocol": "HTTP", "allowedRoutes": {"namespaces": {"from": "Same"}}}
    )
    service = nginx.service(services, {one["port"] for one in listeners})
    notes += [] if service else [nginx.NO_SERVICE]
    infrastructure, made = exposure.infrastructure(NAME, home, service or {"metadata": {}, "spec": {}}, {})
    spec = {"gatewayClassName": CLASS, "infrastructure": infrastructure, "listeners": listeners}
    made.append(Translated(of("Gateway", NAME, home, {"spec": spec}), list(dict.fromkeys(notes))))
    made.append(Translated(filters.decoded(home, f"{NAME}-paths", TARGET), [MERGED]))
    hosts = sorted({way.host for way in ways if way.redirects and way.host in names})
    if hosts:
        made.append(Translated(to_https(NAME, home, ["http"], hosts), [TO_HTTPS]))
    for host in dict.fromkeys(way.host for way in ways):
        made.append(_route(home, host, [way for way in ways if way.host == host], names.get(host, "")))
    return made + _custom(home, ways, authorizer)


def _ways(one: Mapping, spec: Ingress, home: str, services: Sequence[Mapping], notes: list[str]) -> list[Way]:
    stated = {key.removeprefix(NGINX): str(value) for key, value in (one["metadata"].get("annotations") or {}).items()
              if key.startswith(NGINX)}  # fmt: skip
    for key in stated:
        if key not in (*KNOWN, *HARMLESS):
            raise LegacyError(f"the annotation {key} has no equal here. Remove it, and write its work with Istio.")
    notes += [LOST.format(key) for key in stated if key in HARMLESS]
    auth: tuple[str, ...] = ()
    if "auth-url" in stated:
        auth = (stated["auth-url"], stated.get("auth-signin", ""), stated.get("auth-response-headers", ""))
    elif {"auth-signin", "auth-response-headers"} & stated.keys():
        raise LegacyError("auth-signin and auth-response-headers do nothing without auth-url. Remove them.")
    made = []
    for rule in spec.rules:
        for path in rule.http.paths:
            service = path.backend.service
            to = backend(service.name, service.port.number or service.port.name, home, services)
            bare, exact, rewrite = _path(path.path, path.path_type == "Exact", stated)
            loose = path.path_type == "ImplementationSpecific" and not path.path.endswith("/")
            made.append(Way(one["metadata"]["name"], rule.host, bare, exact, to, rewrite, auth,
                            stated.get("ssl-redirect", "true") != "false",
                            bool({"rewrite-target", "use-regex"} & stated.keys()), loose))  # fmt: skip
    return made


def _path(path: str, exact: bool, stated: Mapping[str, str]) -> tuple[str, bool, dict]:
    """Return the path, whether it is exact, and the rewrite. Of regular expressions only /app(/|$)(.*) has an equal."""
    target = stated.get("rewrite-target", "")
    if (hit := REST.fullmatch(path)) and PLAIN_PATH.fullmatch(hit[1]):
        if not re.fullmatch(r"(/[^$]*)?/\$2", target):
            raise LegacyError(
                f"the path {path} with the rewrite-target {target or 'none'} has no equal. Rewrite to /$2."
            )
        return hit[1], False, {"type": "ReplacePrefixMatch", "replacePrefixMatch": target.removesuffix("$2")}
    if not PLAIN_PATH.fullmatch(path) or "$" in target or stated.get("use-regex", "false") != "false":
        raise LegacyError(
            f"the regular expression {path} has no equal. Write paths of letters, digits and -._~ between single "
            "slashes, or /app(/|$)(.*) with /$2."
        )
    return path, exact, {"type": "ReplaceFullPath", "replaceFullPath": target} if target else {}


def _check(ways: Sequence[Way]) -> None:
    regexes = {way.host for way in ways if way.regex}
    for place, one in enumerate(ways):
        for other in [each for each in ways if each.host == one.host and each is not one and not each.exact]:
            if one.loose and one.host not in regexes and one.path.startswith(f"{other.path.rstrip('/')}/"):
                raise LegacyError(
                    f"{one.host}{one.path} is ImplementationSpecific: nginx takes {one.path}x for it too, and here "
                    f"{other.path} would. Write pathType Prefix, so that {one.path}x is {other.path}'s already today."
                )
        for other in [each for each in ways[:place] if each.host == one.host]:
            if (one.path.rstrip("/"), one.exact) == (other.path.rstrip("/"), other.exact):
                raise LegacyError(f"{one.host}{one.path} occurs twice. Remove one.")
            if one.redirects != other.redirects:
                raise LegacyError(f"{one.host} redirects to https on some paths only. Set ssl-redirect alike.")
            if one.host in regexes and one.auth != other.auth:
                raise LegacyError(
                    f"{one.host} has a rewrite-target, so nginx reads its paths as regular expressions without case. "
                    f"Here a path in capitals would miss {one.path} or {other.path}, and one of them has another "
                    "auth-url. Give them other hosts."
                )


def _secure(place: int, host: str, secret: str) -> dict:
    tls = {"mode": "Terminate", "certificateRefs": [{"name": secret}]}
    return {"name": f"https-{place}", "port": 443, "protocol": "HTTPS", "hostname": host, "tls": tls,
            "allowedRoutes": {"namespaces": {"from": "Same"}}}  # fmt: skip


def _route(home: str, host: str, ways: Sequence[Way], section: str) -> Translated:
    rules = []
    for way in ways:
        path = {"type": "Exact" if way.exact else "PathPrefix", "value": way.path}
        filters = [{"type": "URLRewrite", "urlRewrite": {"path": way.rewrite}}] if way.rewrite else []
        rule = {"matches": [{"path": path}], **({"filters": filters} if filters else {})}
        rules.append({**rule, "backendRefs": [way.backend.reference(home)]})
    both = section and not ways[0].redirects
    sections = [section or "http", *(["http"] if both else [])]
    spec = {"parentRefs": [{"name": NAME, "sectionName": one} for one in sections], "hostnames": [host], "rules": rules}
    notes = [PLAIN.format(host)] if both else []
    regex = any(way.regex for way in ways)
    warnings = [NO_CASE.format(host)] if regex else [LOOSE.format(way.path) for way in ways if way.loose]
    name = f"{ways[0].ingress}-{host.replace('*', 'any')}"
    return Translated(of("HTTPRoute", name, home, {"spec": spec}), notes, warnings)


def _custom(home: str, ways: Sequence[Way], authorizer: str) -> list[Translated]:
    """Return the policy that asks the authorizer, and the filter that removes its headers from clients' requests."""
    asked = list(dict.fromkeys(way.auth for way in ways if way.auth))
    if not asked:
        return []
    if len(asked) > 1:
        raise LegacyError("Istio asks one authorizer at a gateway, and the Ingresses have several auth-url. Keep one.")
    url, sign_in, headers = asked[0]
    to = urlsplit(authorizer or url)
    host = to.hostname or ""
    if (
        to.scheme != "http"
        or not host.endswith((".svc", ".svc.cluster.local"))
        or "$" in (authorizer or url)
        or to.query
    ):
        raise LegacyError(
            f"auth-url {url} is no plain address inside the cluster, and the mesh has to reach the authorizer. Name "
            "its Service: --authorizer http://NAME.NAMESPACE.svc.cluster.local:PORT/PATH."
        )
    names = [one.strip().lower() for one in headers.split(",") if one.strip()]
    provider = "-".join(host.split(".")[:2])
    prefix = {"pathPrefix": to.path} if to.path not in ("", "/") else {}
    lists = {"includeRequestHeadersInCheck": SENT, "headersToDownstreamOnDeny": BACK}
    lists |= {"headersToUpstreamOnAllow": names} if names else {}
    config = {"service": host, "port": to.port or 80, **prefix, **lists}
    stated = json.dumps({"extensionProviders": [{"name": provider, "envoyExtAuthzHttp": config}]})
    rules = []
    for way in [one for one in ways if one.auth]:
        if "*" in way.host:
            raise LegacyError(
                f"auth-url for {way.host}: a policy cannot name all its hosts with a port. Name each host."
            )
        free = [path for other in ways if other.host == way.host and not other.auth and other.below(way)
                for path in other.patterns(free=True)]  # fmt: skip
        operation = {"hosts": [way.host, f"{way.host}:*"], "paths": way.patterns()}
        rules.append({"to": [{"operation": operation | ({"notPaths": free} if free else {})}]})
    spec = {"targetRefs": TARGET, "action": "CUSTOM", "provider": {"name": provider}, "rules": rules}
    careful = [ASKS.format(to.path or "/"), *([SIGN_IN.format(sign_in)] if sign_in else [])]
    policy = manifest("AuthorizationPolicy", f"{NAME}-auth", home, spec)
    made = [Translated(policy, [PROVIDER.format(stated)], careful)]
    return made + ([Translated(filters.without(home, f"{NAME}-auth-headers", names, TARGET), [SPOOF])] if names else [])
