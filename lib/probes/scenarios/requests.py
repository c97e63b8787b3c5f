"""Scenarios of several requests: a replayed token, a kept connection, a WebSocket, a gRPC call."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from operator import itemgetter

from lib.istio import answers
from lib.parallel import at_once
from lib.polling import until
from lib.probes.tokens.kit import Missing
from lib.probes.transport.messages import Reply, Request, Transport
from lib.probes.transport.sockets import Connection, TlsAddress, over_sockets

SOON = 8  # seconds until the token "ending" must end; go-httpbin closes a WebSocket after 10
PATIENCE = 10  # seconds: a busy machine may not answer within one, and is asked about an edge in another
LONG = 64 * 1024  # bytes; Envoy's limit for all headers is 60 KiB
FRAME = b"still here"
EXPIRED, CLOSED = "401 J15", "0 closed"
DRAINED = 50  # seconds: a sidecar whose policies have changed ends its old connections within 45 (drain-time-s)
EDGES = ("exp 60 s ago", "exp 59 s ago", "exp 61 s ago", "nbf 60 s ahead", "nbf 62 s ahead")
EARLY = 0.3  # of a second: a request sent before this part is answered within the same second


@dataclass(frozen=True)
class Context:
    """What a scenario works with.

    Args:
        address: The gateway's address.
        host: The workload's name in the Host header.
        transport: Sends requests from the probe's caller; None if the target has no transport for it.
        token: Returns a token of the catalogue by name. "ending" is new at each call, and lives a few more seconds,
            Envoy's 60 s of grace included.
        label: Finds the requests in access logs, with -1, -2 … behind it.
        name: The profile or world that the workload stands for.
    """

    address: str | TlsAddress
    host: str
    transport: Transport | None
    token: Callable[[str], str]
    label: str
    name: str = ""

    def ask(self, requests: list[Request]) -> list[Reply]:
        """Send requests from the probe's caller."""
        if self.transport is None:
            raise Missing(f"no transport leads from the caller to {self.name} here")
        return self.transport(requests)


# Returns its answers in their order, as in ["200 app", "403 R"].
Scenario = Callable[[Context], list[str]]


def replay(context: Context) -> list[str]:
    """Return the answers to one good token sent twice, each on a connection of its own."""
    wanted = [request(context, number, "good") for number in (1, 2)]
    return [reply.answer for one in wanted for reply in context.ask([one])]


def keep_alive(context: Context) -> list[str]:
    """Return the answers to a good token, then none, on one connection."""
    with Connection(context.address) as connection:
        return [connection.ask(request(context, number, name)).answer for number, name in enumerate(("good", ""), 1)]


def websocket(context: Context) -> list[str]:
    """Return the answers to a WebSocket's opening with no token, and with a good one whose echo came back."""
    return [_opened(context, 1, ""), _opened(context, 2, "good")]


def websocket_stays(context: Context) -> list[str]:
    """Return three answers: a WebSocket's opening, a new request once the token has ended, and an echo after that.

    The echo counts as one more `101 app`. `0 closed` means that the WebSocket ended with its token. On a busy machine a
    token may end before the WebSocket opens, and Envoy ends old connections after a change of policies. Then a new
    token opens a new WebSocket. One that outlives its token is enough.
    """

    def once() -> list[str]:
        ending = context.token("ending")
        same = replace(context, token=lambda _: ending)
        with Connection(context.address) as connection:
            opened = connection.ask(request(same, 1, "ending", "/websocket/echo", UPGRADE))
            fresh = lambda: same.ask([request(same, 2, "ending")])[0].answer  # noqa: E731
            ended = until(fresh, lambda answer: answer == EXPIRED, deadline=SOON)
            return [opened.answer, ended.value, _echo(connection, opened).answer]

    stays = lambda got: got[0] != EXPIRED and got[-1] != CLOSED  # noqa: E731
    return until(once, stays, deadline=DRAINED, pause=0, reraise=(Exception,)).value


def grpc(context: Context) -> list[str]:
    """Return the answers to gRPC calls without a token and with an expired one: grpc-status and its code."""
    return [_grpc(context, number, name) for number, name in enumerate(("", "expired"), 1)]


def many_headers(context: Context) -> list[str]:
    """Return the answers to a good token with 101 more headers, and with as many as the gateway just accepts.

    Envoy's limit is 100 (max_headers_count). The headers that the gateway adds then exceed the sidecar's limit.
    """
    batches = [tuple(f"X-Many-{number}: 1" for number in range(count)) for count in (101, 97)]
    sent = [request(context, number, "good", more=lines) for number, lines in enumerate(batches, 1)]
    return [context.ask([one])[0].answer for one in sent]


def long_header(context: Context) -> list[str]:
    """Return the answers to an Authorization of 64 KiB, and to a good token beside another header of that size."""
    asked = [
        request(context, 1, "", more=(f"Authorization: Bearer {'a' * LONG}",)),
        request(context, 2, "good", more=(f"X-Long: {'a' * LONG}",)),
    ]
    return [reply.answer for reply in context.ask(asked)]


def edges(context: Context) -> list[str]:
    """Return the answers to tokens 60, 59 and 61 seconds past their exp, then 60 and 62 seconds before their nbf.

    All are asked at once. Each token is made just before it is sent. An answer counts if it came within the same
    second of this machine's clock; on a busy machine the token is made and sent again. The mesh's clock should agree
    with it.
    """

    def once(number: int, name: str) -> tuple[str, bool]:
        until(lambda: time.time() % 1, lambda part: part < EARLY, deadline=2, pause=0.05)
        second = int(time.time())
        answer = context.ask([request(context, number, name)])[0].answer
        return answer, int(time.time()) == second

    def timely(number: int, name: str) -> str:
        asked = until(lambda: once(number, name), itemgetter(1), deadline=PATIENCE, pause=0, reraise=(Exception,))
        return asked.value[0]

    return at_once([partial(timely, number, name) for number, name in enumerate(EDGES, 1)], len(EDGES))


def request(context: Context, number: int, token: str, path: str = "/headers", more: tuple[str, ...] = ()) -> Request:
    """Return the scenario's request of this number, with the token of this name, or none if the name is empty."""
    label = f"{context.label}-{number}"
    bearer = (f"Authorization: Bearer {context.token(token)}",) if token else ()
    lines = (f"Host: {context.host}", *bearer, f"User-Agent: {label}", *more)
    return Request("GET", path, lines, label=label)


UPGRADE = (
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",  # the example of RFC 6455, section 1.3
)

SCENARIOS: dict[str, Scenario] = {
    "replay": replay,
    "keep-alive": keep_alive,
    "websocket": websocket,
    "websocket-stays": websocket_stays,
    "grpc": grpc,
    "many-headers": many_headers,
    "long-header": long_header,
    "edges": edges,
}


def _opened(context: Context, number: int, token: str) -> str:
    with Connection(context.address) as connection:
        reply = connection.ask(request(context, number, token, "/websocket/echo", UPGRADE))
        return _echo(connection, reply).answer


def _echo(connection: Connection, opened: Reply) -> Reply:
    """Return the reply that opened the WebSocket if it still echoes, else `0 closed`; a refusal as it is."""
    if opened.status != 101:
        return opened
    try:
        connection.send(frame(FRAME, os.urandom(4)))
        echoed = connection.read(2 + len(FRAME))[2:]
    except (OSError, EOFError):
        return Reply(0, reason="closed")
    return opened if echoed == FRAME else Reply(0, reason="closed")


def frame(text: bytes, mask: bytes) -> bytes:
    """Return a client's text frame of fewer than 126 bytes (RFC 6455, section 5.2)."""
    masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(text))
    return bytes([0x81, 0x80 | len(text)]) + mask + masked


def _grpc(context: Context, number: int, token: str) -> str:
    plain = request(context, number, token, "/probe.Probe/Call", ("content-type: application/grpc", "te: trailers"))
    empty = "\0" * 5  # a message without fields: not compressed, 0 bytes long
    call = Request("POST", plain.target, plain.headers, empty, "HTTP/2", plain.label)
    reply = over_sockets(context.address)([call])[0]
    status = reply.headers.get("grpc-status")
    if status is None:
        return reply.answer
    return answers.text(int(status), answers.code(reply.status, "", reply.body, reply.headers))
