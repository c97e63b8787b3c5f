"""Every cell of a matrix as a request: sent, judged, and sent again while policies are still on their way."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from lib.polling import until
from lib.probes.transport.messages import Request, Transport
from lib.roles.matrix import Cell

ALLOWED, REFUSED = "allowed", "refused"
REFUSALS = ("401", "403")  # the statuses of a refusal, by the mesh or by an authorizer behind it


@dataclass(frozen=True)
class Outcome:
    """A cell with its answer: `got` as in `403 R` (lib.istio.answers), `tries` the number of requests."""

    cell: Cell
    got: str
    tries: int
    latency_ms: float

    @property
    def expected(self) -> str:
        """What the matrix says."""
        return ALLOWED if self.cell.may else REFUSED

    @property
    def actual(self) -> str:
        """What the mesh did; the answer itself if it is neither."""
        return judged(self.got)

    @property
    def right(self) -> bool:
        """Whether the mesh did what the matrix says."""
        return self.actual == self.expected


def judged(answer: str) -> str:
    """Return whether an answer means allowed or refused, or the answer itself if no server answered."""
    status, _, code = answer.partition(" ")
    if status in REFUSALS or code == "R":  # R with 200 is a gRPC refusal
        return REFUSED
    return ALLOWED if code in ("app", "bare") else answer


def ask(
    send: Transport,
    cells: Sequence[Cell],
    token: Callable[[str], str | None],
    host: str,
    deadline: float = 0,
    headers: Mapping[str, str] = {},
    scheme: Callable[[str], str] = lambda _: "Bearer",
) -> list[Outcome]:
    """Send every cell's request; send those with a wrong answer again until they are right, for `deadline` seconds.

    Args:
        send: Sends the requests.
        cells: What to ask.
        token: Returns the token of a caller, None for the caller without one.
        host: The Host header.
        deadline: Seconds; 0 sends each request once.
        headers: Further headers.
        scheme: Returns the scheme that a caller writes before its token.
    """
    nonce, found = uuid.uuid4().hex[:8], dict.fromkeys(cells, Outcome(Cell("", "", "", False), "0 closed", 0, 0.0))
    waiting = list(dict.fromkeys(cells))

    def credentials(caller: str) -> str:
        held = token(caller)
        return f"{scheme(caller)} {held}" if held else ""

    def once() -> bool:
        requests = [_request(cell, credentials(cell.caller), host, f"role-{nonce}", headers) for cell in waiting]
        for cell, reply in zip(waiting, send(requests), strict=True):
            found[cell] = Outcome(cell, reply.answer, found[cell].tries + 1, reply.latency_ms)
        waiting[:] = [cell for cell in waiting if not found[cell].right]
        return not waiting

    until(once, bool, deadline=deadline, pause=0.5)
    return [found[cell] for cell in cells]


def _request(cell: Cell, credentials: str, host: str, label: str, headers: Mapping[str, str]) -> Request:
    bearer = (f"Authorization: {credentials}",) if credentials else ()
    more = tuple(f"{name}: {value}" for name, value in headers.items())
    body = () if cell.method in ("GET", "HEAD", "OPTIONS") else ("Content-Length: 0",)
    return Request(
        cell.method, cell.path, (f"Host: {host}", *bearer, f"User-Agent: {label}", *more, *body), label=label
    )
