"""HTTP/2 by prior knowledge, which can send what client libraries refuse: a bad method, a doubled pseudo-header."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import unquote

from h2 import events
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.exceptions import ProtocolError

from lib.probes.transport.messages import Reply, Request, wire_bytes

LIMIT = 256 * 1024  # bytes of a body that are kept
GRPC = "grpc-status"
STREAM = 1  # the first stream that a client opens

# h2 neither refuses, lower-cases nor removes headers, in either direction.
CONFIG = H2Configuration(
    client_side=True,
    header_encoding=None,
    validate_outbound_headers=False,
    normalize_outbound_headers=False,
    validate_inbound_headers=False,
    normalize_inbound_headers=False,
)

HeaderField = tuple[bytes, bytes]


@dataclass
class _Received:
    """The stream's data so far."""

    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    ended: bool = False
    reason: str = ""


def exchange(
    send: Callable[[bytes], None], receive: Callable[[int], bytes], request: Request, scheme: str = "http"
) -> Reply:
    """Return the reply to one request on a new connection; OSError as `send` and `receive` raise it.

    If the server resets the stream, the reply is status 0 with `reset`; if it ends the connection (GOAWAY), `closed`.
    Trailers count as headers. A gRPC answer without a body gets the text of grpc-message as its body.
    """
    connection, received = H2Connection(CONFIG), _Received()
    connection.initiate_connection()
    connection.send_headers(STREAM, pairs(request, scheme), end_stream=not request.body)
    if request.body:
        connection.send_data(STREAM, request.body.encode(), end_stream=True)
    send(connection.data_to_send())
    while not received.ended:
        data = receive(65536)
        try:
            found = connection.receive_data(data) if data else [events.ConnectionTerminated()]
        except ProtocolError:
            return Reply(0, reason="closed")
        for event in found:
            _take(connection, event, received)
        if out := connection.data_to_send():
            send(out)
    return _reply(received)


def pairs(request: Request, scheme: str = "http") -> list[HeaderField]:
    """Return a request's header fields, with lower-case names and Host as :authority (RFC 9113, section 8.3.1).

    A header line such as `:method: get` replaces the request's own pseudo-header; a second such line is added.
    """
    lines = [_split(line) for line in request.headers]
    authority = next((value for name, value in lines if name == "host"), "")
    own = {":method": request.method, ":scheme": scheme, ":authority": authority, ":path": request.target}
    given = [(name, value) for name, value in lines if name.startswith(":")]
    kept = [(name, value) for name, value in own.items() if value and name not in dict(given)]
    plain = [(name, value) for name, value in lines if name != "host" and not name.startswith(":")]
    return [(wire_bytes(name), wire_bytes(value)) for name, value in kept + given + plain]


def _split(line: str) -> tuple[str, str]:
    colon = line.find(":", 1)
    return (line[:colon].lower(), line[colon + 1 :].strip()) if colon > 0 else (line.lower(), "")


def _take(connection: H2Connection, event: events.Event, received: _Received) -> None:
    if isinstance(event, (events.ResponseReceived, events.TrailersReceived)):
        for name, value in event.headers:
            key, text = name.decode("latin-1").lower(), value.decode("latin-1")
            received.headers[key] = f"{received.headers[key]}, {text}" if key in received.headers else text
    elif isinstance(event, events.DataReceived):
        received.body += event.data
        connection.acknowledge_received_data(event.flow_controlled_length, STREAM)
        received.ended = len(received.body) >= LIMIT
    elif isinstance(event, events.StreamReset):
        received.ended, received.reason = True, "reset"
    elif isinstance(event, events.ConnectionTerminated):
        received.ended, received.reason = True, "closed"
    received.ended = received.ended or isinstance(event, events.StreamEnded)


def _reply(received: _Received) -> Reply:
    number = received.headers.get(":status", "")
    if not number.isdigit():
        return Reply(0, reason=received.reason or "closed")
    headers = {name: value for name, value in received.headers.items() if not name.startswith(":")}
    body = received.body[:LIMIT].decode(errors="replace")
    if GRPC in headers and not body:
        body = unquote(headers.get("grpc-message", ""))
    return Reply(int(number), f"HTTP/2 {number}", headers, body)
