"""HTTP to a pod through the Kubernetes API (port-forward); https verifies the pod's certificate too."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import requests
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection

from lib.crypto import trust_store


def session(connect: Callable[[], socket.socket]) -> requests.Session:
    """Return a session that opens its connections by `connect`, and uses no HTTP proxy.

    The host of an https:// URL is the name that the pod's certificate must have.
    """
    made = requests.Session()
    made.trust_env = False
    for scheme in ("http://", "https://"):
        made.mount(scheme, _Tunnel(connect))
    return made


class _Tunnel(trust_store.Verified):
    def __init__(self, connect: Callable[[], socket.socket]) -> None:
        self._connect = connect
        super().__init__()

    def init_poolmanager(self, *sizes: Any, **options: Any) -> None:
        super().init_poolmanager(*sizes, **options)
        connect = self._connect

        class Connection(HTTPConnection):
            def _new_conn(self) -> socket.socket:
                return connect()

        class Secure(HTTPSConnection):
            def _new_conn(self) -> socket.socket:
                return connect()

        class Pool(HTTPConnectionPool):
            ConnectionCls = Connection

        class SecurePool(HTTPSConnectionPool):
            ConnectionCls = Secure

        self.poolmanager.pool_classes_by_scheme = {"http": Pool, "https": SecurePool}
