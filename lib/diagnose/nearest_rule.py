"""Why the nearest rule of the ALLOW policies does not match the request, the most telling field first."""

from __future__ import annotations

import re
from collections.abc import Sequence

from lib.diagnose import bypasses, plain_text, roles, seen
from lib.diagnose.diagnosis import Diagnosis, explain, policy_command, workload_name
from lib.diagnose.evidence import Evidence
from lib.diagnose.pods import sidecar_command
from lib.diagnose.request import SENSITIVE
from lib.istio import authentication, matching, policies
from lib.istio.evaluator import Call, Miss
from lib.kubernetes import kubectl

HIDDEN = "(not shown)"
LOCAL = "cluster.local"  # the trust domain that stands for the mesh's own
ADDRESSES = ("ipBlocks", "remoteIpBlocks", "source.ip", "remote.ip")
PEERS = ("principals", "namespaces", "serviceAccounts", "trustDomains", "source.principal", "source.namespace",
         "source.serviceAccount", "source.trustDomain")  # fmt: skip
TARGETS = ("ports", "paths", "methods", "hosts")
TOKEN = ("requestPrincipals", "request.auth.")
CLAIM = re.compile(r"^request\.auth\.claims(\[.*\])$")


def denied(evidence: Evidence, policy: str, met: Sequence[Miss], call: Call) -> Diagnosis | None:
    """Return the cause of a denial of all requests but some; None if the rule denies the request for what it has.

    Args:
        evidence: The evidence.
        policy: The DENY policy's namespace/name.
        met: What of its rule matches.
        call: The request as the policy sees it.
    """
    lacks = [one for one in map(_affirmed, met) if one]
    groups = (
        [one for one in lacks if one.field.startswith(TOKEN)],
        [one for one in lacks if one.field in PEERS],
        [one for one in lacks if one.field in ADDRESSES],
        [one for one in lacks if one.field in TARGETS],
    )
    group = next((one for one in groups if one), None)
    return explained(evidence, policy, group, call, f"{policy} denies all requests but those with") if group else None


def _affirmed(miss: Miss) -> Miss | None:
    """Return what a negated field wants, None for a field that is not negated."""
    if miss.wanted.startswith("not "):
        return Miss(miss.field, miss.wanted.removeprefix("not "), miss.got)
    if miss.field.startswith("not"):
        field = miss.field.removeprefix("not")
        return Miss(field[0].lower() + field[1:], miss.wanted, miss.got)
    return None


def explained(evidence: Evidence, policy: str, missed: Sequence[Miss], call: Call, intro: str = "") -> Diagnosis:
    """Return the cause that the misses of a policy's nearest rule show; `intro` says whose rule if it is no ALLOW."""
    missed = [_public(one) for one in missed]
    by = {one.field: one for one in missed}
    nearest = f"{intro or f'the nearest rule, of {policy}, does not match in'}: {listed(missed)}"
    token = next((one for one in missed if one.field.startswith(TOKEN)), None)
    target = next((by[key] for key in TARGETS if key in by), None)
    if "ports" in by and str(evidence.port.get("port")) in by["ports"].wanted.split(", "):
        why = f"the rule is for the Service's port {evidence.port.get('port')}, but the workload listens at {call.port}"
        change = f"write {call.port} into the policy's ports: they are the workload's, not the Service's"
        listed_ports = by["ports"].wanted.split(", ")
        command = _edited(evidence, policy, by["ports"], *(set(listed_ports) - {str(evidence.port["port"])}))
        return explain(evidence, "service-port", why, change, nearest, command=command)
    if target:
        return _about_target(evidence, policy, target, nearest)
    if token:
        return _about_token(evidence, policy, token, nearest, "principals" in by)
    if peer := next((by[key] for key in PEERS if key in by), None):
        return _about_peer(evidence, policy, peer, nearest)
    if address := next((by[key] for key in ADDRESSES if key in by), None):
        return _about_address(evidence, policy, address, nearest)
    if header := next((one for one in missed if one.field.startswith("request.headers")), None):
        return _about_header(evidence, policy, header, nearest)
    first = missed[0]
    why = f"the rule of {policy} has {first.field} {first.wanted}, and the request has {first.got or 'none'}"
    if first.field.startswith("not"):
        why = f"the rule excludes {first.wanted}, and this is {first.got}"
    return explain(evidence, "excluded", why, f"change {first.field} in {policy}", nearest)


def listed(parts: Sequence[Miss]) -> str:
    """Return parts of a rule as text, each with what it wants and what the request has."""
    return "; ".join(f"{one.field} {one.wanted} (got {one.got or 'none'})" for one in map(_public, parts))


def _public(miss: Miss) -> Miss:
    """Return a miss without the values of a header that may be a secret."""
    name = re.fullmatch(r"request\.headers\[(.*)\]", miss.field)
    if name and SENSITIVE.search(name[1]):
        return Miss(miss.field, HIDDEN, HIDDEN if miss.got else "")
    return miss


def _about_target(evidence: Evidence, policy: str, target: Miss, nearest: str) -> Diagnosis:
    kind = target.field.removesuffix("s")
    note = seen.changed_by_route(evidence, kind)
    why = f"no rule allows the {kind} {target.got}; the nearest rule allows {target.wanted}{_slip(target)}"
    change = f"use a {kind} that is allowed, or add this {kind} to {policy}"
    command = _edited(evidence, policy, target, *target.wanted.split(", "))
    return explain(evidence, f"{kind}-not-allowed", why, change, note, nearest, command=command)


def _edited(evidence: Evidence, policy: str, missed: Miss, *kept: str, value: str = "") -> str:
    """Return the command that lets a field of a policy list the values to keep, and the request's (or `value`)."""
    found = evidence.policy(policies.RULES, policy)
    return kubectl.edit(found, missed.field, missed.wanted.split(", "), [*kept, value or missed.got])


def _slip(target: Miss) -> str:
    """Return a likely mistake in a rule's paths or hosts, as a clause; "" if none is seen."""
    for one in target.wanted.split(", "):
        if target.field == "hosts" and ":" in target.got and matching.host(one, target.got.rpartition(":")[0]):
            return f"; policies compare the Host header with its port: allow {one}:* too"
        if target.field == "paths" and one.rstrip("/") == target.got.rstrip("/"):
            return "; they differ in the slash at the end, which counts"
        if target.field == "paths" and "*" in one[1:-1] and "{*" not in one:
            return "; within a path a star is an ordinary character: write {*} for one part of it, {**} for several"
    return ""


def _about_address(evidence: Evidence, policy: str, miss: Miss, nearest: str) -> Diagnosis:
    client = miss.field in ("remoteIpBlocks", "remote.ip")
    whose = "client's address, as the proxy sees it," if client else "address of the connection to the proxy"
    why = f"the {whose} is {miss.got}, and the rule allows {miss.wanted}"
    change = (
        f"if this is not the client's own address, compare remoteIpBlocks and let it through: externalTrafficPolicy: "
        "Local at the gateway's Service, or the number of trusted proxies (gatewayTopology.numTrustedProxies); else "
        f"add {miss.got}, or its network, to {policy}"
        if client or evidence.guard is evidence.gateway
        else f"behind a gateway, compare remoteIpBlocks: ipBlocks are those of the last proxy; else change {policy}"
    )
    return explain(evidence, "address-not-allowed", why, change, nearest)


def _about_header(evidence: Evidence, policy: str, miss: Miss, nearest: str) -> Diagnosis:
    name = miss.field.removeprefix("request.headers[").removesuffix("]")
    has = f"the request's header {name} is {miss.got}" if miss.got else f"the request has no header {name}"
    why = f"{has} when it reaches {workload_name(evidence.guard)}, and {policy} requires {miss.wanted}"
    change = (
        f"send the header {name}: {miss.wanted}, or let a gateway set it; a caller can forge it unless the gateway "
        "overwrites it"
    )
    return explain(
        evidence, "header-not-allowed", why, change, seen.changed_by_route(evidence, "header", name), nearest
    )


def _about_peer(evidence: Evidence, policy: str, peer: Miss, nearest: str) -> Diagnosis:
    if evidence.guard and evidence.guard is evidence.gateway:
        why = (
            f"a caller has no principal at the gateway {workload_name(evidence.guard)}: {peer.field} never match there"
        )
        change = f"compare requestPrincipals or remoteIpBlocks in {policy}: a gateway's clients send no mutual TLS"
        return explain(evidence, "outside-caller", why, change, nearest)
    if not peer.got and (found := plain_text.find_cause(evidence)):
        return found
    if not peer.got:
        why = "the caller has no principal: it sent plain text, which PERMISSIVE accepts"
        change = "give the caller a sidecar, and set mutual TLS to STRICT"
        mode, source = evidence.mutual_tls()
        strict = kubectl.edit(evidence.policy(policies.PEERS, source), "mode", mode, "STRICT")
        injected = sidecar_command(evidence.caller, evidence.mesh) if evidence.caller else ""
        command = " && ".join(filter(None, (injected, strict)))
        return explain(evidence, "permissive", why, change, nearest, command=command)
    gateway = evidence.gateway and evidence.guard is not evidence.gateway
    cause, who = ("gateway-principal", "gateway") if gateway else ("caller-not-listed", "caller")
    why = f"the {who} is {peer.got}, and the rule lists {peer.wanted}"
    change = f"call from a workload that it lists; or, if this one may call, add {peer.got} to {policy}"
    if gateway:
        change += ", with requestPrincipals in the same source: everybody comes through a gateway"
    domain = evidence.mesh.trust_domain
    if domain != LOCAL and any(one.startswith(f"{LOCAL}/") and one.count("/") != 4 for one in peer.wanted.split(", ")):
        why += f"; {LOCAL} stands for {domain} only in a full principal ({LOCAL}/ns/<namespace>/sa/<name>)"
    command = _edited(evidence, policy, peer, *peer.wanted.split(", "))
    return explain(evidence, cause, why, change, nearest, command=command)


def _about_token(evidence: Evidence, policy: str, token: Miss, nearest: str, peer_too: bool) -> Diagnosis:
    if not evidence.token:
        also = "; a service needs none if a rule lists its principal" if peer_too else ""
        why = f"the policy requires a token, and the request has none{also}"
        usual = "; today a missing token gets 403, an invalid one 401" if evidence.answer.status == 403 else ""
        change = f"send a bearer token in the header Authorization{usual}"
        return explain(evidence, "no-token", why, change, nearest)
    if removed := seen.token_removed_by(evidence):
        why = f"the token does not reach {workload_name(evidence.guard)}: {removed}"
        change = "forward it: set forwardOriginalToken: true at the gateway, and remove no header on the route"
        header = evidence.token.place.removeprefix("header ")
        virtuals = [one for one in evidence.virtuals if evidence.route and policies.name(one) == evidence.route.name]
        routes = [one.get("original", one) for one in virtuals]
        tries = (kubectl.edit(one, "remove", name, None) for one in routes for name in (header, header.lower()))
        command = next(filter(None, tries), "")
        return explain(evidence, "token-stripped", why, change, nearest, command=command)
    if evidence.jwt_rule is not None and not evidence.token_read:
        places = " or ".join(authentication.places(evidence.jwt_rule))
        why = f"the token is in the {evidence.token.place}, and the RequestAuthentication reads only the {places}"
        change = f"send the token in the {places}, or add its place to the rule (fromHeaders, fromParams, fromCookies)"
        return explain(evidence, "token-elsewhere", why, change, nearest)
    if not evidence.claims.get("sub"):
        why = "the token has no sub: the request principal is iss/sub, and needs both"
        client = evidence.claims.get("azp", "of the token")
        change = f"give the client {client} the scope basic, which adds sub since Keycloak 25; then fetch a new token"
        return explain(evidence, "no-subject", why, change, nearest)
    if evidence.jwt_rule is None:
        if found := _authentication_in_vain(evidence):
            return found
        guard = workload_name(evidence.guard)
        why = f"no RequestAuthentication at {guard} names this token's issuer: the token counts as missing"
        change = "apply a RequestAuthentication with the token's issuer and a selector that fits the workload"
        rule = {"issuer": evidence.claims.get("iss"), "forwardOriginalToken": True}
        command = policy_command(evidence.guard, policies.REQUESTS, jwtRules=[rule])
        return explain(evidence, "no-request-authentication", why, change, nearest, command=command)
    if token.field in ("request.auth.presenter", "request.auth.audiences"):
        claim = {"request.auth.presenter": "azp", "request.auth.audiences": "aud"}[token.field]
        why = f"the token's {claim} is {token.got or 'missing'}, and {token.field} must be {token.wanted}"
        change = f"get the token with a client whose tokens have this {claim}, or change {policy}"
        return explain(evidence, "claim-missing", why, change, nearest)
    if token.field.startswith("request.auth.claims"):
        return _about_claim(evidence, policy, token, nearest)
    return _about_principal(evidence, policy, token, nearest)


def _authentication_in_vain(evidence: Evidence) -> Diagnosis | None:
    """Return the cause if a RequestAuthentication for the token's issuer is there, and in force nowhere."""
    issuer, every = evidence.claims.get("iss"), (one for one in evidence.policies if one["kind"] == policies.REQUESTS)
    found = [one for one in every if issuer in (rule.get("issuer") for rule in one["spec"].get("jwtRules") or [])]
    return bypasses.policy_in_vain(evidence, evidence.guard, found) if evidence.guard else None


def _about_claim(evidence: Evidence, policy: str, token: Miss, nearest: str) -> Diagnosis:
    claim = token.field.removeprefix("request.auth.")
    why = f"the token's {claim} is {token.got or 'missing'}, and the rule requires {token.wanted}"
    if "[typ]" in token.field:
        return explain(evidence, "wrong-token-type", why, "send the access token, not the ID token", nearest)
    names = matching.claim_names(claim.removeprefix("claims")) or []
    value = matching.claim_value(evidence.claims, names)
    kind = _no_text(value)
    if kind:
        why = f"the token's {claim} is {kind}, and Istio compares only strings and lists of strings: it never matches"
        change = (
            f"let the issuer write it as text (in Keycloak's mapper: Claim JSON Type String), or take another claim in "
            f"{policy}"
        )
        return explain(evidence, "claim-not-text", why, change, nearest)
    if slip := roles.find_slip(token, evidence.claims, policy):
        command = kubectl.edit(evidence.policy(policies.RULES, policy), *slip.edit) if slip.edit else ""
        return explain(evidence, slip.cause, slip.why, slip.change, nearest, command=command)
    change = (
        f"if this user may call, give the user or client what adds {token.wanted} to {claim.removeprefix('claims')} (a "
        "role, a scope, a mapper), then fetch a new token"
    )
    return explain(evidence, "claim-missing", why, change, nearest)


def _no_text(value: object) -> str:
    """Return what a claim is if Istio can never match it, "" for strings, lists of strings, and no claim."""
    if isinstance(value, bool):
        return f"the boolean {str(value).lower()}"
    if isinstance(value, (int, float)):
        return f"the number {value}"
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list) and value and not any(isinstance(one, str) for one in value):
        return "a list without strings"
    return ""


def _about_principal(evidence: Evidence, policy: str, token: Miss, nearest: str) -> Diagnosis:
    patterns = [one for one in token.wanted.split(", ") if one.endswith("*") and token.got.startswith(one[:-1])]
    subject = str(evidence.claims.get("sub", ""))
    if "/" in subject:
        why = (
            f"the token's sub {subject} has a slash, and Istio cuts {token.wanted} at its last slash: it never matches"
        )
        change = "write <issuer>/*, and compare the subject by request.auth.claims[sub]"
        return explain(evidence, "principal-pattern", why, change, nearest)
    if patterns:
        why = f"the rule's {patterns[0]} does not match {token.got}: Istio splits both at the last slash"
        change = "write <issuer>/*: the issuer, a slash, a star"
        kept = [one for one in token.wanted.split(", ") if one != patterns[0]]
        command = _edited(evidence, policy, token, *kept, value=f"{evidence.claims['iss']}/*")
        return explain(evidence, "principal-pattern", why, change, nearest, command=command)
    why = f"the token is valid, but the rule allows {token.wanted}, and this is {token.got}"
    change = (
        f"use a token that the rule allows; or, if this issuer's users may call, add {evidence.claims['iss']}/* to the "
        f"requestPrincipals of {policy}"
    )
    command = _edited(evidence, policy, token, *token.wanted.split(", "), value=f"{evidence.claims['iss']}/*")
    return explain(evidence, "issuer-not-in-rule", why, change, nearest, command=command)
