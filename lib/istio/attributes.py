"""The attributes of a request that a policy's rules compare: their values, and whether a rule's values match them.

Source: istio/istio 1.31, pilot/pkg/security/authz/model/model.go and generator.go.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lib.istio import matching
from lib.istio.mesh import Mesh
from lib.istio.routes import LINES

HTTP = ("hosts", "methods", "paths", "request.")  # attributes that a TCP connection does not have
CLAIMS, HEADERS, FILTERS = "request.auth.claims", "request.headers", "experimental.envoy.filters."
OF_TOKEN = {"request.auth.audiences": "aud", "request.auth.presenter": "azp"}  # attributes that are one claim
PROXIES = ("x-forwarded-", "x-envoy-", "x-request-id", "x-b3-", "traceparent", "tracestate", "x-real-ip", "via")


@dataclass(frozen=True)
class Call:
    """What a policy can compare of a request; None is a value that is not known.

    Attributes:
        principal: The peer's, as td/ns/foo/sa/web; "" without mutual TLS.
        claims: The claims of the token that the proxy accepted; {} without one.
        host: The Host header, with its port if it has one.
        method: The HTTP method.
        path: The path and the query, as the proxy got them.
        port: The workload's port.
        headers: The headers as the policies see them. A header that is missing here is not in the request.
        unread: The headers before the proxy's JWT filter changed them, as CUSTOM policies see them; None if it did not.
        complete: Whether proxies on the way may have added headers of their own (x-forwarded-…).
        source_ip: The address of the connection to the proxy.
        remote_ip: The client's address: from X-Forwarded-For or the PROXY protocol, else that of the connection.
        destination_ip: The workload's address.
        sni: The server name of the TLS connection.
        tcp: Whether the port carries plain TCP.
    """

    principal: str | None = ""
    claims: Mapping[str, Any] = field(default_factory=dict)
    host: str | None = ""
    method: str = "GET"
    path: str | None = "/"
    port: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    unread: Mapping[str, str] | None = None
    complete: bool = False
    source_ip: str | None = None
    remote_ip: str | None = None
    destination_ip: str | None = None
    sni: str | None = None
    tcp: bool = False


def got(attribute: str, call: Call) -> str:
    """Return a call's value of an attribute as text, "" if it has none."""
    if attribute.startswith(CLAIMS):
        value = matching.claim_value(call.claims, matching.claim_names(attribute.removeprefix(CLAIMS)) or [])
        return ", ".join(map(str, value)) if isinstance(value, list) else "" if value is None else str(value)
    if attribute.startswith(HEADERS):
        return _headers(call).get(attribute[len(HEADERS) + 1 : -1].lower(), "").replace(LINES, ", ")
    if attribute == "request.auth.principal":
        return f"{call.claims['iss']}/{call.claims['sub']}" if {"iss", "sub"} <= call.claims.keys() else ""
    if attribute in ("source.namespace", "source.serviceAccount"):
        parts = (call.principal or "").split("/")
        if len(parts) < 5:
            return ""
        return parts[2] if attribute == "source.namespace" else f"{parts[2]}/{parts[4]}"
    if claim := OF_TOKEN.get(attribute):
        return got(f"{CLAIMS}[{claim}]", call)
    values = {
        "source.principal": call.principal,
        "source.trustDomain": (call.principal or "").partition("/")[0],
        "paths": (call.path or "").partition("?")[0],
        **_plain(call),
    }
    return values.get(attribute) or ""


def _plain(call: Call) -> dict[str, str | None]:
    """Return the attributes that are compared as they are."""
    return {
        "source.ip": call.source_ip,
        "remote.ip": call.remote_ip,
        "destination.ip": call.destination_ip,
        "destination.port": call.port,
        "connection.sni": call.sni,
        "hosts": call.host,
        "methods": call.method,
    }


def any_matches(attribute: str, patterns: Sequence[str], call: Call, mesh: Mesh, home: str) -> bool | None:
    """Return whether a call's attribute matches one of these patterns; None if the attribute is not known."""
    if attribute.startswith(FILTERS):
        return None
    if attribute.startswith(CLAIMS):
        value = matching.claim_value(call.claims, matching.claim_names(attribute.removeprefix(CLAIMS)) or [])
        return any(matching.claim(one, value) for one in patterns)
    if attribute.startswith(HEADERS):
        header = attribute[len(HEADERS) + 1 : -1].lower()
        value = _headers(call).get(header)
        if header == ":path" and (value := matching.normalized(value or "", mesh.normalization)) is None:
            return None
        if value is None:
            return None if not call.complete and header.startswith(PROXIES) else False
        return any(matching.present(one, line) for one in patterns for line in value.split(LINES))  # as Envoy does
    if claim := OF_TOKEN.get(attribute):
        return any(matching.claim(one, call.claims.get(claim)) for one in patterns)
    if attribute == "request.auth.principal":
        return any(matching.request_principal(one, call.claims) for one in patterns)
    if attribute == "source.serviceAccount":
        return _compared(call.principal, patterns, lambda one, value: matching.service_account(one, value, home))
    if attribute == "source.principal":
        domains = [mesh.trust_domain, *mesh.aliases]
        patterns = [one for pattern in patterns for one in matching.with_aliases(pattern, domains)]
    if attribute == "source.trustDomain" and set(patterns) & {mesh.trust_domain, *mesh.aliases}:
        patterns = [*patterns, mesh.trust_domain, *mesh.aliases]
    if attribute == "paths":
        return _compared(_path(call, mesh), patterns, COMPARE[attribute])
    values = {
        "source.principal": call.principal,
        "source.namespace": call.principal,
        "source.trustDomain": call.principal,
        **_plain(call),
    }
    return _compared(values[attribute], patterns, COMPARE.get(attribute, matching.text))


COMPARE: dict[str, Callable[[str, str], bool]] = {
    "source.principal": matching.principal,
    "source.namespace": matching.namespace,
    "source.trustDomain": matching.trust_domain,
    "source.ip": matching.address,
    "remote.ip": matching.address,
    "destination.ip": matching.address,
    "destination.port": lambda pattern, value: pattern == value,
    "hosts": matching.host,
    "methods": matching.present,
    "paths": matching.path,
}
KEYS = (*COMPARE, "source.serviceAccount", "request.auth.principal", "request.auth.audiences", "request.auth.presenter")
NO_KEYS = ("hosts", "methods", "paths")  # attributes that `when` cannot name


def known_key(key: str) -> bool:
    """Return whether Istio knows a key of `when`."""
    if key.startswith(CLAIMS):
        return matching.claim_names(key.removeprefix(CLAIMS)) is not None
    if key.startswith((HEADERS, FILTERS)):
        return key.endswith("]") and "[" in key
    return key in (*KEYS, "connection.sni") and key not in NO_KEYS


def _compared(value: str | None, patterns: Sequence[str], fits: Callable[[str, str], bool]) -> bool | None:
    return None if value is None else any(fits(one, value) for one in patterns)


def _path(call: Call, mesh: Mesh) -> str | None:
    found = matching.normalized(call.path, mesh.normalization) if call.path is not None else None
    return None if found is None else found.partition("#")[0].partition("?")[0]


def _headers(call: Call) -> dict[str, str]:
    """Return the headers by lower-case names, with those that HTTP/2 names :method, :path and :authority."""
    found = {key.lower(): value for key, value in call.headers.items()}
    made = {":method": call.method, ":path": call.path, ":authority": call.host, "host": call.host}
    return found | {key: value for key, value in made.items() if value is not None}
