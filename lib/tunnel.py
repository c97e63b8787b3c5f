"""Requests to a pod through the Kubernetes API (port-forward): nothing crosses the network in clear."""

from __future__ import annotations

import socket
from collections.abc import Callable

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, PoolManager
from urllib3.connection import HTTPConnection


def session(connect: Callable[[], socket.socket]) -> requests.Session:
    """Return a session whose every http:// connection is one that `connect` opens; proxies are not asked."""
    made = requests.Session()
    made.trust_env = False
    made.mount("http://", _Tunnel(connect))
    return made


class _Tunnel(HTTPAdapter):
    def __init__(self, connect: Callable[[], socket.socket]):
        self._connect = connect
        super().__init__()

    def init_poolmanager(self, *sizes, **options):
        connect = self._connect

        class Connection(HTTPConnection):
            def _new_conn(self):
                return connect()

        class Pool(HTTPConnectionPool):
            ConnectionCls = Connection

        self.poolmanager = PoolManager(*sizes[:1])
        self.poolmanager.pool_classes_by_scheme = {"http": Pool}
