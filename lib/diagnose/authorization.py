"""Causes of `RBAC: access denied`: no AuthorizationPolicy allows the request, or one denies it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime

from lib.diagnose.diagnosis import Diagnosis, explain, workload_name
from lib.diagnose.evidence import Evidence
from lib.istio import policies
from lib.istio.answers import RBAC
from lib.istio.policies import RULES, Call, Miss

# Envoy's log names the DENY policy that matched; if no ALLOW policy matched, it says "none"
MATCHED = re.compile(r"matched_policy\[ns\[(?P<namespace>[^\]]*)\]-policy\[(?P<name>[^\]]*)\]-rule\[(?P<rule>\d+)\]")
RECENT = 30  # seconds that a changed policy may take to reach the proxies


def find_cause(evidence: Evidence) -> Diagnosis | None:
    """Return the cause of a refusal by an AuthorizationPolicy."""
    if evidence.answer.status != 403 or RBAC not in (evidence.answer.body or evidence.answer.reason):
        return None
    return _denied(evidence) or _by_rules(evidence)


def policy_input(evidence: Evidence) -> Call:
    """Return what the policies at the refusing workload see of the request."""
    peer = evidence.gateway if evidence.gateway and evidence.guard is not evidence.gateway else evidence.caller
    arrives = evidence.token is not None and not token_removed_by(evidence)
    valid = evidence.token and not evidence.token.problem and arrives and evidence.jwt_rule is not None
    claims = evidence.claims if valid else {}
    plain = not evidence.guard or not evidence.guard.proxied
    return Call(
        principal="" if plain else evidence.principal(peer),
        request_principal=f"{claims['iss']}/{claims['sub']}" if claims.get("iss") and claims.get("sub") else "",
        claims=claims,
        host=evidence.host,
        method=evidence.method,
        path=evidence.path,
        port=evidence.workload_port,
        headers={"authorization": "Bearer"} if arrives else {},
    )


def token_removed_by(evidence: Evidence) -> str:
    """Return what removes the token between the gateway and the workload, as a clause; "" if nothing does."""
    if not evidence.gateway or evidence.guard is evidence.gateway:
        return ""
    if evidence.route and "authorization" in evidence.route.removed:
        return f"the VirtualService {evidence.route.name} removes the header Authorization"
    if evidence.token:
        for policy in evidence.rules(policies.REQUESTS, evidence.gateway):
            for rule in policy["spec"].get("jwtRules", []):
                if rule.get("issuer") == evidence.claims.get("iss") and not rule.get("forwardOriginalToken"):
                    return f"the gateway's RequestAuthentication {policies.name(policy)} lacks forwardOriginalToken"
    return ""


def not_yet_applied(evidence: Evidence, judgement: str) -> Diagnosis:
    """Return why a proxy does not do what the policies say; `judgement` is what they say, as a clause."""
    newest = max((_changed(one) for kind in policies.KINDS for one in evidence.rules(kind)), default=None)
    age = evidence.now - newest if newest is not None else None
    changed = f"the newest of these policies changed {age:.0f} s ago" if age is not None else ""
    if not evidence.istiod_ready:
        why = f"{judgement}, but istiod is not running: the proxies keep their old configuration"
        change = "start istiod: kubectl -n istio-system rollout status deployment/istiod"
        return explain(evidence, "istiod-down", why, change, changed)
    if age is None or age < RECENT:
        why = f"{judgement}; a recent change has not reached the proxy yet"
        return explain(evidence, "policy-just-applied", why, "ask again in a few seconds", changed)
    why = f"{judgement}, but the proxy does otherwise"
    change = "ask again if a policy was just deleted; then compare with the proxy: istioctl x authz check POD"
    return explain(evidence, "unexplained", why, change, changed)


def _changed(policy: Mapping) -> float:
    metadata = policy["metadata"]
    times = [one["time"] for one in metadata.get("managedFields", []) if "time" in one]
    return datetime.fromisoformat(max([*times, metadata["creationTimestamp"]])).timestamp()


def _denied(evidence: Evidence) -> Diagnosis | None:
    found = MATCHED.search(evidence.refuser.details if evidence.refuser else "")
    if not found:
        return None
    namespace, name = found["namespace"], found["name"]
    why = f"the policy {namespace}/{name} denies it by its rule {found['rule']}; Envoy evaluates DENY before ALLOW"
    command = f"kubectl -n {namespace} get authorizationpolicy {name} -o yaml"
    change = f"exclude the request from that rule, or delete the policy: {command}"
    return explain(evidence, "denied", why, change)


def _by_rules(evidence: Evidence) -> Diagnosis:
    call = policy_input(evidence)
    verdict = policies.decide(evidence.rules(RULES), call)
    if verdict.allowed:
        return not_yet_applied(evidence, "the current policies allow this request")
    if verdict.action == "DENY":
        why = f"the policy {verdict.policy} denies it; Envoy evaluates DENY before ALLOW"
        return explain(evidence, "denied", why, "exclude the request from that policy's rules")
    if not verdict.misses:
        why = f"the policy {verdict.policy} has no rule, and therefore allows nothing"
        return explain(evidence, "deny-all", why, "add an ALLOW policy for the requests that may pass")
    return _missed(evidence, verdict.policy, verdict.misses, call)


def _missed(evidence: Evidence, policy: str, missed: tuple[Miss, ...], call: Call) -> Diagnosis:
    """Explain which part of the nearest rule does not match, the most telling part first."""
    by = {one.field: one for one in missed}
    parts = "; ".join(f"{one.field} {one.wanted} (got {one.got or 'none'})" for one in missed)
    nearest = f"the nearest rule, of {policy}, does not match in: {parts}"
    token = next((one for one in missed if one.field.startswith(("requestPrincipals", "request.auth."))), None)
    target = next((by[key] for key in ("ports", "paths", "methods", "hosts") if key in by), None)
    if "ports" in by and str(evidence.port.get("port")) in by["ports"].wanted.split(", "):
        why = f"the rule is for the Service's port {evidence.port.get('port')}, but the workload listens at {call.port}"
        change = f"write {call.port} into the policy's ports: they are the workload's, not the Service's"
        return explain(evidence, "service-port", why, change, nearest)
    if target:
        kind = target.field.removesuffix("s")
        why = f"no rule allows the {kind} {target.got}; the nearest rule allows {target.wanted}"
        change = f"use a {kind} that is allowed, or add this {kind} to {policy}"
        return explain(evidence, f"{kind}-not-allowed", why, change, nearest)
    if token:
        return _about_token(evidence, policy, token, nearest, "principals" in by)
    if peer := next((by[key] for key in ("principals", "namespaces", "serviceAccounts") if key in by), None):
        return _about_peer(evidence, policy, peer, nearest)
    negated = missed[0]
    why = f"the rule excludes {negated.wanted}, and this is {negated.got}"
    return explain(evidence, "excluded", why, f"change {negated.field} in {policy}", nearest)


def _about_peer(evidence: Evidence, policy: str, peer: Miss, nearest: str) -> Diagnosis:
    if not peer.got:
        why = "the caller has no principal: it sent plain text, which PERMISSIVE accepts"
        change = "give the caller a sidecar, and set mutual TLS to STRICT"
        return explain(evidence, "permissive", why, change, nearest)
    gateway = evidence.gateway and evidence.guard is not evidence.gateway
    cause, who = ("gateway-principal", "gateway") if gateway else ("caller-not-listed", "caller")
    why = f"the {who} is {peer.got}, and the rule lists {peer.wanted}"
    change = f"add {peer.got} to {policy}, or call from a workload that it lists"
    return explain(evidence, cause, why, change, nearest)


def _about_token(evidence: Evidence, policy: str, token: Miss, nearest: str, peer_too: bool) -> Diagnosis:
    if not evidence.token:
        also = "; a service needs none if a rule lists its principal" if peer_too else ""
        why = f"the policy requires a token, and the request has none{also}"
        change = "send one: Authorization: Bearer …; today a missing token gets 403, an invalid one 401"
        return explain(evidence, "no-token", why, change, nearest)
    if removed := token_removed_by(evidence):
        why = f"the token does not reach {workload_name(evidence.guard)}: {removed}"
        change = "forward it: set forwardOriginalToken: true at the gateway, and remove no header on the route"
        return explain(evidence, "token-stripped", why, change, nearest)
    if not evidence.claims.get("sub"):
        why = "the token has no sub: the request principal is iss/sub, and needs both"
        change = "give its client the scope basic, which adds sub since Keycloak 25"
        return explain(evidence, "no-subject", why, change, nearest)
    if evidence.jwt_rule is None:
        guard = workload_name(evidence.guard)
        why = f"no RequestAuthentication at {guard} names this token's issuer: the token counts as missing"
        change = "apply a RequestAuthentication with the token's issuer and a selector that fits the workload"
        return explain(evidence, "no-request-authentication", why, change, nearest)
    if token.field.startswith("request.auth.claims"):
        claim = token.field.removeprefix("request.auth.")
        why = f"the token's {claim} is {token.got or 'missing'}, and the rule requires {token.wanted}"
        if "[typ]" in token.field:
            return explain(evidence, "wrong-token-type", why, "send the access token, not the ID token", nearest)
        change = "give the user or client what adds that claim (a role, a scope, a mapper), then fetch a new token"
        return explain(evidence, "claim-missing", why, change, nearest)
    patterns = [one for one in token.wanted.split(", ") if one.endswith("*") and token.got.startswith(one[:-1])]
    if patterns:
        why = f"the rule's {patterns[0]} does not match {token.got}: Istio splits both at the last slash"
        change = "write <issuer>/*: the issuer, a slash, a star"
        return explain(evidence, "principal-pattern", why, change, nearest)
    why = f"the token is valid, but the rule allows {token.wanted}, and this is {token.got}"
    change = f"add {evidence.claims['iss']}/* to the requestPrincipals of {policy}"
    return explain(evidence, "issuer-not-in-rule", why, change, nearest)
