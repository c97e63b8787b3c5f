"""Whose certificates are believed here: the system's authorities, and those that were added. There is no way around it.

One place for every connection that this project opens itself: lib.http_client, lib.keycloak, port-forwards, probes.
"""

from __future__ import annotations

import ssl
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any

import requests
from requests.adapters import HTTPAdapter

_added: dict[str, str] = {}  # PEM by where it came from; a new one takes the place of the old
_lock = Lock()


def add(name: str, pem: str) -> None:
    """Believe the authorities of a PEM text too, in place of what `name` stood for before; "" believes none."""
    _added[name] = pem


def add_file(path: Path) -> None:
    """Believe the authorities in a file too; one that is not there is none."""
    add(str(path), path.read_text() if path.is_file() else "")


def context(*protocols: str) -> ssl.SSLContext:
    """Return a shared TLS context that verifies a server's chain and name, TLS 1.2 or newer. Do not change it.

    Args:
        protocols: The protocols that the client offers by ALPN, such as "h2".
    """
    with _lock:  # threads that start at once would each load the system's authorities
        return _context(tuple(filter(None, _added.values())), protocols)


def mount(session: requests.Session) -> requests.Session:
    """Make a session verify https:// connections with the certificates trusted now; return the session."""
    session.mount("https://", Verified())
    return session


class Verified(HTTPAdapter):
    """An adapter of requests that verifies by `context`.

    requests would add certifi's authorities to it for each connection, which takes 65 ms of CPU.
    """

    def init_poolmanager(self, *sizes: Any, **options: Any) -> None:
        """See HTTPAdapter."""
        super().init_poolmanager(*sizes, **{**options, "ssl_context": context()})

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        """See HTTPAdapter."""
        super().cert_verify(conn, url, verify, cert)
        if verify is True:
            conn.ca_certs = conn.ca_cert_dir = None


@cache
def _context(added: tuple[str, ...], protocols: tuple[str, ...]) -> ssl.SSLContext:
    made = ssl.create_default_context()
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    for pem in added:
        made.load_verify_locations(cadata=pem)
    if protocols:
        made.set_alpn_protocols(list(protocols))
    return made
