"""The request as the policies at the refusing proxy see it: after gateways, routes and the JWT filter changed it."""

from __future__ import annotations

from dataclasses import replace

from lib.diagnose.evidence import BEARER, Evidence
from lib.istio import access_log, authentication, destination_rules, evaluator, policies, routes
from lib.istio.evaluator import Call

PREFLIGHT = authentication.PREFLIGHT
FORWARDED = "x-forwarded-for"


def call(evidence: Evidence) -> Call:
    """Return what the policies at the guard see of the request; what is not known is None."""
    peer = evidence.gateway if _behind_gateway(evidence) else evidence.caller
    plain = not evidence.guard or not (evidence.guard.proxied or evidence.guard.ambient)
    plain = plain or (evidence.guard is evidence.gateway and not _mutual(evidence))
    hop = _hop(evidence)
    route = evidence.route if _behind_gateway(evidence) else None
    own = "" if plain or _plain_text(evidence) else evidence.principal(peer)
    return Call(
        principal=(evidence.peer(own) or "") if evidence.guard is evidence.workload else own,
        claims=claims(evidence),
        host=(route.host if route and route.host else evidence.host),
        method=evidence.method,
        path=route.path if route and route.path is not None else evidence.path,
        port=evidence.workload_port or (_part(hop.local, 1) if hop else None) or None,
        headers=_headers(evidence),
        unread=_arriving(evidence),
        source_ip=_source(evidence, hop),
        remote_ip=_part(hop.client, 0) if hop else None,
        destination_ip=_part(hop.local, 0) if hop else None,
        sni=(hop.sni or None) if hop else None,
        tcp=routes.protocol(evidence.port) in routes.PLAIN_TCP and evidence.guard is not evidence.gateway,
    )


def verdict(evidence: Evidence) -> evaluator.Verdict:
    """Return what the policies in force at the guard decide on the request."""
    return evaluator.decide(evidence.rules(policies.RULES), call(evidence), evidence.mesh)


def at_gateway(evidence: Evidence) -> Evidence | None:
    """Return the evidence as if the gateway had judged the request, which it passed on; None if it logged no such."""
    hop = evidence.gateway_hop
    return replace(evidence, gateway_hop=replace(hop, upstream=""), sidecar_hop=None) if hop else None


def claims(evidence: Evidence) -> dict:
    """Return the token's claims as the policies at the guard see them; {} if no rule there reads the token."""
    rule = evidence.jwt_rule
    valid = evidence.token and not evidence.token.problem and not token_removed_by(evidence)
    if not valid or rule is None or not evidence.token_read or is_preflight(evidence):
        return {}
    return authentication.claims_seen(rule, evidence.claims)


def is_preflight(evidence: Evidence) -> bool:
    """Return whether the request is a browser's question before a request from another origin (CORS)."""
    return evidence.method == "OPTIONS" and all(evidence.headers.get(name) for name in PREFLIGHT)


def token_removed_by(evidence: Evidence) -> str:
    """Return what removes the token between the gateway and the workload, as a clause; "" if nothing does."""
    if not _behind_gateway(evidence) or not evidence.gateway:
        return ""
    place = evidence.token.place if evidence.token else BEARER
    if evidence.route and place.lower() in [f"header {name}" for name in evidence.route.removed]:
        return f"the route {evidence.route.name} removes the {place}"
    if evidence.token:
        for policy in evidence.rules(policies.REQUESTS, evidence.gateway):
            for rule in policy["spec"].get("jwtRules", []):
                reads = rule.get("issuer") == evidence.claims.get("iss") and place in authentication.places(rule)
                if reads and not rule.get("forwardOriginalToken"):
                    return f"the gateway's RequestAuthentication {policies.name(policy)} lacks forwardOriginalToken"
    return ""


def changed_by_route(evidence: Evidence, kind: str, header: str = "") -> str:
    """Return how the route changes a path, a host or a header, and on which side the policies are; "" if it does not.

    Envoy's router changes the request after the gateway's own policies have seen it.
    """
    route = evidence.route
    if not route:
        return ""
    if kind == "header":
        after = route.changed(evidence.headers).get(header.lower(), "")
        changes = after != evidence.headers.get(header.lower(), "")
    else:
        after = {"path": (route.path or "").partition("?")[0], "host": route.host}.get(kind, "")
        changes = bool(after)
    if not changes:
        return ""
    before = {"path": evidence.shown_path, "host": evidence.host}.get(kind, f"the header {header}")
    if evidence.guard is evidence.gateway:
        return f"the route {route.name} rewrites {before} only after the gateway's policies, which see what was sent"
    return f"the route {route.name} rewrites {before}, and policies see the {kind} after that"


def _headers(evidence: Evidence) -> dict[str, str]:
    """Return the headers at the guard after its JWT filter: it takes the token away, and writes claims into headers."""
    found = _arriving(evidence)
    rule = evidence.jwt_rule if claims(evidence) else None
    if rule and not rule.get("forwardOriginalToken"):
        found.pop("authorization", None)
    return found | (authentication.claim_headers(rule, evidence.claims) if rule else {})


def _arriving(evidence: Evidence) -> dict[str, str]:
    """Return the headers that arrive at the guard: sent, and changed by the gateway and the route."""
    found = dict(evidence.headers)
    if evidence.token and evidence.token.place == BEARER:
        found.setdefault("authorization", "Bearer")
    if evidence.gateway:
        found.pop(FORWARDED, None)  # a gateway adds the address of its caller: what arrives is not known
    if _behind_gateway(evidence):
        if evidence.token:
            for policy in evidence.rules(policies.REQUESTS, evidence.gateway):
                for rule in policy["spec"].get("jwtRules", []):
                    if rule.get("issuer") == evidence.claims.get("iss"):
                        found |= authentication.claim_headers(rule, evidence.claims)
        if evidence.route:
            found = evidence.route.changed(found)
    if token_removed_by(evidence):
        found.pop("authorization", None)
    return found


def _mutual(evidence: Evidence) -> bool:
    """Return whether a server of the gateway takes the mesh's own mutual TLS."""
    servers = [server for gateway in evidence.gateways for server in gateway["spec"].get("servers", [])]
    return any((server.get("tls") or {}).get("mode") == "ISTIO_MUTUAL" for server in servers)


def _behind_gateway(evidence: Evidence) -> bool:
    return bool(evidence.gateway) and evidence.guard is not evidence.gateway


def _plain_text(evidence: Evidence) -> bool:
    """Return whether the peer sends plain text: a DestinationRule switches mutual TLS off."""
    rule, route = evidence.destination_rule, evidence.route
    sends = destination_rules.tls_of(rule, evidence.port.get("port"), route.subset if route else "")[0] if rule else ""
    known = not evidence.caller or not (evidence.direct or evidence.hidden_by)
    return evidence.guard is evidence.workload and (not known or sends == "DISABLE")


def _hop(evidence: Evidence) -> access_log.Hop | None:
    return evidence.gateway_hop if evidence.guard is evidence.gateway else evidence.sidecar_hop


def _source(evidence: Evidence, hop: access_log.Hop | None) -> str | None:
    """Return the address of the connection to the guard; None if several pods may have made it."""
    peer = evidence.gateway if _behind_gateway(evidence) else evidence.caller
    if peer:
        return peer.addresses[0] if len(peer.addresses) == 1 else None
    return _part(hop.client, 0) if hop and FORWARDED not in evidence.headers else None


def _part(address: str, place: int) -> str | None:
    """Return the host (0) or the port (1) of an address as Envoy logs it: 10.0.0.1:80 or [::1]:80."""
    host, _, port = address.rpartition(":")
    return ((host.strip("[]"), port)[place] or None) if host else None
