"""Causes of an answer that the application gave: which policy allows the request, or what lets everybody in."""

from __future__ import annotations

import re
from dataclasses import replace

from lib.diagnose import bypasses, login, nearest_rule, seen
from lib.diagnose.authorization import not_known, not_yet_applied
from lib.diagnose.diagnosis import Diagnosis, explain, policy_command, workload_name
from lib.diagnose.evidence import Evidence
from lib.diagnose.pods import Workload, sidecar_command
from lib.istio import evaluator, matching
from lib.istio.policies import PEERS, REQUESTS, RULES

PARAMETERS = re.compile(r";[^/?]*")  # of a path's segment (RFC 3986, section 3.3)


def find_cause(evidence: Evidence) -> Diagnosis | None:
    """Return why the request reached the application, the most surprising cause first."""
    workload = evidence.workload
    if not workload or not evidence.answer.status:
        return None
    if not workload.proxied:
        why = f"{workload_name(workload)} has no sidecar: nothing checks its requests"
        change = (
            "if it is meant to be in the mesh, label its pods sidecar.istio.io/inject=true; or label its namespace "
            "istio-injection=enabled, and restart its pods, which must have no annotation against it"
        )
        return explain(evidence, "sidecar-missing", why, change, command=sidecar_command(workload, evidence.mesh))
    if evidence.destination_port in workload.bypassed:
        return bypasses.explained(evidence, workload)
    if not evidence.rules(RULES, workload):
        found = _in_vain(evidence, workload, evidence.gateway) or _slipped(evidence)
        return found or _by_gateway(evidence, workload) or _nothing_demanded(evidence, workload)
    verdict = seen.verdict(evidence)
    if verdict.allowed is None:
        return not_known(evidence, verdict, "the policies let the request in")
    if not verdict.allowed:
        return _by_session(evidence, verdict) or not_yet_applied(evidence, "the current policies refuse this request")
    if evidence.caller and not evidence.caller.proxied:
        return _permissive(evidence, workload)
    why = f"{verdict.policy} allows it" if verdict.policy else "no ALLOW policy applies, and no policy denies it"
    if evidence.rejected:
        return not_yet_applied(evidence, why)
    if evidence.answer.status >= 400:  # the application's own refusal
        why = f"{why}; the application itself answered {evidence.answer.status}"
        change = "look into the application's log, not at the policies"
        return explain(evidence, "allowed", why, change, _changed_path(evidence))
    if found := _slipped(evidence) or _in_vain(evidence, evidence.gateway):
        return found
    return explain(evidence, "allowed", why, "nothing, if this is intended")


def _by_session(evidence: Evidence, verdict: evaluator.Verdict) -> Diagnosis | None:
    """Return the cause if only a token is missing, and a login may have added one for the session in the cookies."""
    names = [part.partition("=")[0].strip() for part in evidence.headers.get("cookie", "").split(";")]
    needs_token = all(one.field.startswith(nearest_rule.TOKEN) for one in verdict.misses)
    if evidence.token or not evidence.gateway or not needs_token or not any(map(login.SESSIONS.search, names)):
        return None
    why = f"{verdict.policy} requires a token; the login on the way takes the session's cookies, and adds one"
    return explain(evidence, "allowed", why, "nothing, if this is intended")


def _changed_path(evidence: Evidence) -> str:
    """Return how Envoy changed the path before the application saw it, "" if it did not."""
    made = matching.normalized(evidence.shown_path, evidence.mesh.normalization)
    return "" if made in (None, evidence.shown_path) else f"Envoy sends the path {made} (pathNormalization)"


def _in_vain(evidence: Evidence, *places: Workload | None) -> Diagnosis | None:
    """Return the cause if a policy for one of these workloads is in force nowhere; policies that refuse come first."""
    for kind in (RULES, REQUESTS):
        policies_of_kind = [one for one in evidence.policies if one["kind"] == kind]
        for place in filter(None, places):
            if found := bypasses.policy_in_vain(evidence, place, policies_of_kind):
                return found
    return None


def _slipped(evidence: Evidence) -> Diagnosis | None:
    """Return the cause if another spelling of the path passes a policy, at the gateway or the workload."""
    at_gateway = seen.at_gateway(evidence)
    return (at_gateway and _slipped_at(at_gateway)) or _slipped_at(evidence)


def _slipped_at(evidence: Evidence) -> Diagnosis | None:
    """Return the cause if another spelling of the path passes a policy that refuses the path itself."""
    call, rules = seen.call(evidence), evidence.rules(RULES)
    if not seen.verdict(evidence).allowed:
        return None
    found = PARAMETERS.search(call.path or "")
    ways = {"": replace(call, path=PARAMETERS.sub("", call.path or ""))} if found else {}
    for how, asked in {**ways, **dict.fromkeys(matching.MERGING, call)}.items():
        settings = replace(evidence.mesh, normalization=how or evidence.mesh.normalization)
        verdict = evaluator.decide(rules, asked, settings)
        if verdict.allowed is False and (verdict.action == "DENY" or any("not" in one.field for one in verdict.misses)):
            spelt = f"the parameters {found[0]} in" if found and not how else "the slashes in"
            where = "" if evidence.guard is evidence.workload else " at the gateway"
            why = (
                f"{verdict.policy} refuses this path{where}, but {spelt} {evidence.shown_path} make another path of it"
            )
            change = "allow the paths that are meant instead of refusing some; an application may take both for one"
            change = f"set meshConfig.pathNormalization.normalization: {how}; or {change}" if how else change
            return explain(evidence, "path-normalization", why, change)
    return None


def _permissive(evidence: Evidence, workload: Workload) -> Diagnosis:
    mode, policy = evidence.mutual_tls()
    source = f"set by {policy}" if policy else "the default without a PeerAuthentication"
    why = f"mutual TLS is {mode} at {workload_name(workload)} ({source}): it accepts plain text"
    change = "apply a PeerAuthentication with mode STRICT, for the workload, its namespace, or the mesh"
    return explain(evidence, "permissive", why, change)


def _by_gateway(evidence: Evidence, workload: Workload) -> Diagnosis | None:
    """Return which policy at the gateway allows the request, if only the gateway has policies."""
    at_gateway = seen.at_gateway(evidence)
    if not at_gateway or not at_gateway.rules(RULES):
        return None
    verdict = seen.verdict(at_gateway)
    if not verdict.allowed:
        return None
    why = f"{verdict.policy} allows it at the gateway" if verdict.policy else "no policy denies it at the gateway"
    change = "nothing, if this is intended"
    note = f"{workload_name(workload)} itself has no AuthorizationPolicy: callers in the mesh need no token"
    return explain(evidence, "allowed", why, change, note)


def _nothing_demanded(evidence: Evidence, workload: Workload) -> Diagnosis:
    if evidence.rules(REQUESTS, workload):
        why = "a RequestAuthentication alone refuses invalid tokens, but does not require a token"
        change = "add an AuthorizationPolicy that requires requestPrincipals"
        rules = [rule for one in evidence.rules(REQUESTS, workload) for rule in one["spec"].get("jwtRules", [])]
        users = {"requestPrincipals": [f"{rule.get('issuer')}/*" for rule in rules]}
        command = policy_command(workload, RULES, rules=[{"from": [{"source": users}]}])
        return explain(evidence, "nothing-demanded", why, change, command=command)
    why = "mutual TLS is the only requirement" if evidence.rules(PEERS, workload) else "no policy applies to it"
    change = "add a RequestAuthentication and an AuthorizationPolicy for it"
    return explain(evidence, "nothing-demanded", why, change)
