"""Causes of an answer that the application gave: which policy allows the request, or what lets everybody in."""

from __future__ import annotations

from collections.abc import Mapping

from lib.diagnose.authorization import not_yet_applied, policy_input
from lib.diagnose.diagnosis import Diagnosis, explain, labels_text, workload_name
from lib.diagnose.evidence import Evidence
from lib.diagnose.pods import Workload
from lib.istio import policies
from lib.istio.policies import PEERS, REQUESTS, RULES


def find_cause(evidence: Evidence) -> Diagnosis | None:
    """Return why the request reached the application, the most surprising cause first."""
    workload = evidence.workload
    if not workload or not evidence.answer.status:
        return None
    if not workload.proxied:
        why = f"{workload_name(workload)} has no sidecar: nothing checks its requests"
        change = "label its namespace istio-injection=enabled, and restart its pods"
        return explain(evidence, "sidecar-missing", why, change)
    rules = evidence.rules(RULES, workload)
    if not rules:
        return _misplaced_policy(evidence, workload) or _nothing_demanded(evidence, workload)
    verdict = policies.decide(rules, policy_input(evidence))
    if not verdict.allowed:
        return not_yet_applied(evidence, "the current policies refuse this request")
    if evidence.caller and not evidence.caller.proxied:
        return _permissive(evidence, workload)
    why = f"{verdict.policy} allows it" if verdict.policy else "no ALLOW policy applies, and no policy denies it"
    return explain(evidence, "allowed", why, "nothing, if this is intended")


def _permissive(evidence: Evidence, workload: Workload) -> Diagnosis:
    mode, policy = evidence.mutual_tls()
    source = f"set by {policy}" if policy else "the default without a PeerAuthentication"
    why = f"mutual TLS is {mode} at {workload_name(workload)} ({source}): it accepts plain text"
    change = "apply a PeerAuthentication with mode STRICT, for the workload, its namespace, or the mesh"
    return explain(evidence, "permissive", why, change)


def _misplaced_policy(evidence: Evidence, workload: Workload) -> Diagnosis | None:
    """Return the cause if a policy that selects no pod almost selects this workload."""
    name = workload_name(workload)
    for policy in (one for one in evidence.policies if one["kind"] == RULES):
        namespace, wanted = policy["metadata"]["namespace"], policies.selector(policy)
        if _selects_pods(evidence, namespace, wanted):
            continue
        if namespace == workload.namespace and policies.resembles(wanted, workload.labels):
            live = labels_text({key: workload.labels[key] for key in wanted if key in workload.labels})
            why = f"the policy {policies.name(policy)} selects {labels_text(wanted)}, but {name} has other labels"
            return explain(evidence, "selector", why, f"write the labels of the live pods into its selector: {live}")
        if namespace != workload.namespace and wanted and wanted.items() <= workload.labels.items():
            why = f"the policy {policies.name(policy)} applies only in its own namespace, and {name} is in another"
            return explain(evidence, "wrong-namespace", why, f"apply the policy in the namespace {workload.namespace}")
    return None


def _nothing_demanded(evidence: Evidence, workload: Workload) -> Diagnosis:
    if evidence.rules(REQUESTS, workload):
        why = "a RequestAuthentication alone refuses invalid tokens, but does not require a token"
        change = "add an AuthorizationPolicy that requires requestPrincipals"
        return explain(evidence, "nothing-demanded", why, change)
    why = "mutual TLS is the only requirement" if evidence.rules(PEERS, workload) else "no policy applies to it"
    change = "add a RequestAuthentication and an AuthorizationPolicy for it"
    return explain(evidence, "nothing-demanded", why, change)


def _selects_pods(evidence: Evidence, namespace: str, wanted: Mapping[str, str]) -> bool:
    """Return whether a policy selects some pods: then it is where its author meant it to be."""
    pods = [pod["metadata"] for pod in evidence.workloads if pod["metadata"]["namespace"] == namespace]
    return bool(wanted) and any(wanted.items() <= pod.get("labels", {}).items() for pod in pods)
