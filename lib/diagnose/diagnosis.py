"""The result of `why`: who refused the request, why, and what to change, then the evidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from lib.diagnose.evidence import Evidence, token_line
from lib.diagnose.pods import Workload, identifying
from lib.diagnose.request import shown
from lib.istio import policies
from lib.istio.access_log import Hop
from lib.kubernetes import kubectl
from lib.redact import clean


@dataclass(frozen=True)
class Diagnosis:
    """A cause by its short name, and three lines: `refused` (who answered what), `why`, `change` (what to do).

    `command` does the change, "" if no command of kubectl can.
    """

    cause: str
    refused: str
    why: str
    change: str
    evidence: Sequence[str] = ()
    command: str = ""

    def one_line(self) -> str:
        """Return the three lines as one."""
        return clean(f"{self.refused}; why: {self.why}; change: {self.change}")

    def __str__(self) -> str:
        lines = [self.refused, f"why: {self.why}", f"change: {self.change}"]
        command = [f"run: {self.command}"] if self.command else []
        return clean("\n".join([*lines, *command, *(f"  · {one}" for one in self.evidence)]))


def explain(evidence: Evidence, cause: str, why: str, change: str, *details: str, command: str = "") -> Diagnosis:
    """Return a diagnosis: `details` are the cause's own evidence, before the lines that every diagnosis has.

    A command with a secret in it is left out.
    """
    texts = [refusal(evidence), why, change, *filter(None, details), *_common(evidence)]
    first, second, third, *rest = (shown(text, evidence.secrets) for text in texts)  # the one redaction on the way out
    return Diagnosis(cause, first, second, third, rest, command if shown(command, evidence.secrets) == command else "")


def policy_command(workload: Workload | None, kind: str, **spec: Any) -> str:
    """Return the command that applies a policy of its own for a workload; "" without a workload."""
    if not workload:
        return ""
    labels = identifying(workload.labels)
    metadata = {"name": f"why-{workload_name(workload).rpartition('/')[2]}", "namespace": workload.namespace}
    spec = {"selector": {"matchLabels": labels}, **spec}
    return kubectl.apply({"apiVersion": policies.API, "kind": kind, "metadata": metadata, "spec": spec})


def refusal(evidence: Evidence) -> str:
    """Return who answered, and what, in one line."""
    answer = evidence.answer
    if not answer.status:
        return f"no answer ({answer.reason}), on the way to {destination_name(evidence)}"
    page = answer.reason.lstrip().lower().startswith("<!doctype html")
    words = f"{answer.status} {'(an HTML page)' if page else answer.reason}".strip()
    if grpc_status(evidence):
        words = f"{answer.status} with grpc-status {grpc_status(evidence)} {grpc_message(evidence)}".strip()
    return f"{_who(evidence, evidence.refuser)}: {words}"


def grpc_status(evidence: Evidence) -> str:
    """Return the status of a gRPC refusal, which comes as HTTP 200 with a header; "" for any other answer."""
    status = evidence.answer.headers.get("grpc-status", "0")
    return "" if status == "0" else status


def grpc_message(evidence: Evidence) -> str:
    """Return the message of a gRPC answer."""
    return unquote(evidence.answer.headers.get("grpc-message", ""))


def body(evidence: Evidence) -> str:
    """Return the words of a refusal: the body, or the message of a gRPC answer."""
    return evidence.answer.body or evidence.answer.reason or grpc_message(evidence)


def destination_name(evidence: Evidence) -> str:
    """Return the destination: the workload if it is known, else the gateway, else the URL's host."""
    if evidence.gateway and not evidence.workload:
        return f"the gateway {workload_name(evidence.gateway)}"
    return workload_name(evidence.workload) if evidence.workload else evidence.host


def workload_name(workload: Workload | None) -> str:
    """Return a workload as namespace/app."""
    if not workload:
        return "(no workload)"
    labels = workload.labels
    name = labels.get("app") or labels.get("app.kubernetes.io/name") or labels.get("istio") or workload.pod
    return f"{workload.namespace}/{name}"


def labels_text(labels: dict[str, str]) -> str:
    """Return labels as kubectl writes them: key=value, separated by commas."""
    return ", ".join(f"{key}={value}" for key, value in labels.items())


def _common(evidence: Evidence) -> list[str]:
    """Return the evidence for every cause: the proxies' log lines, the token's claims, the policies in force."""
    hops = {"gateway": evidence.gateway_hop, "sidecar": evidence.sidecar_hop, "caller's sidecar": evidence.caller_hop}
    lines = [
        f"access log, {name}: {hop.code} {hop.flags or '-'} {hop.details or '-'}" for name, hop in hops.items() if hop
    ]
    if evidence.claims:
        lines.append(f"token: {token_line(evidence)}")
    if evidence.guard:
        in_force = [f"{one['kind']} {policies.name(one)}" for kind in policies.KINDS for one in evidence.rules(kind)]
        lines.append(f"in force at {workload_name(evidence.guard)}: {', '.join(in_force) or 'no policy'}")
        for policy, why in evidence.set_aside():
            lines.append(f"without effect: {policy['kind']} {policies.name(policy)}: {why}")
    if evidence.log_problem:
        lines.append(evidence.log_problem)
    return lines


def _who(evidence: Evidence, hop: Hop | None) -> str:
    if hop is None:
        if evidence.gateway and evidence.answered_at_the_edge:
            return f"the gateway {workload_name(evidence.gateway)}"
        return f"a proxy or server on the way to {destination_name(evidence)}"
    if hop.details == "via_upstream":
        return f"the application {workload_name(evidence.workload)}"
    if hop is evidence.sidecar_hop:
        return f"the sidecar of {workload_name(evidence.workload)}"
    if hop is evidence.gateway_hop:
        return f"the gateway {workload_name(evidence.gateway)}"
    return f"the caller's sidecar, of {workload_name(evidence.caller)}"
