"""The AWS endpoint of the sandbox: moto's server on loopback, behind a gate, with an EKS that starts real nodes."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import BaseWSGIServer, make_server

from sandbox.aws.gate import Gate, recorder
from sandbox.aws.missing_operations import Lacking
from sandbox.aws.service_quotas import Quotas
from sandbox.eks import api
from sandbox.eks.clusters import Clusters
from sandbox.eks.delays import Delays
from sandbox.iam import access_keys, authorization


class EndpointFailed(Exception):
    """One sentence: why the endpoint could not be opened, and what to do."""


class Server:
    """The running endpoint."""

    def __init__(self, server: BaseWSGIServer, clusters: Clusters) -> None:
        self.port: int = server.port
        self.url = f"http://{server.host}:{server.port}"
        self._server, self._clusters = server, clusters
        self._thread = threading.Thread(target=server.serve_forever, args=(0.1,), name="aws", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Take no more calls, and end every cluster."""
        self._server.shutdown()
        self._thread.join()
        self._clusters.stop()


def serve(
    port: int,
    make_node: Callable,
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

    moto keeps its state by process: one Server in each. Port 0 takes a free one. `calls_log` gets a JSON line for
    each call: time, service, action, user (ARN), status, request_id, and for a refused one why. `processes(name)`
    is what GET /_sandbox/clusters tells of a cluster's processes; `delays` how long EKS takes, not at all without.
    Raises EndpointFailed.
    """
    with _open(host, port) as opened:
        port = opened.getsockname()[1]
        access_keys.ensure_administrator(credentials_file)
        hosts = {f"{host}:{port}", f"sts.{region}.amazonaws.com", "sts.amazonaws.com"}
        clusters = Clusters(make_node, kubernetes_version, region, hosts, access_keys.find, log, delays=delays)
        api.install(clusters)
        moto = DomainDispatcherApplication(create_backend_app)
        shown, quotas = partial(api.overview, region, processes), Quotas()
        rules, lacking = (authorization.refused, quotas.refused), Lacking(kubernetes_version, quotas)
        gate = Gate(moto, access_keys.find, shown, recorder(calls_log), log, rules, lacking)
        handler = type("Handler", (_Handler,), {"tell": staticmethod(log)})
        server = make_server(host, port, gate, threaded=True, request_handler=handler, fd=opened.fileno())
    return Server(server, clusters)


def _open(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port))  # werkzeug would end the whole process on a port in use
    except OSError as error:
        raise EndpointFailed(
            f"expected to open {host}:{port} for the AWS endpoint, got: {error.strerror}; "
            "end what holds it, or set EKS_SANDBOX_PORT."
        ) from None


class _Handler(MotoRequestHandler):
    tell: Callable[[str], None]

    def log(self, type: str, message: str, *args) -> None:
        if type == "error":  # the calls have a log of their own
            self.tell(f"aws: {message % args if args else message}")
