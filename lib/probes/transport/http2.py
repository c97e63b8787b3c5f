"""HTTP/2 by prior knowledge, with what no client library would send: an illegal method, a doubled pseudo-header."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import unquote

from h2 import events
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.exceptions import ProtocolError

from lib.probes.transport.messages import Reply, Request

LIMIT = 256 * 1024  # bytes of a body that are kept
GRPC = "grpc-status"
STREAM = 1  # the first stream that a client opens

# The wire as it is: nothing is refused, lower-cased or taken out, in either direction.
CONFIG = H2Configuration(
    client_side=True,
    header_encoding=None,
    validate_outbound_headers=False,
    normalize_outbound_headers=False,
    validate_inbound_headers=False,
    normalize_inbound_headers=False,
)

Pair = tuple[bytes, bytes]


@dataclass
class _Heard:
    """What has come on the stream so far."""

    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    ended: bool = False
    reason: str = ""


def exchange(
    send: Callable[[bytes], None], receive: Callable[[int], bytes], request: Request, scheme: str = "http"
) -> Reply:
    """Return the reply to one request on a new connection; OSError as `send` and `receive` raise it.

    A stream that the server resets is status 0, `reset`; a connection that it ends (GOAWAY), `closed`. Trailers count
    as headers. Of gRPC's answers without a body, the body is the text of grpc-message.
    """
    connection, heard = H2Connection(CONFIG), _Heard()
    connection.initiate_connection()
    connection.send_headers(STREAM, pairs(request, scheme), end_stream=not request.body)
    if request.body:
        connection.send_data(STREAM, request.body.encode(), end_stream=True)
    send(connection.data_to_send())
    while not heard.ended:
        data = receive(65536)
        try:
            happened = connection.receive_data(data) if data else [events.ConnectionTerminated()]
        except ProtocolError:
            return Reply(0, reason="closed")
        for event in happened:
            _hear(connection, event, heard)
        if out := connection.data_to_send():
            send(out)
    return _reply(heard)


def pairs(request: Request, scheme: str = "http") -> list[Pair]:
    """Return a request's header fields. Names are lower-case, as HTTP/2 wants them; Host becomes :authority.

    A header line such as `:method: get` takes the place of the request's own, or stands beside it as one more.
    """
    lines = [_split(line) for line in request.headers]
    authority = next((value for name, value in lines if name == "host"), "")
    own = {":method": request.method, ":scheme": scheme, ":authority": authority, ":path": request.target}
    given = [(name, value) for name, value in lines if name.startswith(":")]
    kept = [(name, value) for name, value in own.items() if value and name not in dict(given)]
    plain = [(name, value) for name, value in lines if name != "host" and not name.startswith(":")]
    return [(_bytes(name), _bytes(value)) for name, value in kept + given + plain]


def _split(line: str) -> tuple[str, str]:
    colon = line.find(":", 1)
    return (line[:colon].lower(), line[colon + 1 :].strip()) if colon > 0 else (line.lower(), "")


def _hear(connection: H2Connection, event, heard: _Heard) -> None:
    if isinstance(event, (events.ResponseReceived, events.TrailersReceived)):
        for name, value in event.headers:
            key, text = name.decode("latin-1").lower(), value.decode("latin-1")
            heard.headers[key] = f"{heard.headers[key]}, {text}" if key in heard.headers else text
    elif isinstance(event, events.DataReceived):
        heard.body += event.data
        connection.acknowledge_received_data(event.flow_controlled_length, STREAM)
        heard.ended = len(heard.body) >= LIMIT
    elif isinstance(event, events.StreamReset):
        heard.ended, heard.reason = True, "reset"
    elif isinstance(event, events.ConnectionTerminated):
        heard.ended, heard.reason = True, "closed"
    heard.ended = heard.ended or isinstance(event, events.StreamEnded)


def _reply(heard: _Heard) -> Reply:
    number = heard.headers.get(":status", "")
    if not number.isdigit():
        return Reply(0, reason=heard.reason or "closed")
    headers = {name: value for name, value in heard.headers.items() if not name.startswith(":")}
    body = heard.body[:LIMIT].decode(errors="replace")
    if GRPC in headers and not body:
        body = unquote(headers.get("grpc-message", ""))
    return Reply(int(number), f"HTTP/2 {number}", headers, body)


def _bytes(text: str) -> bytes:
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        return text.encode()
