"""What one request cannot show: the same token twice, a connection that is kept, a WebSocket, a gRPC call."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass

from lib.istio import answers
from lib.polling import until
from lib.probes.transport.messages import Reply, Request, Way
from lib.probes.transport.sockets import Edge, Line, over_sockets

SOON = 8  # seconds within which a token that is about to end must have ended; go-httpbin ends a WebSocket after 10
LONG = 64 * 1024  # bytes; Envoy's limit for all headers is 60 KiB
FRAME = b"still here"
EXPIRED = "401 J15"
EDGES = ("exp 60 s ago", "exp 59 s ago", "exp 61 s ago", "nbf 60 s ahead", "nbf 62 s ahead")
EARLY = 0.3  # of a second: what is asked so early in one is answered in the same


@dataclass(frozen=True)
class Drill:
    """What a sequence needs: the gateway's `address`, the workload's `host` name, and a way to ask it.

    The address is host:port, or an Edge. `token(name)` gives a token of lib.probes.tokens; its "ending" has a life of
    a few seconds left, Envoy's 60 s of grace included. `label` finds the requests in access logs, with -1, -2 … behind
    it.
    `name` is the profile or world that the workload stands for.
    """

    address: str | Edge
    host: str
    ask: Way
    token: Callable[[str], str]
    label: str
    name: str = ""


def replay(drill: Drill) -> list[str]:
    """Return the answers to one good token sent twice, each on a connection of its own."""
    wanted = [request(drill, number, "good") for number in (1, 2)]
    return [reply.answer for one in wanted for reply in drill.ask([one])]


def keep_alive(drill: Drill) -> list[str]:
    """Return the answers to a good token, then none, on one connection."""
    with Line(drill.address) as line:
        return [line.ask(request(drill, number, name)).answer for number, name in enumerate(("good", ""), 1)]


def websocket(drill: Drill) -> list[str]:
    """Return the answers to a WebSocket's opening with no token, and with a good one whose echo came back."""
    return [_opened(drill, 1, ""), _opened(drill, 2, "good")]


def websocket_stays(drill: Drill) -> list[str]:
    """Return three answers: a WebSocket's opening, the same token on a new request once it ended, and an echo then.

    The echo counts as one more `101 app`; `0 closed` is a WebSocket that was ended with its token.
    """
    with Line(drill.address) as line:
        opened = line.ask(request(drill, 1, "ending", "/websocket/echo", UPGRADE))
        fresh = lambda: drill.ask([request(drill, 2, "ending")])[0].answer  # noqa: E731
        ended = until(fresh, lambda answer: answer == EXPIRED, deadline=SOON)
        return [opened.answer, ended.value, _echo(line, opened).answer]


def grpc(drill: Drill) -> list[str]:
    """Return what gRPC callers get, without a token and with an expired one: grpc-status, and who said it why."""
    return [_grpc(drill, number, name) for number, name in enumerate(("", "expired"), 1)]


def many_headers(drill: Drill) -> list[str]:
    """Return the answers to a good token with 101 headers more, and with as many as the gateway just lets pass.

    Envoy's limit is 100; what the gateway adds is then too much for the sidecar.
    """
    heaps = [tuple(f"X-Many-{number}: 1" for number in range(count)) for count in (101, 97)]
    return [drill.ask([request(drill, number, "good", more=heap)])[0].answer for number, heap in enumerate(heaps, 1)]


def long_header(drill: Drill) -> list[str]:
    """Return the answers to an Authorization of 64 KiB, and to a good token beside another header of that size."""
    asked = [
        request(drill, 1, "", more=(f"Authorization: Bearer {'a' * LONG}",)),
        request(drill, 2, "good", more=(f"X-Long: {'a' * LONG}",)),
    ]
    return [reply.answer for reply in drill.ask(asked)]


def edges(drill: Drill) -> list[str]:
    """Return the answers to tokens 60, 59 and 61 seconds past their exp, then 60 and 62 seconds before their nbf.

    Each is made just before it is sent, all within one second of this machine's clock, which should be the mesh's too.
    """
    until(lambda: time.time() % 1, lambda part: part < EARLY, deadline=2, pause=0.05)
    return [drill.ask([request(drill, number, name)])[0].answer for number, name in enumerate(EDGES, 1)]


def request(drill: Drill, number: int, token: str, path: str = "/headers", more: tuple[str, ...] = ()) -> Request:
    """Return a sequence's request of this number, with a token by name; no name is none."""
    label = f"{drill.label}-{number}"
    bearer = (f"Authorization: Bearer {drill.token(token)}",) if token else ()
    lines = (f"Host: {drill.host}", *bearer, f"User-Agent: {label}", *more)
    return Request("GET", path, lines, label=label)


UPGRADE = (
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",  # RFC 6455's own example
)

DRILLS: dict[str, Callable[[Drill], list[str]]] = {
    "replay": replay,
    "keep-alive": keep_alive,
    "websocket": websocket,
    "websocket-stays": websocket_stays,
    "grpc": grpc,
    "many-headers": many_headers,
    "long-header": long_header,
    "edges": edges,
}


def _opened(drill: Drill, number: int, token: str) -> str:
    with Line(drill.address) as line:
        reply = line.ask(request(drill, number, token, "/websocket/echo", UPGRADE))
        return (_echo(line, reply) if reply.status == 101 else reply).answer


def _echo(line: Line, opened: Reply) -> Reply:
    """Return the reply that opened the WebSocket if it still echoes, else that it is closed."""
    try:
        line.send(frame(FRAME, os.urandom(4)))
        echoed = line.read(2 + len(FRAME))[2:]
    except (OSError, EOFError):
        return Reply(0, reason="closed")
    return opened if echoed == FRAME else Reply(0, reason="closed")


def frame(text: bytes, mask: bytes) -> bytes:
    """Return a client's text frame of fewer than 126 bytes (RFC 6455, section 5.2)."""
    masked = bytes(byte ^ mask[place % 4] for place, byte in enumerate(text))
    return bytes([0x81, 0x80 | len(text)]) + mask + masked


def _grpc(drill: Drill, number: int, token: str) -> str:
    plain = request(drill, number, token, "/probe.Probe/Call", ("content-type: application/grpc", "te: trailers"))
    empty = "\0" * 5  # a message without fields: not compressed, 0 bytes long
    call = Request("POST", plain.target, plain.headers, empty, "HTTP/2", plain.label)
    reply = over_sockets(drill.address)([call])[0]
    status = reply.headers.get("grpc-status")
    if status is None:
        return reply.answer
    return answers.text(int(status), answers.code(reply.status, "", reply.body, reply.headers))
