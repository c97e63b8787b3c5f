"""Causes of an answer that the application gave: which policy allows the request, or what lets everybody in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from lib.diagnose import bypasses, login, nearest_rule, seen
from lib.diagnose.authorization import not_known, not_yet_applied
from lib.diagnose.diagnosis import Diagnosis, explain, labels_text, policy_command, workload_name
from lib.diagnose.evidence import Evidence
from lib.diagnose.pods import Workload, identifying, sidecar_command
from lib.istio import evaluator, matching, policies
from lib.istio.mesh import REVISION
from lib.istio.policies import PEERS, REQUESTS, RULES
from lib.kubernetes import kubectl

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
        found = _without_effect(evidence, workload) or _misplaced_policy(evidence, workload) or _lost_target(evidence)
        return found or _nothing_demanded(evidence, workload)
    verdict = seen.verdict(evidence)
    if verdict.allowed is None:
        return not_known(evidence, verdict, "the policies let the request in")
    if not verdict.allowed:
        return _by_session(evidence, verdict) or not_yet_applied(evidence, "the current policies refuse this request")
    if evidence.caller and not evidence.caller.proxied:
        return _permissive(evidence, workload)
    why = f"{verdict.policy} allows it" if verdict.policy else "no ALLOW policy applies, and no policy denies it"
    if evidence.answer.status >= 400:  # the application's own refusal
        why = f"{why}; the application itself answered {evidence.answer.status}"
        change = "look into the application's log, not at the policies"
        return explain(evidence, "allowed", why, change, _changed_path(evidence))
    if found := _slipped(evidence) or _lost_target(evidence):
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


def _slipped(evidence: Evidence) -> Diagnosis | None:
    """Return the cause if another spelling of the path passes a policy that refuses the path itself."""
    call, rules = seen.call(evidence), evidence.rules(RULES)
    found = PARAMETERS.search(call.path or "")
    ways = {"": replace(call, path=PARAMETERS.sub("", call.path or ""))} if found else {}
    for how, asked in {**ways, **dict.fromkeys(matching.MERGING, call)}.items():
        settings = replace(evidence.mesh, normalization=how or evidence.mesh.normalization)
        verdict = evaluator.decide(rules, asked, settings)
        if verdict.allowed is False and (verdict.action == "DENY" or any("not" in one.field for one in verdict.misses)):
            spelt = f"the parameters {found[0]} in" if found and not how else "the slashes in"
            why = f"{verdict.policy} refuses this path, but {spelt} {evidence.shown_path} make another path of it"
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


def _without_effect(evidence: Evidence, workload: Workload) -> Diagnosis | None:
    """Return the cause if an AuthorizationPolicy is meant for the workload and has no effect."""
    found = [(policy, why) for policy, why in evidence.set_aside(workload) if policy["kind"] == RULES]
    if not found:
        return None
    policy, reason = found[0]
    why = f"the policy {policies.name(policy)} has no effect: {reason}"
    if "revision" in reason:
        change = f"remove the label {REVISION}, or write the revision {evidence.mesh.revision}"
        return explain(
            evidence, "other-revision", why, change, command=_merged(policy, metadata={"labels": {REVISION: None}})
        )
    change = f"if it is meant to be enforced, remove the annotation {policies.DRY_RUN}"
    command = _merged(policy, metadata={"annotations": {policies.DRY_RUN: None}})
    return explain(evidence, "dry-run", why, change, command=command)


def _merged(policy: Mapping, **content: Mapping) -> str:
    """Return the command that merges content into a policy; None removes a field."""
    return kubectl.merge(policy["kind"], policy["metadata"]["name"], policy["metadata"]["namespace"], content)


def _misplaced_policy(evidence: Evidence, workload: Workload) -> Diagnosis | None:
    """Return the cause if a policy that selects no pod almost selects this workload."""
    name = workload_name(workload)
    for policy in (one for one in evidence.policies if one["kind"] == RULES):
        namespace, wanted = policy["metadata"]["namespace"], policies.selector(policy)
        refs = [(one.get("kind"), one.get("name")) for one in policies.targets(policy)]
        service = (evidence.service or {}).get("metadata", {}).get("name")
        if namespace == workload.namespace and ("Service", service) in refs and not evidence.waypoint:
            why = f"the policy {policies.name(policy)} targets the Service {service}, and only a waypoint reads such"
            change = "write a selector with the labels of the pods instead of targetRefs, or put a waypoint before it"
            right = {"targetRefs": None, "selector": {"matchLabels": identifying(workload.labels)}}
            command = _merged(policy, spec=right) if len(refs) == 1 else ""
            return explain(evidence, "target-ref", why, change, command=command)
        if _selects_pods(evidence, namespace, wanted):
            continue
        if namespace == workload.namespace and policies.resembles(wanted, workload.labels):
            live = labels_text({key: workload.labels[key] for key in wanted if key in workload.labels})
            why = f"the policy {policies.name(policy)} selects {labels_text(wanted)}, but {name} has other labels"
            change = f"write the labels of the live pods into its selector: {live}"
            command = _merged(
                policy, spec={"selector": {"matchLabels": {key: workload.labels.get(key) for key in wanted}}}
            )
            return explain(evidence, "selector", why, change, command=command)
        if namespace != workload.namespace and wanted and wanted.items() <= workload.labels.items():
            why = f"the policy {policies.name(policy)} applies only in its own namespace, and {name} is in another"
            metadata = {"name": policy["metadata"]["name"], "namespace": workload.namespace}
            moved = {"apiVersion": policies.API, "kind": RULES, "metadata": metadata, "spec": policy["spec"]}
            change = f"apply the policy in the namespace {workload.namespace}"
            return explain(evidence, "wrong-namespace", why, change, command=kubectl.apply(moved))
    return None


def _lost_target(evidence: Evidence) -> Diagnosis | None:
    """Return the cause if a policy for the gateway on the way targets a Gateway that its namespace does not have."""
    if not evidence.gateway:
        return None
    passed = [policies.name(one) for one in evidence.gateways]
    for policy in (one for one in evidence.policies if one["kind"] == RULES):
        home = policy["metadata"]["namespace"]
        for name in [ref["name"] for ref in policies.targets(policy) if ref.get("kind") == "Gateway"]:
            homes = [one.partition("/")[0] for one in passed if one.endswith(f"/{name}")]
            meant = homes or home == evidence.gateway.namespace
            if not meant or _selects_pods(evidence, home, {policies.GATEWAY_NAME: name}):
                continue
            why = f"the policy {policies.name(policy)} is in force nowhere: there is no Gateway {home}/{name}"
            move = f"apply the policy in the namespace {', '.join(homes)}: targetRefs name its own namespace's"
            correct = f"correct the name in its targetRefs; the request came by {', '.join(passed)}"
            return explain(evidence, "target-ref", why, move if homes else correct)
    return None


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


def _selects_pods(evidence: Evidence, namespace: str, wanted: Mapping[str, str]) -> bool:
    """Return whether a policy selects some pods: then it is where its author meant it to be."""
    pods = [pod["metadata"] for pod in evidence.workloads if pod["metadata"]["namespace"] == namespace]
    return bool(wanted) and any(wanted.items() <= pod.get("labels", {}).items() for pod in pods)
