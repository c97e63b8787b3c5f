"""MeshPolicy and Policy as today's PeerAuthentication, RequestAuthentication and AuthorizationPolicy."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from lib.errors import LegacyError
from lib.legacy.precedence import Ruling, tokens
from lib.legacy.read import Found, Jwt, Match, Spec, Target, Trigger
from lib.legacy.services import Services
from lib.legacy.write import Translated, manifest

FORWARDED = "Then the token always went on to the application; today only with forwardOriginalToken."
OLD_PATH = "/auth left Keycloak's paths with version 17: today's issuer is without it, unless it was put back."
MISSING = "A request without a token was 401 then; today it is 403: RequestAuthentication lets it pass, this denies it."
SUBJECT = "Today a token counts as a principal only with iss and sub; then it counted without sub too."
PREFLIGHT = (
    "A browser's preflight (OPTIONS with Origin and Access-Control-Request-Method) passed without a token then; today "
    "it is 403. Where browsers call from other origins, add notMethods: [OPTIONS] to the operation; then "
    "each OPTIONS passes."
)
AUDIENCE = "A token for another audience was 401 then, and is 403 today."
ANY_AUDIENCE = "No audience is named: any will do. The old pages promised the Service's name, but nothing checked it."
ORIGIN = "principalBinding is gone: today a request has both identities, source.principal and request.auth.principal."
PEER = "USE_PEER: then request.auth.principal was the caller's service account; today it is the token's iss/sub."
INHERITED = "The origins are those of the {wider}, and hold by it: today they are not said twice."
BARE = "Then (1.4) the header Authorization was to have the bare token when it was named; here it has Bearer before it."
KEYS = "Both jwks and jwksUri stood there: then jwks won, so that the other is left out."
OFF = "No peers were listed, so that mutual TLS was off; without this object the wider one holds, or PERMISSIVE."
STRICT = "mtls: mutual TLS and nothing else. No DestinationRule is needed for it: clients find out."
FIRST = "Several peers: then the first told the listener what to take."
NOT_OPTIONAL = "peerIsOptional: the listener of a STRICT sidecar took no plain text then either, so it is STRICT."
PORTS = "Ports are the workload's today, not the Service's."
# where today's objects refuse what was let in
EVERYWHERE = "then a token was looked at on these paths only; today a bad token is 401 on every path."
ALL_PORTS = "then a token was looked at on these ports only; today a bad token is 401 on all of the workload's."
OPTIONAL = "originIsOptional: then a bad token passed as if there were none; today it is 401, or 403 for its audience."
TCP = (
    "then no token was asked on plain TCP ports; today this denies them altogether. With the Service's manifest "
    "(--services) it is for the HTTP ports alone: each port's name tells its protocol."
)
TCP_WIDE = "then no token was asked on plain TCP ports; today this denies those of all its workloads altogether."
ALL_TCP = "All ports are plain TCP, on which no token was asked then, nor is it now."

Put = Callable[[str, str, dict], dict]  # builds an object from kind, name and spec


def translate(policy: Found, root: str, ruling: Ruling, services: Services) -> list[Translated]:
    """Return today's objects for one old policy; LegacyError where there is no equal."""
    spec, namespace = policy.spec, policy.namespace or root
    made = []
    for target in spec.targets or [None]:
        selector = {"selector": {"matchLabels": services.labels(target.name, namespace)}} if target else {}
        ports = services.ports(target.name, namespace, target.ports) if target else []
        own = f"{policy.name}-{target.name}" if len(spec.targets) > 1 else policy.name
        put = lambda kind, name, content, selector=selector: manifest(  # noqa: E731
            kind, name, namespace, {**selector, **content}, policy.metadata
        )
        made.append(_peers(spec, put, own, ports))
        wider = ruling.wider(policy)
        if spec.origins and wider and tokens(wider) == tokens(policy):
            made[-1] = Translated(made[-1].manifest, [*made[-1].notes, INHERITED.format(wider=wider)])
        elif spec.origins:
            made.append(_origins(spec, put, own, ports))
            if not spec.origin_is_optional:
                made.append(_demand(spec, put, own, namespace, target, ports, services))
    return made


def _peers(spec: Spec, put: Put, name: str, ports: list[int]) -> Translated:
    mode, notes = _mode(spec)
    content: dict = {"portLevelMtls": {port: {"mode": mode} for port in ports}} if ports else {"mtls": {"mode": mode}}
    return Translated(put("PeerAuthentication", name, content), [*notes, *([PORTS] if ports else [])])


def _mode(spec: Spec) -> tuple[str, list[str]]:
    """The first decides, as it did: pilot/pkg/security/authn/v1alpha1/policy_applier.go, GetMutualTLS."""
    if any(one.jwt for one in spec.peers):
        raise LegacyError("expected peers by mtls, got a jwt among them; no peer is known by a token today.")
    if any(one.mtls is None for one in spec.peers):
        raise LegacyError("expected mtls in each of the peers, got an empty one; write what was meant.")
    ways = [one.mtls for one in spec.peers if one.mtls]
    if any(one.allow_tls for one in ways):
        raise LegacyError("expected mtls without allowTls, got allowTls: true; it has no equal today.")
    if not ways:
        return "DISABLE", [OFF]
    several = [FIRST] if len(ways) > 1 else []
    if ways[0].mode == "PERMISSIVE":
        return "PERMISSIVE", ["As it was: plain text is let in too.", *several]
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
    spec: Spec, put: Put, name: str, namespace: str, target: Target | None, ports: list[int], services: Services
) -> Translated:
    """DENY and no ALLOW: authentication came before authorization then, whatever that allowed."""
    jwts = [one.jwt for one in spec.origins]
    if any(one.trigger_rules != jwts[0].trigger_rules for one in jwts):
        raise LegacyError("expected the same triggerRules for all issuers, got others; split the paths by hand.")
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
        raise LegacyError("expected jwtHeaders without ingress-authorization, got it: an exchanged token has no equal.")
    if "*" in jwt.issuer:
        raise LegacyError(f"expected an issuer without *, got {jwt.issuer}; write the token's iss.")
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
    """Paths that are looked at, and among these not; {} for all."""
    paths = {"paths": _paths(trigger.included_paths), "notPaths": _paths(trigger.excluded_paths)}
    return {key: value for key, value in paths.items() if value}


def _paths(found: list[Match]) -> list[str]:
    for one in found:
        if one.regex:
            raise LegacyError(f"expected paths by exact, prefix or suffix, got the regex {one.regex}; list the paths.")
        if len([value for value in (one.exact, one.prefix, one.suffix) if value]) != 1:
            raise LegacyError("expected one of exact, prefix and suffix for a path, got none or several; write one.")
        if set("*{") & set(f"{one.exact}{one.prefix}{one.suffix}"):
            raise LegacyError("expected a path without * and {, got one with it; today it would be a pattern.")
    return [one.exact or (f"{one.prefix}*" if one.prefix else f"*{one.suffix}") for one in found]
