"""The AWS endpoint: moto's server behind a gate, with an EKS that starts real nodes.

It listens on loopback, and for the pods of each node by TLS on this machine's address on the node's link.
"""

from __future__ import annotations

import socket
import ssl
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import ThreadedWSGIServer, WSGIRequestHandler

from sandbox.aws.gate import Gate, recorder
from sandbox.aws.missing_operations import MissingOperations
from sandbox.aws.service_quotas import Quotas
from sandbox.eks import api
from sandbox.eks.clusters import Clusters, MakeNode
from sandbox.eks.delays import Delays
from sandbox.iam import access_keys, authorization, resources
from sandbox.node.webhook import HANDSHAKE, tls


class EndpointFailed(Exception):
    """One sentence: why the endpoint does not open, and what to do."""


class Server:
    """The running endpoint."""

    def __init__(self, server: _Listener, clusters: Clusters) -> None:
        self.port: int = server.port
        self.url = f"http://{server.host}:{server.port}"
        self._server, self._clusters = server, clusters
        server.start()

    def stop(self) -> None:
        """Stop taking calls, and end every cluster."""
        self._server.close()
        self._clusters.stop()


def serve(
    port: int,
    make_node: MakeNode,
    credentials_file: Path,
    kubernetes_version: str,
    *,
    host: str = "127.0.0.1",
    region: str = "us-east-1",
    log: Callable[[str], None] = print,
    calls_log: Path | None = None,
    processes: Callable[[str], dict] = lambda name: {},
    delays: Delays | None = None,
) -> Server:
    """Open the endpoint on an empty account, write its administrator's credentials; return the running Server.

    moto keeps its state in the process, so a process can have one Server.

    Args:
        port: of the endpoint; 0 takes a free one.
        make_node: makes a cluster's node.
        credentials_file: gets the administrator's access key, in the profile "sandbox".
        kubernetes_version: the one minor version, as in "1.36".
        host: the address that the endpoint listens on.
        region: the one region with EKS.
        log: takes one line.
        calls_log: gets a JSON line for each call: time, service, action, user (ARN), status, request_id, refused.
        processes: returns a cluster's processes by its name, for GET /_sandbox/clusters.
        delays: how long EKS takes; no time at all if None.

    Raises:
        EndpointFailed: another program listens on the port.
    """
    with _open(host, port) as opened:
        port = opened.getsockname()[1]
        access_keys.ensure_administrator(credentials_file)
        hosts = {f"{host}:{port}", f"sts.{region}.amazonaws.com", "sts.amazonaws.com"}
        moto, record, quotas = DomainDispatcherApplication(create_backend_app), recorder(calls_log), Quotas()
        rules = (authorization.not_enforced, authorization.refusal, quotas.refusal)
        missing = MissingOperations(kubernetes_version, quotas, lambda issuer: clusters.signing_keys(issuer))

        def gate(names: set[str], overview: Callable[[], list[dict]] | None) -> Gate:
            return Gate(moto, names, access_keys.find, resources.completed, overview, record, log, rules, missing)

        def open_on_link(address: str, certificate: Path, key: Path) -> Callable[[], None]:
            place = f"{address}:{port}"
            with _open(address, port) as link:
                listener = _Listener(link, gate({place}, None), log, tls(certificate, key))
            listener.start()
            hosts.add(place)
            return listener.close

        clusters = Clusters(
            make_node, kubernetes_version, region, hosts, access_keys.find, open_on_link, log, delays=delays
        )
        api.install(clusters)
        own = gate({f"{host}:{port}", f"localhost:{port}"}, partial(api.overview, region, processes))
        server = _Listener(opened, own, log)
    return Server(server, clusters)


def _open(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port))  # werkzeug would end the whole process on a port in use
    except OSError as error:
        raise EndpointFailed(
            f"expected to open {host}:{port} for the AWS endpoint, got: {error.strerror}; "
            "end the program that holds it, or set EKS_SANDBOX_PORT."
        ) from None


class _Listener(ThreadedWSGIServer):
    """Answers with an application on an open socket, in a thread from `start` to `close`; by TLS with a context."""

    def __init__(
        self, opened: socket.socket, app: Gate, write_line: Callable[[str], None], context: ssl.SSLContext | None = None
    ) -> None:
        host, port = opened.getsockname()
        super().__init__(host, port, app, _Handler, fd=opened.fileno())
        self.write_line = write_line
        if context:  # each connection's thread makes its handshake, so that a silent client does not block the others
            self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        self._thread = threading.Thread(target=self.serve_forever, args=(0.1,), name="aws", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self.shutdown()
        self._thread.join()

    def handle_error(self, request: Any, client_address: Any) -> None:
        self.write_line(f"aws: a connection ended: {type(sys.exception()).__name__}")


class _Handler(WSGIRequestHandler):
    timeout = 30  # seconds of silence after which a connection ends
    server: _Listener

    def setup(self) -> None:
        if isinstance(self.request, ssl.SSLSocket):
            self.request.settimeout(HANDSHAKE)
            self.request.do_handshake()
        super().setup()

    def log(self, type: str, message: str, *args: object) -> None:
        if type == "error":  # the gate records the calls
            self.server.write_line(f"aws: {message % args if args else message}")
