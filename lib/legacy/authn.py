"""MeshPolicy and Policy as today's PeerAuthentication, RequestAuthentication and AuthorizationPolicy."""

from __future__ import annotations

from collections.abc import Mapping

from lib.errors import LegacyError
from lib.legacy.read import Jwt, Match, Peer, Spec, Target, Trigger
from lib.legacy.services import Services
from lib.legacy.write import Translated, thing

FORWARDED = "Then the token always went on to the application; today only with forwardOriginalToken."
OLD_PATH = "/auth left Keycloak's paths with version 17: today's issuer is without it, unless it was put back."
MISSING = "A request without a token was 401 then; today it is 403: RequestAuthentication lets it pass, this denies it."
SUBJECT = "Today a token counts as a principal only with iss and sub; then iss alone would do."
AUDIENCE = "A token for another audience was 401 then, and is 403 today."
ANY_AUDIENCE = "No audience is named: then the service's name was taken for one, today any audience will do."
EVERYWHERE = "Then a token was looked at on these paths only; today a bad token is 401 on every path."
REPLACED = "Then this policy replaced the wider one as a whole; today peers, tokens and rules stand each for itself."
BOTH = "principalBinding is gone: today a request has both identities, source.principal and request.auth.principal."


def translate(spec: Spec, name: str, namespace: str, services: Services, mesh: bool, strict: bool) -> list[Translated]:
    """Return today's objects for one old policy; LegacyError where there is no equal.

    `mesh` is a MeshPolicy, `namespace` then the root namespace. `strict` refuses where the meaning is only near.
    """
    if mesh and spec.targets:
        raise LegacyError("expected a MeshPolicy without targets, got targets; make a Policy of it.")
    if not mesh and not spec.targets and name != "default":
        raise LegacyError(f"expected targets, or the name default, got neither in Policy {name}; it was invalid then.")
    if not mesh and namespace == services.root:
        raise LegacyError("expected a Policy outside of the root namespace, got one in it; move it.")
    if any(one.labels or one.subset for one in spec.targets):
        raise LegacyError("expected targets by name and ports, got labels or a subset; select these pods by hand.")
    made = []
    for target in spec.targets or [None]:
        labels = services.labels(target.name, namespace) if target else {}
        own = f"{name}-{target.name}" if target and len(spec.targets) > 1 else name
        made += _peers(spec, own, namespace, target, labels, services, mesh)
        made += _origins(spec, own, namespace, target, labels, services, strict)
    return made


def _peers(spec: Spec, name, namespace, target: Target | None, labels, services: Services, mesh) -> list[Translated]:
    mode, notes = _mode(spec.peers, spec.peer_is_optional)
    if not mesh:
        notes.append(REPLACED)
    content: dict = {"selector": {"matchLabels": labels}} if labels else {}
    ports = [services.port(target.name, namespace, port) for port in target.ports] if target else []
    if ports:
        content["portLevelMtls"] = {port: {"mode": mode} for port in ports}
        notes.append("Ports are the workload's today, not the Service's.")
    else:
        content["mtls"] = {"mode": mode}
    return [Translated(thing("PeerAuthentication", name, namespace, content), notes)]


def _mode(peers: list[Peer], optional: bool) -> tuple[str, list[str]]:
    if any(one.jwt for one in peers):
        raise LegacyError("expected peers by mtls, got a jwt among them; no peer is known by a token today.")
    if any(one.mtls is None for one in peers):
        raise LegacyError("expected mtls in each of the peers, got an empty one; write what was meant.")
    ways = [one.mtls for one in peers if one.mtls]
    if not ways:
        return "DISABLE", ["No peers were listed, so that mutual TLS was off; without this object it is PERMISSIVE."]
    if any(one.allow_tls for one in ways):
        raise LegacyError("expected mtls without allowTls, got allowTls: true; it has no equal today.")
    if optional or any(one.mode == "PERMISSIVE" for one in ways):
        why = "peerIsOptional: whoever comes without a certificate is let in." if optional else "As it was."
        return "PERMISSIVE", [why]
    return "STRICT", ["mtls: mutual TLS and nothing else. No DestinationRule is needed for it: clients find out."]


def _origins(spec: Spec, name, namespace, target, labels, services: Services, strict) -> list[Translated]:
    jwts = [one.jwt for one in spec.origins]
    if not jwts:
        return []
    selector = {"selector": {"matchLabels": labels}} if labels else {}
    notes = [FORWARDED, *([AUDIENCE] if any(one.audiences for one in jwts) else [])]
    notes += [ANY_AUDIENCE] if any(not one.audiences for one in jwts) else []
    notes += [BOTH] if spec.principal_binding == "USE_ORIGIN" else []
    notes += [OLD_PATH] if any("/auth/realms/" in one.issuer for one in jwts) else []
    notes += [EVERYWHERE] if any(one.trigger_rules for one in jwts) else []
    if target and target.ports:
        notes.append("Then this was for some ports alone; today a token is looked at on all of the workload's.")
    if spec.origin_is_optional:
        notes.append("originIsOptional: then a bad token passed too, as if there were none; today it is 401.")
        if strict:
            raise LegacyError("expected originIsOptional: false, got true; today a bad token is refused in any case.")
    rules = {**selector, "jwtRules": [_rule(one) for one in jwts]}
    made = [Translated(thing("RequestAuthentication", name, namespace, rules), notes)]
    if not spec.origin_is_optional:
        made.append(_demand(jwts, name, namespace, target, selector, services))
    return made


def _demand(jwts: list[Jwt], name, namespace, target: Target | None, selector, services: Services) -> Translated:
    """DENY and no ALLOW: authentication came before authorization then, whatever that allowed."""
    triggers = {str(one.trigger_rules) for one in jwts}
    if len(triggers) > 1:
        raise LegacyError("expected the same triggerRules for all issuers, got others; split the paths by hand.")
    source = {"notRequestPrincipals": [f"{one.issuer}/*" for one in jwts]}
    rule: dict = {"from": [{"source": source}]}
    ports = [services.port(target.name, namespace, port) for port in target.ports] if target else []
    operations = [_operation(one) for one in jwts[0].trigger_rules] or [{}]
    if ports:
        operations = [{**one, "ports": [str(port) for port in ports]} for one in operations]
    if all(operations):
        rule["to"] = [{"operation": one} for one in operations]
    content = {**selector, "action": "DENY", "rules": [rule]}
    return Translated(thing("AuthorizationPolicy", f"{name}-needs-token", namespace, content), [MISSING, SUBJECT])


def _rule(jwt: Jwt) -> dict:
    headers = [{"name": one, **_prefix(one)} for one in jwt.jwt_headers]
    stated = {
        "issuer": jwt.issuer,
        "audiences": jwt.audiences,
        "jwksUri": jwt.jwks_uri,
        "jwks": jwt.jwks,
        "fromHeaders": headers,
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
