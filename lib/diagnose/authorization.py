"""Causes that the rules have: what of a request no AuthorizationPolicy allows, or one denies."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime

from lib.diagnose.diagnosis import Diagnosis, named, told
from lib.diagnose.evidence import Scene
from lib.istio import policies, routes
from lib.istio.answers import RBAC
from lib.istio.policies import RULES, Call, Miss

# What Envoy's log says of a DENY that matched; of an ALLOW that none did it says none
MATCHED = re.compile(r"matched_policy\[ns\[(?P<namespace>[^\]]*)\]-policy\[(?P<name>[^\]]*)\]-rule\[(?P<rule>\d+)\]")
RECENT = 30  # seconds in which a policy's change may still be on its way


def diagnosed(scene: Scene) -> Diagnosis | None:
    """Return the cause of a refusal by an AuthorizationPolicy."""
    if scene.answer.status != 403 or RBAC not in (scene.answer.body or scene.answer.reason):
        return None
    return _denied(scene) or _by_rules(scene)


def seen(scene: Scene) -> Call:
    """Return what the policies at the refusing workload see of the request, if its token is good there."""
    peer = scene.gateway if scene.gateway and scene.guard is not scene.gateway else scene.caller
    valid = scene.token and not scene.token.trouble and _reaches(scene) and _rule(scene) is not None
    claims = scene.token.claims if valid else {}
    subject = f"{claims['iss']}/{claims['sub']}" if claims.get("iss") and claims.get("sub") else ""
    headers = {"authorization": "Bearer"} if scene.token and _reaches(scene) else {}
    plain = not scene.guard or not scene.guard.proxied
    return Call(
        principal="" if plain else scene.principal(peer),
        request_principal=subject,
        claims=claims,
        host=scene.host,
        method=scene.method,
        path=scene.path,
        port=str(_workload_port(scene)),
        headers=headers,
    )


def stripped(scene: Scene) -> str:
    """Return what takes the token away between the gateway and the workload, "" for nothing."""
    if not scene.gateway or scene.guard is scene.gateway:
        return ""
    if scene.route and "authorization" in scene.route.removed:
        return f"the VirtualService {scene.route.name} removes the header Authorization"
    if scene.token:
        for one in scene.rules(policies.REQUESTS, scene.gateway):
            for rule in one["spec"].get("jwtRules", []):
                if rule.get("issuer") == scene.token.claims.get("iss") and not rule.get("forwardOriginalToken"):
                    name = policies.name(one)
                    return f"the gateway's RequestAuthentication {name} keeps it (no forwardOriginalToken)"
    return ""


def _reaches(scene: Scene) -> bool:
    return not stripped(scene)


def _rule(scene: Scene) -> Mapping | None:
    issuer = scene.token.claims.get("iss") if scene.token else None
    return next((rule for _, rule in scene.jwt_rules if rule.get("issuer") == issuer), None)


def _workload_port(scene: Scene) -> int | str:
    """Return the number of the pod's port: what a policy's ports are about."""
    if scene.guard is scene.gateway or not scene.port:
        return ""
    pods = [pod for pod in scene.workloads if scene.workload and pod["metadata"]["name"] == scene.workload.pod]
    return routes.target(scene.port, pods) or ""


def _denied(scene: Scene) -> Diagnosis | None:
    found = MATCHED.search(scene.refuser.details if scene.refuser else "")
    if not found:
        return None
    policy = f"{found['namespace']}/{found['name']}"
    return told(
        scene,
        "denied",
        f"the policy {policy} denies it, by its rule {found['rule']}; DENY is asked before any ALLOW",
        f"take the request out of that rule, or the policy away: kubectl -n {found['namespace']} get "
        f"authorizationpolicy {found['name']} -o yaml",
    )


def _by_rules(scene: Scene) -> Diagnosis:
    rules, call = scene.rules(RULES), seen(scene)
    verdict = policies.decide(rules, call)
    if verdict.allowed:
        return late(scene, "the policies as they are now would let it through")
    if verdict.action == "DENY":
        return told(
            scene, "denied", f"the policy {verdict.policy} denies it; DENY is asked before any ALLOW",
            "take the request out of that policy's rules",
        )  # fmt: skip
    if not verdict.misses:
        return told(
            scene, "deny-all", f"the policy {verdict.policy} has no rule, and so allows nothing to anybody",
            "add an ALLOW policy for what may pass",
        )  # fmt: skip
    return _missed(scene, verdict.policy, verdict.misses, call)


def _missed(scene: Scene, policy: str, missed: tuple[Miss, ...], call: Call) -> Diagnosis:
    """Tell of the rule that comes nearest what does not hold, the most telling part first."""
    by = {one.field: one for one in missed}
    nearest = f"nearest is a rule of {policy}, of which does not hold: " + "; ".join(
        f"{one.field} {one.wanted} (here {one.got or 'none'})" for one in missed
    )
    token = next((one for one in missed if one.field.startswith(("requestPrincipals", "request.auth."))), None)
    place = next((by[key] for key in ("ports", "paths", "methods", "hosts") if key in by), None)
    if "ports" in by and str(scene.port.get("port")) in by["ports"].wanted.split(", "):
        number, own = scene.port.get("port"), call.port
        return told(
            scene, "service-port", f"the rule is for port {number}, the Service's; the workload listens at {own}",
            f"write {own} into the policy's ports: they are the workload's, not the Service's", nearest,
        )  # fmt: skip
    if place:
        return told(
            scene, f"{place.field.removesuffix('s')}-not-allowed",
            f"no rule allows the {place.field.removesuffix('s')} {place.got}; the nearest is for {place.wanted}",
            f"ask for what is allowed, or add it to {policy}", nearest,
        )  # fmt: skip
    if token:
        return _about_token(scene, policy, token, nearest, "principals" in by)
    if peer := next((by[key] for key in ("principals", "namespaces", "serviceAccounts") if key in by), None):
        return _about_peer(scene, policy, peer, nearest)
    negated = missed[0]
    return told(
        scene, "excluded", f"the rule leaves out {negated.wanted}, and this is {negated.got}",
        f"change {negated.field} in {policy}", nearest,
    )  # fmt: skip


def _about_peer(scene: Scene, policy: str, peer: Miss, nearest: str) -> Diagnosis:
    if not peer.got:
        return told(
            scene, "permissive", "the caller has no principal: it came without mutual TLS (PERMISSIVE lets it in)",
            "give the caller a sidecar, and set mutual TLS to STRICT", nearest,
        )  # fmt: skip
    own = scene.gateway and scene.guard is not scene.gateway
    return told(
        scene,
        "gateway-principal" if own else "caller-not-listed",
        f"{'the gateway' if own else 'the caller'} is {peer.got}, and the rule is for {peer.wanted}",
        f"list {peer.got} in {policy}, taken from the live pod's service account, or call as one that is listed",
        nearest,
    )


def _about_token(scene: Scene, policy: str, token: Miss, nearest: str, peer_too: bool) -> Diagnosis:
    if not scene.token:
        also = "; services pass without one where a rule lists their principal" if peer_too else ""
        return told(
            scene, "no-token", f"a token is wanted, and none was sent{also}",
            "send one: Authorization: Bearer …; today a missing token is 403, an invalid one 401", nearest,
        )  # fmt: skip
    if why := stripped(scene):
        return told(
            scene, "token-stripped", f"the token never got to {named(scene.guard)}: {why}",
            "let it through: forwardOriginalToken: true at the gateway, no removal on the route", nearest,
        )  # fmt: skip
    if not scene.token.claims.get("sub"):
        return told(
            scene, "no-subject", "the token has no sub, and without iss and sub there is no request principal",
            "give its client the scope basic, where Keycloak 25 and newer keep that mapper", nearest,
        )  # fmt: skip
    if _rule(scene) is None:
        return told(
            scene, "no-request-authentication", f"no RequestAuthentication at {named(scene.guard)} is for this token's "
            "issuer, so that it counts as no token at all",
            "apply one whose selector fits the workload and whose issuer is the token's", nearest,
        )  # fmt: skip
    if token.field.startswith("request.auth.claims"):
        return told(
            scene, "wrong-token-type" if "[typ]" in token.field else "claim-missing",
            f"the token's {token.field.removeprefix('request.auth.')} is {token.got or 'not there'}, "
            f"the rule wants {token.wanted}",
            "send the access token, not the ID token" if "[typ]" in token.field else
            "give the user or client what makes that claim (a role, a scope, a mapper), and fetch a new token", nearest,
        )  # fmt: skip
    wanted = token.wanted.split(", ")
    if slip := next((one for one in wanted if one.endswith("*") and token.got.startswith(one[:-1])), ""):
        return told(
            scene, "principal-pattern", f"the rule's {slip} does not fit {token.got}: both are cut at their last slash",
            "write <issuer>/*: the issuer, a slash, a star", nearest,
        )  # fmt: skip
    return told(
        scene, "issuer-not-in-rule", f"the token is good, but the rule is for {token.wanted}, and this is {token.got}",
        f"add {scene.token.claims['iss']}/* to the requestPrincipals of {policy}", nearest,
    )  # fmt: skip


def late(scene: Scene, what: str) -> Diagnosis:
    """Tell of a proxy that does not do what the policies say: what is on its way, and whether istiod brings it."""
    newest = max((_changed(one) for kind in policies.KINDS for one in scene.rules(kind)), default=None)
    age = scene.now - newest if newest is not None else None
    changed = f"the newest policy here was changed {age:.0f} s ago" if age is not None else ""
    if not scene.istiod_ready:
        return told(
            scene, "istiod-down", f"{what}, but istiod does not run: the proxies keep what they had",
            "start istiod: kubectl -n istio-system rollout status deployment/istiod", changed,
        )  # fmt: skip
    if age is None or age < RECENT:
        return told(
            scene, "policy-just-applied", f"{what}; a change of a moment ago has not reached the proxy yet",
            "ask again in a few seconds", changed,
        )  # fmt: skip
    return told(
        scene, "unexplained", f"{what}, and the proxy refuses it all the same",
        "ask again, if a policy was deleted just now; then compare what the proxy holds: istioctl x authz check POD",
        changed,
    )  # fmt: skip


def _changed(policy: Mapping) -> float:
    metadata = policy["metadata"]
    times = [one["time"] for one in metadata.get("managedFields", []) if "time" in one]
    return datetime.fromisoformat(max([*times, metadata["creationTimestamp"]])).timestamp()
