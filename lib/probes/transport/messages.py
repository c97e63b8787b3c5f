"""Requests and replies as they are on the wire, for every transport: a local socket or a pod's curl."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from string import Formatter

from lib.crypto import jwt
from lib.istio import answers
from lib.probes.model import Probe
from lib.redact import clean

WIDTH = 160  # characters of a line that is shown
READ, BODY_LINES = 4096, 12  # characters and lines of a body that are shown


@dataclass(frozen=True)
class Request:
    """One request as it is sent: `headers` are its header lines, with Host; `label` finds it in access logs."""

    method: str
    target: str
    headers: tuple[str, ...]
    body: str = ""
    version: str = "HTTP/1.1"
    label: str = ""

    @property
    def text(self) -> str:
        """The request for people to read: its lines, with control characters escaped."""
        lines = [f"{self.method} {self.target} {self.version}", *self.headers, *filter(None, [self.body])]
        return "\n".join(ascii(line)[1:-1] for line in lines)


@dataclass(frozen=True)
class Reply:
    """What came back. Status 0 means no HTTP at all; `reason` then says in a word what happened (answers.MEANINGS).

    `line` is the raw status line. Header names are lower-case, and repeated headers are joined by ", ".
    """

    status: int
    line: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    body: str = ""
    latency_ms: float = 0.0
    reason: str = ""

    @property
    def text(self) -> str:
        """The reply for people to read: status line, headers and the body's first lines, with tokens masked."""
        headers = [f"{name}: {value}" for name, value in self.headers.items()]
        lines = [self.line or f"no HTTP: {self.reason}", *headers, "", *self.body[:READ].splitlines()[:BODY_LINES]]
        return "\n".join(clean(line)[:WIDTH] for line in lines).rstrip()

    @property
    def answer(self) -> str:
        """The reply as a short answer, as in `401 J18`."""
        return answers.text(self.status, answers.code(self.status, self.reason, self.body, self.headers))


# Sends requests from one caller to one workload; returns the replies in the requests' order.
Transport = Callable[[list[Request]], list[Reply]]


def prepare(
    probe: Probe, token: Callable[[str], str], host: str, label: str, canary: str = "", scheme: str = "http"
) -> Request:
    """Return a probe's request, with the values of the names in braces filled in.

    In path, headers and body, {token} is the probe's own token, {host} the workload's host, {scheme} the connection's
    scheme, {canary} the canary's address and {nonce} the label. Any other name is a token's, as in {good}. Doubled
    braces stand for a brace. Host and User-Agent are added unless the probe has them; a `Host:` line without a value
    leaves Host out.

    Args:
        probe: The row of the table.
        token: Returns a token of the catalogue by name.
        host: The workload's name in the Host header.
        label: The User-Agent, which finds the request in access logs.
        canary: The address of a server that must not be called.
        scheme: http or https.
    """
    known = {"host": host, "canary": canary, "nonce": label, "scheme": scheme}

    def value(name: str) -> str:
        return known[name] if name in known else token(probe.token if name == "token" else name)

    def fill(text: str) -> str:
        return _fill(
            text, lambda name: known[name] if name in known else token(probe.token if name == "token" else name)
        )

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


def masked_request(probe: Probe, token: Callable[[str], str], host: str, label: str = "") -> Request:
    """Return a probe's request for people to read: lines of at most 160 characters, tokens as name and fingerprint."""
    used: dict[str, str] = {}

    def remember(name: str) -> str:
        return used.setdefault(name, token(name))

    def masked(text: str) -> str:
        for name, value in sorted(used.items(), key=lambda item: -len(item[1])):
            if value:
                text = text.replace(value, f"[{name} sha256:{jwt.fingerprint(value)}]")
        return clean(text)[:WIDTH]

    request = prepare(probe, remember, host, label or probe.id)
    lines = tuple(masked(line) for line in request.headers)
    return Request(request.method, masked(request.target), lines, masked(request.body), request.version, request.label)


def _fill(text: str, value: Callable[[str], str]) -> str:
    parts = []
    for literal, name, _, _ in Formatter().parse(text):
        parts.append(literal)
        if name is not None:
            parts.append(value(name))
    return "".join(parts)


def head(lines: list[str]) -> tuple[int, dict[str, str]]:
    """Return the status and the headers of a reply's first lines; status 0 if the first is not a status line."""
    version, _, rest = lines[0].partition(" ")
    number = rest.partition(" ")[0]
    headers: dict[str, str] = {}
    for line in lines[1:]:
        name, _, value = line.partition(":")
        key, value = name.strip().lower(), value.strip()
        headers[key] = f"{headers[key]}, {value}" if key in headers else value
    return (int(number) if version.startswith("HTTP/") and number.isdigit() else 0), headers


def wire_bytes(text: str) -> bytes:
    """Return text in Latin-1 if possible, so U+00FF is one byte, else in UTF-8."""
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        return text.encode()
