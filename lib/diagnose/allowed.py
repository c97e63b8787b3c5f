"""Causes of an answer that should have been a refusal: what lets everybody in."""

from __future__ import annotations

from lib.diagnose.authorization import late, seen
from lib.diagnose.diagnosis import Diagnosis, named, told
from lib.diagnose.evidence import Scene
from lib.istio import policies
from lib.istio.policies import PEERS, REQUESTS, RULES


def diagnosed(scene: Scene) -> Diagnosis | None:
    """Return why a request was let through to the application, the most surprising cause first."""
    if not scene.workload or not scene.answer.status:
        return None
    if not scene.workload.proxied:
        return told(
            scene, "sidecar-missing", f"{named(scene.workload)} has no sidecar: nobody checks anything there",
            "label its namespace istio-injection=enabled, and start its pods anew",
        )  # fmt: skip
    rules = scene.rules(RULES, scene.workload)
    if not rules:
        return _no_rules(scene)
    verdict = policies.decide(rules, seen(scene))
    if not verdict.allowed:
        return late(scene, "the policies as they are now would refuse it")
    if scene.caller and not scene.caller.proxied:
        return _plain(scene)
    by = f"{verdict.policy} allows it" if verdict.policy else "no policy there is one that allows, and none denies it"
    return told(scene, "allowed", by, "nothing, if that is what was meant")


def _plain(scene: Scene) -> Diagnosis:
    mode, policy = policies.mode(scene.policies, scene.workload.namespace, scene.workload.labels)
    set_by = f"set by {policy}" if policy else "the default, where no PeerAuthentication says otherwise"
    return told(
        scene, "permissive", f"mutual TLS is {mode} at {named(scene.workload)} ({set_by}): plain text is let in",
        "apply a PeerAuthentication with mode STRICT, for the workload, its namespace, or the mesh",
    )  # fmt: skip


def _no_rules(scene: Scene) -> Diagnosis:
    workload, every = scene.workload, scene.policies
    rules = [one for one in every if one["kind"] == RULES]
    for one in rules:
        home, wanted = one["metadata"]["namespace"], policies.selector(one)
        if _selects_somebody(scene, home, wanted):
            continue
        if home == workload.namespace and policies.resembles(wanted, workload.labels):
            return told(
                scene, "selector", f"the policy {policies.name(one)} selects {_labels(wanted)}, which is no label of "
                f"{named(workload)}", f"write the live pods' labels into it: {_labels(_own(workload.labels, wanted))}",
            )  # fmt: skip
        if home != workload.namespace and wanted and wanted.items() <= workload.labels.items():
            return told(
                scene, "wrong-namespace", f"the policy {policies.name(one)} selects these labels, but counts only in "
                f"its own namespace, and this workload is in {workload.namespace}",
                f"apply it in {workload.namespace}",
            )  # fmt: skip
    if scene.rules(REQUESTS, workload):
        return told(
            scene, "nothing-demanded", "a RequestAuthentication alone: a token that is there must be good, and none "
            "need be there", "add an AuthorizationPolicy that wants requestPrincipals",
        )  # fmt: skip
    peers = "mutual TLS is all that is asked" if scene.rules(PEERS, workload) else "no policy is about it at all"
    return told(scene, "nothing-demanded", peers, "add a RequestAuthentication and an AuthorizationPolicy for it")


def _selects_somebody(scene: Scene, home: str, wanted) -> bool:
    """Whether a policy is about other pods: then it is where it was meant to be."""
    pods = [pod["metadata"] for pod in scene.workloads if pod["metadata"]["namespace"] == home]
    return bool(wanted) and any(wanted.items() <= pod.get("labels", {}).items() for pod in pods)


def _labels(found) -> str:
    return ", ".join(f"{key}={value}" for key, value in found.items())


def _own(labels, wanted) -> dict:
    return {key: labels[key] for key in wanted if key in labels}
