"""Sends requests byte by byte as they are written, and repairs, completes or refuses nothing."""

from __future__ import annotations

import select
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from lib.crypto import trust_store
from lib.probes.transport import http2
from lib.probes.transport.messages import Reply, Request, Transport, head, wire_bytes

LIMIT = 256 * 1024  # bytes of a body that are kept
HEAD = 128 * 1024  # bytes of a status line or of one header line
GREETING = 0.2  # seconds to wait for a TLS 1.3 server's first message: tickets or an alert


def over_sockets(
    address: str | TlsAddress,
    workers: int = 16,
    timeout: float = 5,
    tls: ssl.SSLContext | None = None,
    first: bytes = b"",
    h2: ssl.SSLContext | None = None,
) -> Transport:
    """Return a transport to `address` with a new connection for each request.

    Requests of version HTTP/2 go by prior knowledge, without an upgrade. Over TLS they are offered by ALPN, because
    Envoy accepts them only then. Reply bodies are raw: clean them before you keep them, since applications echo tokens.

    Args:
        address: host:port, or a TlsAddress, whose certificate is verified by lib.crypto.trust_store.
        workers: The number of connections at once.
        timeout: Seconds for one whole request.
        tls: The TLS context for a host:port; None for plain HTTP.
        first: Bytes to send before everything else, TLS included: a PROXY header, for example.
        h2: The TLS context for requests of version HTTP/2, instead of `tls`.
    """

    def one(request: Request) -> Reply:
        with Connection(address, timeout, tls, first, h2) as connection:
            return connection.ask(request)

    def send(requests: list[Request]) -> list[Reply]:
        with ThreadPoolExecutor(workers) as pool:
            return list(pool.map(one, requests))

    return send


@dataclass(frozen=True)
class TlsAddress:
    """The host:port of a TLS server, and its host name for SNI and for verification by lib.crypto.trust_store."""

    address: str
    name: str

    def __str__(self) -> str:
        return self.address


# Servers that answered over TLS: address, name, context. They do not refuse after the handshake, as one does that wants
# a certificate, so their first message is not waited for: Envoy sends none before its first answer.
_answered: set[tuple[str, str, ssl.SSLContext]] = set()


class Connection:
    """One connection that sends requests as they are and returns replies one by one.

    It opens with the first request, so a failure to connect is that request's reply.
    """

    def __init__(
        self,
        address: str | TlsAddress,
        timeout: float = 5,
        tls: ssl.SSLContext | None = None,
        first: bytes = b"",
        h2: ssl.SSLContext | None = None,
    ) -> None:
        self.first, self.address, self.timeout = first, str(address), timeout
        self.name = host_and_port(self.address)[0]
        self.tls: Callable[[bool], ssl.SSLContext | None] = lambda http2: (h2 or tls) if http2 else tls
        if isinstance(address, TlsAddress):
            self.name, self.tls = address.name, lambda http2: trust_store.context(*["h2"] * http2)
        self.socket: socket.socket | None = None
        self.source = _Source(lambda size: b"")

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection if it is open."""
        if self.socket:
            self.socket.close()

    def ask(self, request: Request) -> Reply:
        """Return the reply to one more request; the first one's `latency_ms` includes the opening of the connection."""
        start, tls = time.perf_counter(), self.tls(request.version == "HTTP/2")
        try:
            got = self._exchange(request, tls, time.monotonic() + self.timeout)
            if got.status and tls:
                _answered.add((self.address, self.name, tls))
        except (OSError, EOFError) as error:
            got = Reply(0, reason=why(error, connected=self.socket is not None))
        return Reply(got.status, got.line, got.headers, got.body, _ms(start), got.reason)

    def send(self, data: bytes) -> None:
        """Send bytes after an upgrade; OSError as the socket raises it."""
        assert self.socket
        self.socket.sendall(data)

    def read(self, size: int) -> bytes:
        """Return the next `size` bytes after an upgrade; EOFError if the connection ends before."""
        return self.source.exactly(size)

    def _exchange(self, request: Request, tls: ssl.SSLContext | None, deadline: float) -> Reply:
        opened = self.socket or self._open(tls)
        receive = _before(opened, deadline)
        if request.version == "HTTP/2":
            early, self.source.rest = [self.source.rest] if self.source.rest else [], b""
            first = lambda size: early.pop() if early else receive(size)  # noqa: E731
            return http2.exchange(opened.sendall, first, request, "https" if tls else "http")
        self.source.receive = receive
        unsent = _sent(opened, raw(request))
        try:
            return _reply(self.source, request.method)
        except EOFError:
            raise unsent or EOFError from None

    def _open(self, tls: ssl.SSLContext | None) -> socket.socket:
        plain = socket.create_connection(host_and_port(self.address), self.timeout)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = plain  # set before the handshake: a failed handshake is not a refused connection
        plain.sendall(self.first)
        if not tls:
            return plain
        self.socket = secure = tls.wrap_socket(plain, server_hostname=self.name)
        if (self.address, self.name, tls) not in _answered:
            self.source.rest = _greeting(secure)
        secure.settimeout(self.timeout)
        return secure


def host_and_port(address: str) -> tuple[str, int]:
    """Return host and port of `host:port`, with an IPv6 address in brackets. ValueError without a port."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise ValueError(f"expected host:port, got {address!r}; name the port.")
    return host.strip("[]"), int(port)


def raw(request: Request) -> bytes:
    """Return a request's bytes: each line in Latin-1 if possible, so U+00FF is one byte, else in UTF-8."""
    lines = [f"{request.method} {request.target} {request.version}", *request.headers, "", ""]
    return b"\r\n".join(wire_bytes(line) for line in lines) + request.body.encode()


def why(error: Exception, connected: bool = True) -> str:
    """Return an error as a word of answers.MEANINGS; `connected` says whether the connection was open."""
    kinds = (
        (TimeoutError, "timeout"),
        ((ssl.SSLEOFError, ssl.SSLZeroReturnError, EOFError), "closed"),
        (ssl.SSLError, "alert"),
        ((ConnectionResetError, BrokenPipeError, ConnectionAbortedError), "reset"),
    )
    unknown = "closed" if connected else "refused"
    return next((word for kind, word in kinds if isinstance(error, kind)), unknown)


class _Source:
    """Reads a connection by lines and by counted bytes; EOFError if it ends too soon."""

    def __init__(self, receive: Callable[[int], bytes]) -> None:
        self.receive, self.rest = receive, b""

    def line(self) -> bytes:
        while b"\n" not in self.rest:
            if len(self.rest) > HEAD:
                raise EOFError
            self._more()
        found, _, self.rest = self.rest.partition(b"\n")
        return found.rstrip(b"\r")

    def exactly(self, size: int) -> bytes:
        while len(self.rest) < size:
            self._more()
        found, self.rest = self.rest[:size], self.rest[size:]
        return found

    def pieces(self) -> Iterator[bytes]:
        """Yield data until the connection ends."""
        while True:
            if self.rest:
                found, self.rest = self.rest, b""
                yield found
            try:
                self._more()
            except EOFError:
                return

    def _more(self) -> None:
        data = self.receive(65536)
        if not data:
            raise EOFError
        self.rest += data


def _reply(source: _Source, method: str) -> Reply:
    while True:
        lines = list(iter(source.line, b""))
        shown = [line.decode("latin-1") for line in lines] or [""]
        status, headers = head(shown)
        if not 100 <= status < 200 or status == 101:
            break
    if not status:
        return Reply(0, shown[0], reason="closed")
    bare = method == "HEAD" or status in (101, 204, 304)
    body = b"" if bare else _body(source, headers)
    return Reply(status, shown[0], headers, body.decode(errors="replace"))


def _body(source: _Source, headers: dict[str, str]) -> bytes:
    """Return the body, or its first LIMIT bytes, or the part that came before the connection broke."""
    parts: Iterator[bytes]
    if "chunked" in headers.get("transfer-encoding", "").lower():
        parts = _chunks(source)
    elif headers.get("content-length", "").isdigit():
        parts = _counted(source, int(headers["content-length"]))
    else:
        parts = source.pieces()
    body = b""
    try:
        for part in parts:
            body += part
            if len(body) >= LIMIT:
                break
    except (OSError, EOFError, ValueError):
        return body[:LIMIT]  # the status line was read, so the answer is known
    return body[:LIMIT]


def _counted(source: _Source, size: int) -> Iterator[bytes]:
    while size:
        part = source.exactly(min(size, 16384))
        size -= len(part)
        yield part


def _chunks(source: _Source) -> Iterator[bytes]:
    while size := int(source.line().split(b";")[0], 16):
        yield from _counted(source, size)
        source.line()
    while source.line():
        continue  # trailers


def _sent(connection: socket.socket, data: bytes) -> OSError | None:
    """Send data; return the error that stopped it. A proxy may answer before it reads all, and its answer counts."""
    try:
        connection.sendall(data)
    except (BrokenPipeError, ConnectionResetError) as error:
        return error
    return None


def _greeting(connection: ssl.SSLSocket) -> bytes:
    """Read a TLS 1.3 server's first message: tickets, or an alert, which a later send could lose."""
    if not select.select([connection], [], [], GREETING)[0]:
        return b""
    connection.settimeout(0)
    try:
        message = connection.recv(1)
    except ssl.SSLWantReadError:
        return b""
    if not message:
        raise EOFError
    return message


def _before(connection: socket.socket, deadline: float) -> Callable[[int], bytes]:
    def receive(size: int) -> bytes:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        connection.settimeout(left)
        return connection.recv(size)

    return receive


def _ms(start: float) -> float:
    return round((time.perf_counter() - start) * 1000, 1)
