"""The AWS endpoint: moto's server on loopback behind a gate, with an EKS that starts real nodes."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

from sandbox.aws.gate import Gate, recorder
from sandbox.aws.missing_operations import MissingOperations
from sandbox.aws.service_quotas import Quotas
from sandbox.eks import api
from sandbox.eks.clusters import Clusters, MakeNode
from sandbox.eks.delays import Delays
from sandbox.iam import access_keys, authorization, resources


class EndpointFailed(Exception):
    """One sentence: why the endpoint does not open, and what to do."""


class Server:
    """The running endpoint."""

    def __init__(self, server: BaseWSGIServer, clusters: Clusters) -> None:
        self.port: int = server.port
        self.url = f"http://{server.host}:{server.port}"
        self._server, self._clusters = server, clusters
        self._thread = threading.Thread(target=server.serve_forever, args=(0.1,), name="aws", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop taking calls, and end every cluster."""
        self._server.shutdown()
        self._thread.join()
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
        clusters = Clusters(make_node, kubernetes_version, region, hosts, access_keys.find, log, delays=delays)
        api.install(clusters)
        moto = DomainDispatcherApplication(create_backend_app)
        overview, quotas = partial(api.overview, region, processes), Quotas()
        rules = (authorization.not_enforced, authorization.refusal, quotas.refusal)
        missing, names = MissingOperations(kubernetes_version, quotas), {f"{host}:{port}", f"localhost:{port}"}
        callers = (access_keys.find, resources.completed)
        gate = Gate(moto, names, *callers, overview, recorder(calls_log), log, rules, missing)
        handler = type("Handler", (_Handler,), {"write_line": staticmethod(log)})
        server = make_server(host, port, gate, threaded=True, request_handler=handler, fd=opened.fileno())
    return Server(server, clusters)


def _open(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port))  # werkzeug would end the whole process on a port in use
    except OSError as error:
        raise EndpointFailed(
            f"expected to open {host}:{port} for the AWS endpoint, got: {error.strerror}; "
            "end the program that holds it, or set EKS_SANDBOX_PORT."
        ) from None


class _Handler(WSGIRequestHandler):
    timeout = 30  # seconds of silence after which a connection ends
    write_line: Callable[[str], None]

    def log(self, type: str, message: str, *args: object) -> None:
        if type == "error":  # the gate records the calls
            self.write_line(f"aws: {message % args if args else message}")
