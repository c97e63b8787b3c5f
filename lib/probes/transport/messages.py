"""What goes over the wire and what comes back, whoever carries it: a socket from here, or a pod's curl."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from string import Formatter

from lib.istio import answers
from lib.probes.model import Probe


@dataclass(frozen=True)
class Request:
    """One request as it is sent: header lines in their order, Host among them. `label` finds it in access logs."""

    method: str
    target: str
    headers: tuple[str, ...]
    body: str = ""
    version: str = "HTTP/1.1"
    label: str = ""


@dataclass(frozen=True)
class Reply:
    """What came back; `status` 0 is no HTTP at all, `reason` then says in a word what happened (answers.MEANINGS).

    `line` is the status line as it came, header names are lower-case, repeated headers are joined by ", ".
    """

    status: int
    line: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    body: str = ""
    latency_ms: float = 0.0
    reason: str = ""

    @property
    def answer(self) -> str:
        """The reply in short, as in `401 J18`."""
        return answers.text(self.status, answers.code(self.status, self.reason, self.body, self.headers))


# How requests reach a workload from one caller: replies in the requests' order.
Way = Callable[[list[Request]], list[Reply]]


def prepare(
    probe: Probe, token: Callable[[str], str], host: str, label: str, canary: str = "", scheme: str = "http"
) -> Request:
    """Return a probe's request. `token(name)` gives a token of lib.probes.tokens; `host` is the workload's name.

    {token} is the probe's own token, {good} the good one, {host} the workload's name, {scheme} the connection's,
    {canary} a server that must not be called, {nonce} the label. Any other name in braces is a token's, as in
    {expired}. Braces are doubled to stand for themselves. A probe that states a Host of its own keeps it; a `Host` line
    without value is left out wholly.
    """
    known = {"host": host, "canary": canary, "nonce": label, "scheme": scheme}
    fill = lambda text: _fill(text, lambda name: known[name] if name in known else token(_named(name, probe)))  # noqa: E731
    lines = [fill(line) for line in probe.headers]
    names = {line.partition(":")[0].strip().lower() for line in lines}
    first = [] if "host" in names else [f"Host: {host}"]
    if probe.token:
        first.append(f"Authorization: Bearer {token(probe.token)}")
    lines = [*first, *lines] + ([] if "user-agent" in names else [f"User-Agent: {label}"])
    kept = tuple(line for line in lines if line.strip().lower() != "host:")
    body = fill(probe.body)
    if body and not names & {"content-length", "transfer-encoding"}:
        kept += (f"Content-Length: {len(body.encode())}",)
    return Request(probe.method, fill(probe.path), kept, body, probe.version, label)


def _named(name: str, probe: Probe) -> str:
    return probe.token if name == "token" else name


def _fill(text: str, value: Callable[[str], str]) -> str:
    parts = []
    for literal, name, _, _ in Formatter().parse(text):
        parts.append(literal)
        if name is not None:
            parts.append(value(name))
    return "".join(parts)
