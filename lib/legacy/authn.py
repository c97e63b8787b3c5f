"""MeshPolicy and Policy as today's PeerAuthentication, RequestAuthentication and AuthorizationPolicy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from lib.errors import LegacyError
from lib.legacy.precedence import Ruling, tokens
from lib.legacy.read import Found, Jwt, Match, Spec, TargetSelector, Trigger
from lib.legacy.services import Services
from lib.legacy.write import Translated, manifest

FORWARDED = "Istio 1.4 always forwarded the token to the application; Istio now needs forwardOriginalToken for that."
OLD_PATH = "Keycloak 17 removed /auth from its paths. Remove it from the issuer too, unless your Keycloak still has it."
MISSING = (
    "Istio 1.4 answered 401 to a request without a token; Istio now answers 403. RequestAuthentication lets the "
    "request pass, and this policy denies it."
)
SUBJECT = "A principal now needs a token with iss and sub; in Istio 1.4 a token without sub counted too."
PREFLIGHT = (
    "Istio 1.4 let a browser's preflight (OPTIONS with Origin and Access-Control-Request-Method) pass without a token; "
    "Istio now answers 403. If browsers call from other origins, add notMethods: [OPTIONS] to the operation; every "
    "OPTIONS request then passes."
)
AUDIENCE = "Istio 1.4 answered 401 to a token for another audience; Istio now answers 403."
ANY_AUDIENCE = (
    "No audience is named: Istio accepts a token for any audience. The old documentation promised a check against the "
    "Service's name, but Istio 1.4 did not check it."
)
ORIGIN = "principalBinding is gone: a request now has two identities, source.principal and request.auth.principal."
PEER = "USE_PEER: request.auth.principal was the caller's service account in Istio 1.4; it is now the token's iss/sub."
INHERITED = "The origins equal those of {wider}, whose objects apply to these pods too: they are not written again."
BARE = "jwtHeaders names Authorization: Istio 1.4 expected the bare token there; this rule expects Bearer before it."
KEYS = "The policy had both jwks and jwksUri: Istio 1.4 used jwks, and jwksUri is left out."
OFF = "No peers: mutual TLS was off. Without this object the pods would get the wider policy's mode, or PERMISSIVE."
STRICT = "mtls: the pods accept only mutual TLS. No DestinationRule is needed: clients detect mutual TLS."
FIRST = "Several peers: in Istio 1.4 the first one set the mode of the listener."
NOT_OPTIONAL = "peerIsOptional: a STRICT sidecar refused plain text in Istio 1.4 too, and the mode stays STRICT."
PORTS = "Ports are now the workload's ports, not the Service's."
# warnings: today's objects refuse requests that Istio 1.4 let in
EVERYWHERE = "Istio 1.4 checked a token on these paths only; Istio now answers 401 to a bad token on every path."
ALL_PORTS = "Istio 1.4 checked a token on these ports only; Istio now answers 401 to a bad token on every port."
OPTIONAL = (
    "originIsOptional: Istio 1.4 treated a bad token like no token; Istio now answers 401, or 403 if only the audience "
    "is wrong."
)
TCP = (
    "Istio 1.4 asked for no token on plain TCP ports; this policy denies every connection to them. Pass the Service's "
    "manifest (--services): if the port names tell the protocols, the policy applies to the HTTP ports only."
)
TCP_WIDE = "Istio 1.4 asked for no token on plain TCP ports; this policy denies every connection to them, on all pods."
GATEWAY = (
    "At a gateway, the Gateway says what TLS a port takes: no PeerAuthentication. In the root namespace this selector "
    "selects pods of every namespace: only gateways may have these labels."
)
GATEWAY_PORTS = (
    "Istio 1.4 demanded the token on some ports of the gateway only; this policy demands it on all. Pass the gateway's "
    "Service (--services) to keep the ports."
)
ALL_TCP = "All ports are plain TCP: Istio 1.4 asked for no token on them, and Istio asks for none now."

Put = Callable[[str, str, dict], dict]  # builds an object from kind, name and spec


def translate(policy: Found, root: str, ruling: Ruling, services: Services) -> list[Translated]:
    """Return today's objects for one old policy.

    Raises:
        LegacyError: Today's API has no equal of the policy.
    """
    spec, namespace = policy.spec, policy.namespace or root
    made = []
    for target in spec.targets or [None]:
        selector = {"selector": {"matchLabels": services.labels(target.name, namespace)}} if target else {}
        gateway = target is not None and namespace == root
        unseen = gateway and target and target.ports and not services.knows_ports(target.name, namespace)
        ports = services.ports(target.name, namespace, target.ports) if target and not unseen else []
        own = f"{policy.name}-{target.name}" if len(spec.targets) > 1 else policy.name
        put = _put(namespace, selector, policy.metadata)
        made.append(Translated({}, [GATEWAY]) if gateway else _peers(spec, put, own, ports))
        wider = ruling.wider(policy)
        if spec.origins and wider and tokens(wider) == tokens(policy):
            made[-1] = Translated(made[-1].manifest, [*made[-1].notes, INHERITED.format(wider=wider)])
        elif spec.origins:
            made.append(_origins(spec, put, own, ports))
            if not spec.origin_is_optional:
                demand = _demand(spec, put, own, namespace, target, ports, services)
                careful = [one for one in demand.warnings if not (gateway and one == TCP)]
                made.append(replace(demand, warnings=[*careful, *([GATEWAY_PORTS] if unseen else [])]))
    return made


def _put(namespace: str, selector: Mapping, metadata: Mapping) -> Put:
    """Return a function that builds an object for the selected pods."""

    def put(kind: str, name: str, content: dict) -> dict:
        return manifest(kind, name, namespace, {**selector, **content}, metadata)

    return put


def _peers(spec: Spec, put: Put, name: str, ports: list[int]) -> Translated:
    mode, notes = _mode(spec)
    content: dict = {"portLevelMtls": {port: {"mode": mode} for port in ports}} if ports else {"mtls": {"mode": mode}}
    return Translated(put("PeerAuthentication", name, content), [*notes, *([PORTS] if ports else [])])


def _mode(spec: Spec) -> tuple[str, list[str]]:
    """Return the mode of the first peer. Source: pilot/pkg/security/authn/v1alpha1/policy_applier.go, GetMutualTLS."""
    if any(one.jwt for one in spec.peers):
        raise LegacyError("peers has a jwt, but Istio no longer identifies a peer by a token. Remove the jwt.")
    if any(one.mtls is None for one in spec.peers):
        raise LegacyError("peers has an empty entry. Write mtls: {} for mutual TLS, or remove the entry.")
    ways = [one.mtls for one in spec.peers if one.mtls]
    if any(one.allow_tls for one in ways):
        raise LegacyError("mtls has allowTls: true, which has no equal today. Remove allowTls.")
    if not ways:
        return "DISABLE", [OFF]
    several = [FIRST] if len(ways) > 1 else []
    if ways[0].mode == "PERMISSIVE":
        return "PERMISSIVE", ["PERMISSIVE as before: plain text may enter too.", *several]
    return "STRICT", [STRICT, *several, *([NOT_OPTIONAL] if spec.peer_is_optional else [])]


def _origins(spec: Spec, put: Put, name: str, ports: list[int]) -> Translated:
    jwts = [one.jwt for one in spec.origins]
    notes = {
        FORWARDED: True,
        AUDIENCE: any(one.audiences for one in jwts),
        ANY_AUDIENCE: any(not one.audiences for one in jwts),
        ORIGIN: spec.principal_binding == "USE_ORIGIN",
        PEER: spec.principal_binding == "USE_PEER",
        OLD_PATH: any("/auth/realms/" in one.issuer for one in jwts),
        BARE: any(header.lower() == "authorization" for one in jwts for header in one.jwt_headers),
        KEYS: any(one.jwks and one.jwks_uri for one in jwts),
    }
    careful = {
        EVERYWHERE: any(one.trigger_rules for one in jwts),
        ALL_PORTS: bool(ports),
        OPTIONAL: spec.origin_is_optional,
    }
    made = put("RequestAuthentication", name, {"jwtRules": [_rule(one) for one in jwts]})
    return Translated(made, [one for one, so in notes.items() if so], [one for one, so in careful.items() if so])


def _demand(
    spec: Spec, put: Put, name: str, namespace: str, target: TargetSelector | None, ports: list[int], services: Services
) -> Translated:
    """Return a DENY policy, not an ALLOW: Istio 1.4 authenticated a request before any authorization."""
    jwts = [one.jwt for one in spec.origins]
    if any(one.trigger_rules != jwts[0].trigger_rules for one in jwts):
        raise LegacyError("the issuers have different triggerRules. Write one policy for each set of paths by hand.")
    http = services.http(target.name, namespace) if target else None
    if target and http is not None and services.tcp(target.name, namespace):
        ports = [one for one in ports or http if one in http]
        if not ports:
            return Translated({}, [ALL_TCP])
    operations = [_operation(one) for one in jwts[0].trigger_rules] or [{}]
    if ports:
        operations = [{**one, "ports": [str(port) for port in ports]} for one in operations]
    rule: dict = {"from": [{"source": {"notRequestPrincipals": [f"{one.issuer}/*" for one in jwts]}}]}
    if all(operations):
        rule["to"] = [{"operation": one} for one in operations]
    made = put("AuthorizationPolicy", f"{name}-needs-token", {"action": "DENY", "rules": [rule]})
    careful = [TCP_WIDE] if target is None else [TCP] if http is None else []
    return Translated(made, [MISSING, SUBJECT, PREFLIGHT], careful)


def _rule(jwt: Jwt) -> dict:
    if any(one.lower() == "ingress-authorization" for one in jwt.jwt_headers):
        raise LegacyError("jwtHeaders names ingress-authorization, which has no equal today. Remove that header.")
    if "*" in jwt.issuer:
        raise LegacyError(f"the issuer {jwt.issuer} has a *. Write the exact iss of the token.")
    stated = {
        "issuer": jwt.issuer,
        "audiences": jwt.audiences,
        "jwksUri": "" if jwt.jwks else jwt.jwks_uri,
        "jwks": jwt.jwks,
        "fromHeaders": [{"name": one, **_prefix(one)} for one in jwt.jwt_headers],
        "fromParams": jwt.jwt_params,
    }
    return {**{key: value for key, value in stated.items() if value}, "forwardOriginalToken": True}


def _prefix(header: str) -> Mapping[str, str]:
    return {"prefix": "Bearer "} if header.lower() == "authorization" else {}


def _operation(trigger: Trigger) -> dict:
    """Return the paths on which a token is checked, and the exceptions; {} for all paths."""
    paths = {"paths": _paths(trigger.included_paths), "notPaths": _paths(trigger.excluded_paths)}
    return {key: value for key, value in paths.items() if value}


def _paths(found: list[Match]) -> list[str]:
    for one in found:
        if one.regex:
            raise LegacyError(
                f"a path is the regex {one.regex}, which has no equal today. List the paths as exact, prefix or suffix."
            )
        if len([value for value in (one.exact, one.prefix, one.suffix) if value]) != 1:
            raise LegacyError("a path has none or several of exact, prefix and suffix. Write exactly one.")
        if set("*{") & set(f"{one.exact}{one.prefix}{one.suffix}"):
            raise LegacyError("a path has a * or a {, which today makes it a pattern. Write the path without them.")
    return [one.exact or (f"{one.prefix}*" if one.prefix else f"*{one.suffix}") for one in found]
