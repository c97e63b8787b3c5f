"""Causes of `RBAC: access denied`: no AuthorizationPolicy allows the request, or one denies it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime

from lib.diagnose import nearest_rule, seen
from lib.diagnose.diagnosis import Diagnosis, body, explain, grpc_status, policy_command, workload_name
from lib.diagnose.evidence import Evidence
from lib.istio import policies
from lib.istio.answers import RBAC
from lib.istio.evaluator import Call, Miss, Verdict, alternatives, provider_of, unusable
from lib.kubernetes import kubectl

# Envoy's log names the DENY policy that matched; if no ALLOW policy matched, it says "none"
NO_RULE = "matched_policy[none]"
MATCHED = re.compile(r"matched_policy\[ns\[(?P<namespace>[^\]]*)\]-policy\[(?P<name>[^\]]*)\]-rule\[(?P<rule>\d+)\]")
# The log of a CUSTOM policy that denies and asks nobody (builder.go): policyName and badCustomActionSuffix
CUSTOM = re.compile(r"istio-ext-authz-(?P<provider>.*?)-ns\[(?P<namespace>[^\]]*)\]-policy\[(?P<name>[^\]]*)\]")
UNUSABLE = {  # a word of why Istio cannot use a provider (lib.istio.evaluator.unusable), and what to change
    "several": "let one provider decide for this workload: delete the policies with another one, also those on trial",
    "extensionProviders": "add it there, or correct the policy's provider",
    "no Service": "create the Service, or correct its name in meshConfig.extensionProviders: it must be one in full",
    "": "read why in istiod's log: `failed to process CUSTOM action`",
}
RECENT = 60  # seconds that a changed policy may take to reach the proxies, and requests on old connections
DEBUG = "istioctl proxy-config log {pod} -n {namespace} --level rbac:debug, ask again, and read the proxy's log"


def find_cause(evidence: Evidence) -> Diagnosis | None:
    """Return the cause of a refusal by an AuthorizationPolicy."""
    refused = evidence.answer.status in (401, 403) or grpc_status(evidence) in ("7", "16")
    details = evidence.details
    bare = not evidence.answer.body and details.startswith("rbac_access_denied")  # an answer to HEAD
    if not refused or not (RBAC in body(evidence) or bare):
        return None
    return _custom_denied(evidence) or _denied(evidence) or _by_rules(evidence)


def not_yet_applied(evidence: Evidence, judgement: str) -> Diagnosis:
    """Return why a proxy does not do what the policies say; `judgement` is what they say, as a clause."""
    newest = newest_change(evidence)
    age = evidence.now - newest if newest is not None else None
    changed = f"the newest of these policies changed {age:.0f} s ago" if age is not None else ""
    if not evidence.istiod_ready:
        why = f"{judgement}, but istiod is not running: the proxies keep their old configuration"
        home, name = evidence.mesh.istiod_namespace, evidence.mesh.istiod
        change = f"start istiod, or read why it does not start: kubectl -n {home} describe deployment/{name}"
        command = kubectl.scale("deployment", name, home)
        return explain(evidence, "istiod-down", why, change, changed, command=command)
    if evidence.rejected:
        why = f"{judgement}, but the proxy rejects istiod's newest configuration and keeps an old one"
        change = "correct what the message names: no other change reaches the proxy before"
        return explain(evidence, "config-rejected", why, change, f"Envoy: {evidence.rejected}", changed)
    if age is None or age < RECENT:
        why = f"{judgement}; a recent change has not reached the proxy yet"
        return explain(evidence, "policy-just-applied", why, "ask again in a few seconds", changed)
    if evidence.log_problem:
        why = f"{judgement}, and whether the policies of another proxy refused it is not known: no access log tells"
        return explain(evidence, "not-known", why, evidence.log_problem, changed)
    why = f"{judgement}, but the proxy does otherwise"
    change = "if a policy was just deleted, ask again; else compare with the proxy: istioctl x authz check POD"
    return explain(evidence, "unexplained", why, change, changed)


def newest_change(evidence: Evidence) -> float | None:
    """Return when one of the policies in force last changed, in seconds since 1970; None without a policy."""
    return max((_changed(one) for kind in policies.KINDS for one in evidence.rules(kind)), default=None)


def _changed(policy: Mapping) -> float:
    metadata = policy["metadata"]
    times = [one["time"] for one in metadata.get("managedFields", []) if "time" in one]
    return datetime.fromisoformat(max([*times, metadata["creationTimestamp"]])).timestamp()


def not_known(evidence: Evidence, verdict: Verdict, judgement: str) -> Diagnosis:
    """Return the fields that keep the policies from being judged from outside the proxy."""
    fields = ", ".join(verdict.unknown)
    why = f"{judgement}; that depends on {fields}, which cannot be seen from here"
    guard = evidence.guard
    pod, namespace = (guard.pod, guard.namespace) if guard else ("POD", "NAMESPACE")
    change = f"to see what Envoy compares: {DEBUG.format(pod=pod, namespace=namespace)}"
    return explain(evidence, "not-known", why, change)


def _custom_denied(evidence: Evidence) -> Diagnosis | None:
    found = CUSTOM.search(evidence.details)
    return _without_asking(evidence, f"{found['namespace']}/{found['name']}", found["provider"]) if found else None


def _without_asking(evidence: Evidence, name: str, provider: str) -> Diagnosis:
    """Explain a CUSTOM policy that denies all that it matches, without a question to its external authorizer."""
    custom = [one for one in evidence.rules(policies.RULES) if policies.action(one) == "CUSTOM"]
    reason = unusable(provider, custom, evidence.mesh)
    if not reason and any(policies.is_trial(one) for one in custom if policies.name(one) == name):
        why = f"the CUSTOM policy {name} is on trial ({policies.DRY_RUN}), and Istio denies all that such one matches"
        change = "delete the policy; or remove the annotation, and the authorizer decides"
        return explain(evidence, "dry-run", why, change)
    why = f"the CUSTOM policy {name} denies all that it matches, because Istio cannot ask its provider {provider}"
    why = f"{why}: {reason}" if reason else why
    return explain(evidence, "unknown-provider", why, next(UNUSABLE[word] for word in UNUSABLE if word in reason))


def _denied(evidence: Evidence) -> Diagnosis | None:
    found = MATCHED.search(evidence.details)
    if not found:
        return None
    name = f"{found['namespace']}/{found['name']}"
    if not evidence.policy(policies.RULES, name):
        return not_yet_applied(evidence, f"the policy {name} denied it, and there is no such policy now")
    return _denied_by(evidence, name, int(found["rule"]))


def _denied_by(evidence: Evidence, name: str, number: int | None = None) -> Diagnosis:
    """Explain a denial: by what the request lacks, if the rule denies all but some; else by what it has."""
    call = seen.call(evidence)
    met: Sequence[Miss] = ()
    for policy in (one for one in evidence.rules(policies.RULES) if policies.name(one) == name):
        rules = policy["spec"].get("rules") or []
        rules = rules if number is None else rules[number : number + 1]
        hits = alternatives({**policy, "spec": {**policy["spec"], "rules": rules}}, call, evidence.mesh)
        met = next((one.met for one in hits if one.matches), ())
    if found := nearest_rule.denied(evidence, name, met, call):
        return found
    rule = "" if number is None else f" by its rule {number}"
    why = f"the policy {name} denies it{rule}; Envoy evaluates DENY before ALLOW"
    namespace, _, own = name.partition("/")
    command = f"kubectl -n {namespace} get authorizationpolicy {own} -o yaml"
    change = f"read the rule, and exclude the request from it if the request is meant to pass: {command}"
    matches = f"the rule matches in: {listed}" if (listed := nearest_rule.listed(met)) else ""
    return explain(evidence, "denied", why, change, matches, command=_excepted(evidence, name, number, call))


def _excepted(evidence: Evidence, name: str, number: int | None, call: Call) -> str:
    """Return the command that lets a DENY rule for everybody spare these users; "" if the rule names sources."""
    policy, users = evidence.policy(policies.RULES, name), _users(call)
    rules = (policy.get("spec") or {}).get("rules") or []
    if number is None or number >= len(rules) or rules[number].get("from") or not users:
        return ""
    spared = [{"source": {"notRequestPrincipals": users}}]
    return kubectl.patch(policy, {"op": "add", "path": f"/spec/rules/{number}/from", "value": spared})


def _users(call: Call) -> list[str]:
    """Return the pattern of request principals for the users of the token's issuer, [] without a token."""
    return [f"{call.claims['iss']}/*"] if call.claims.get("iss") else []


def _by_rules(evidence: Evidence) -> Diagnosis:
    call = seen.call(evidence)
    verdict = seen.verdict(evidence)
    if verdict.allowed is None:
        return not_known(evidence, verdict, "no rule let the request in, or one denied it")
    if verdict.allowed:
        return not_yet_applied(evidence, "the current policies allow this request")
    if verdict.action == "CUSTOM":
        denies = next(one for one in evidence.rules(policies.RULES) if policies.name(one) == verdict.policy)
        return _without_asking(evidence, verdict.policy, provider_of(denies))
    if verdict.action == "DENY":
        if evidence.details.endswith(NO_RULE):  # the proxy had no such DENY rule then
            return not_yet_applied(evidence, f"{verdict.policy} denies it, and the proxy refused it for another reason")
        return _denied_by(evidence, verdict.policy)
    if not verdict.misses:
        why = f"the policy {verdict.policy} has no rule, and therefore allows nothing"
        who = {"principals": [call.principal] if call.principal else [], "requestPrincipals": _users(call)}
        rule = {
            "from": [{"source": {name: values for name, values in who.items() if values}}],
            "to": [{"operation": {"methods": [call.method], "paths": [evidence.shown_path]}}],
        }
        command = policy_command(evidence.guard, policies.RULES, rules=[rule]) if any(who.values()) else ""
        return explain(evidence, "deny-all", why, "add an ALLOW policy for the requests that may pass", command=command)
    if seen.is_preflight(evidence) and any(one.field.startswith("request") for one in verdict.misses):
        why = (
            f"this is a browser's preflight (OPTIONS): it never carries a token, and {verdict.policy} requires one at "
            f"{workload_name(evidence.guard)}"
        )
        change = (
            "answer preflights before the policy: corsPolicy in the VirtualService, CORS in the HTTPRoute; or allow "
            "the method OPTIONS for these paths in a rule of its own"
        )
        return explain(evidence, "preflight", why, change)
    return nearest_rule.explained(evidence, verdict.policy, verdict.misses, call)
