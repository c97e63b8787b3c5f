"""The process behind the AWS endpoint: it serves until SIGTERM, and its clusters live and end with it."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

from sandbox.aws import server as aws_server
from sandbox.build.builder import build
from sandbox.commands import endpoint
from sandbox.eks import delays
from sandbox.host import requirements
from sandbox.node.node import Node, OpenAws
from sandbox.node.webhook import Authenticate, Authorize
from sandbox.paths import AWS_PORT, CREDENTIALS, LOGS, REGION, version


def serve() -> None:
    """Serve AWS in this process until SIGTERM."""
    with endpoint.claimed_lock():
        _serve()


def _serve() -> None:
    nodes = Nodes(build(lambda line: None))
    CREDENTIALS.parent.mkdir(parents=True, exist_ok=True)
    server = aws_server.serve(
        port=AWS_PORT,
        make_node=nodes.make,
        credentials_file=CREDENTIALS,
        region=REGION,
        log=_log,
        kubernetes_version=".".join(version("kubernetes").split(".")[:2]),
        calls_log=LOGS / "aws-calls.jsonl",
        processes=nodes.processes,
        delays=delays.from_environment(os.environ),
    )
    endpoint.write_state()
    _wait_for_signal()
    server.stop()
    endpoint.STATE.unlink(missing_ok=True)


class Nodes:
    """The nodes of this process by cluster name; each has a link of its own number."""

    def __init__(self, parts: dict[str, Path]) -> None:
        self._parts, self._nodes, self._lock = parts, dict[str, Node](), threading.Lock()

    def make(
        self,
        name: str,
        kubernetes_version: str,
        authenticate: Authenticate,
        authorize: Authorize,
        pod_security: str,
        issuer: str,
        open_aws: OpenAws,
    ) -> Node:
        """Return a new node with the first free link. Raises NotThisMachine if its network is in use."""
        with self._lock:
            used = {node.link.number for other, node in self._nodes.items() if node.state.exists() and other != name}
            number = next(number for number in range(256) if number not in used)
            requirements.require_free(number)
            node = self._nodes[name] = Node(
                name, number, self._parts, authenticate, authorize, pod_security, issuer, open_aws, _log
            )
            node.state.mkdir(parents=True, exist_ok=True)
            return node

    def processes(self, name: str) -> dict[str, dict]:
        """Return the processes of a cluster's node, {} before it has one."""
        return self._nodes[name].processes() if name in self._nodes else {}


def _wait_for_signal() -> None:
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    ended.wait()


def _log(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}", flush=True)
