"""What `why` answers: who refused, why, and what to change, then the evidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lib.diagnose.evidence import Scene, plain
from lib.diagnose.pods import Workload
from lib.istio import policies
from lib.istio.access_log import Hop


@dataclass(frozen=True)
class Diagnosis:
    """A cause by its short name, in three lines: `refused` says who answered what, `why`, and `change` what to do."""

    cause: str
    refused: str
    why: str
    change: str
    evidence: Sequence[str] = ()

    def told(self) -> str:
        """Return the three lines as one."""
        return f"{self.refused}; why: {self.why}; change: {self.change}"

    def __str__(self) -> str:
        lines = [self.refused, f"why: {self.why}", f"change: {self.change}", *(f"  · {one}" for one in self.evidence)]
        return "\n".join(lines)


def told(scene: Scene, cause: str, why: str, change: str, *evidence: str) -> Diagnosis:
    """Return the diagnosis of a scene, with what every cause has as evidence after its own."""
    return Diagnosis(cause, refusal(scene), why, change, [*filter(None, evidence), *common(scene)])


def refusal(scene: Scene) -> str:
    """Return who answered, in a line."""
    answer = scene.answer
    said = f"{answer.status} {answer.reason}".strip() if answer.status else f"no answer ({answer.reason})"
    hop = scene.refuser
    who = _who(scene, hop)
    return f"{who}: {said}" if answer.status else f"{said}, on the way to {place(scene)}"


def place(scene: Scene) -> str:
    """Return what was asked: the workload where it is known, else the URL's host."""
    if scene.gateway and not scene.workload:
        return f"the gateway {named(scene.gateway)}"
    return named(scene.workload) if scene.workload else scene.host


def named(workload: Workload | None) -> str:
    """Return a workload as people call it: namespace/app."""
    if not workload:
        return "(no workload)"
    labels = workload.labels
    name = labels.get("app") or labels.get("app.kubernetes.io/name") or labels.get("istio") or workload.pod
    return f"{workload.namespace}/{name}"


def common(scene: Scene) -> list[str]:
    """Return the evidence that is of use with every cause: what the proxies wrote, and what the token says."""
    hops = [("gateway", scene.gateway_hop), ("sidecar", scene.sidecar_hop), ("caller's sidecar", scene.caller_hop)]
    lines = [f"access log, {name}: {hop.code} {hop.flags or '-'} {hop.details or '-'}" for name, hop in hops if hop]
    if scene.token and scene.token.claims:
        lines.append(f"token: {plain(scene)}")
    if scene.guard:
        applying = [f"{one['kind']} {policies.name(one)}" for kind in policies.KINDS for one in scene.rules(kind)]
        lines.append(f"in force at {named(scene.guard)}: {', '.join(applying) or 'no policy'}")
    return lines


def _who(scene: Scene, hop: Hop | None) -> str:
    if hop is None:
        return f"somebody on the way to {place(scene)}" if scene.answer.status else "nobody"
    if hop.details == "via_upstream":
        return f"the application {named(scene.workload)}"
    if hop is scene.sidecar_hop:
        return f"the sidecar of {named(scene.workload)}"
    if hop is scene.gateway_hop:
        return f"the gateway {named(scene.gateway)}"
    return f"the caller's own sidecar, of {named(scene.caller)}"
