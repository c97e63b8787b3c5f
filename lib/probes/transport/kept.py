"""Sends many requests over few connections: a TLS handshake costs both sides more than a request."""

from __future__ import annotations

from functools import partial

from lib.parallel import at_once
from lib.probes.transport.messages import Reply, Request, Transport
from lib.probes.transport.sockets import LIMIT, Connection, TlsAddress

KEPT = 4  # connections


def over_kept_sockets(address: str | TlsAddress, workers: int = KEPT) -> Transport:
    """Return a transport like `over_sockets` that opens only `workers` connections for all requests of one call.

    Each connection sends its share one after another; a reply that ends it, or may have, lets the next request open
    a new one.
    """

    def share(requests: list[Request]) -> list[Reply]:
        replies, connection = [], Connection(address)
        try:
            for request in requests:
                replies.append(connection.ask(request))
                if not _stays_open(request, replies[-1]):
                    connection.close()
                    connection = Connection(address)
        finally:
            connection.close()
        return replies

    def send(requests: list[Request]) -> list[Reply]:
        replies: list[Reply] = [Reply(0)] * len(requests)
        places = [slice(number, None, workers) for number in range(workers)]
        shares = at_once([partial(share, requests[place]) for place in places], workers)
        for place, found in zip(places, shares, strict=True):
            replies[place] = found
        return replies

    return send


def _stays_open(request: Request, reply: Reply) -> bool:
    """Whether another request may follow: the reply came whole, over HTTP/1.1, and does not end the connection."""
    framed = {"content-length", "transfer-encoding"} & reply.headers.keys() or request.method == "HEAD"
    closes = "close" in reply.headers.get("connection", "").lower()
    return bool(reply.status and framed and request.version == "HTTP/1.1" and not closes and len(reply.body) < LIMIT)
