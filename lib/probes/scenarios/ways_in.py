"""Scenarios of another way in: a Service with a node port beside the gateways, for as long as its requests take."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from lib.errors import ClusterError
from lib.kubernetes.cluster import Cluster
from lib.kubernetes.status import is_ready
from lib.names import STRANGERS
from lib.polling import until
from lib.probes import workloads
from lib.probes.scenarios.peers import as_reset
from lib.probes.scenarios.requests import Context, Scenario, request
from lib.probes.tokens.kit import Missing
from lib.probes.transport.sockets import host_and_port, over_sockets
from lib.run import Run

PORT = 8080  # of httpbin's pods and of the second gateway's
PATIENCE = 5  # seconds until a new node port answers: kube-proxy changes its rules once a second, at most
CONNECT = 2  # seconds for one connection
ANSWER = 20  # seconds for one request: on a busy machine the second gateway, idle until then, took 13
REFUSED = (400, 403)  # of an admission plug-in, a webhook, a quota, RBAC


def scenarios(run: Run) -> dict[str, Scenario]:
    """Return the scenarios by name."""
    second = f"app={workloads.SECOND_GATEWAY}", STRANGERS
    return {
        "node port": lambda context: asked(
            run.cluster, context, *workloads.pod_selector(run, context.name), ("", "good")
        ),
        "second gateway": lambda context: asked(run.cluster, context, *second, ("", "tampered", "good")),
    }


def asked(
    cluster: Cluster,
    context: Context,
    labels: str,
    namespace: str,
    tokens: Sequence[str],
    patience: float = PATIENCE,
) -> list[str]:
    """Open a node port to pods, ask there once with each token, and close it again; return the answers.

    Args:
        cluster: The cluster.
        context: The scenario's.
        labels: The pods' labels, as in "app=httpbin".
        namespace: The pods' namespace.
        tokens: The names of the tokens; an empty name is no token.
        patience: Seconds until the port opens.

    Raises:
        Missing: the cluster refuses such a Service, or this machine does not reach the node.
        ClusterError: the API server refuses something else. If the Service could not be deleted, it is still there.
    """
    with node_port(cluster, f"way-in-{context.name}", labels, namespace) as address:
        if not until(lambda: _opens(address), deadline=patience, pause=0.1).held:
            raise Missing(f"nothing answers at the node port {address}: a firewall or the network ends this way first")
        sent = [request(context, number, token) for number, token in enumerate(tokens, 1)]
        return [as_reset(reply.answer) for reply in over_sockets(address, timeout=ANSWER)(sent)]


@contextmanager
def node_port(cluster: Cluster, name: str, labels: str, namespace: str) -> Iterator[str]:
    """Make a Service of type NodePort that leads to PORT of pods; yield host:port, and delete the Service at the end.

    Args:
        cluster: The cluster.
        name: The Service's name. One that an interrupted run left is taken over.
        labels: The pods' labels, as in "app=httpbin".
        namespace: The pods' namespace.

    Raises:
        Missing: the cluster refuses such a Service, or does not show its nodes.
    """
    key = "v1", "Service", name, namespace
    metadata = {"name": name, "namespace": namespace}
    spec = {
        "type": "NodePort",
        "selector": dict(pair.split("=") for pair in labels.split(",")),
        "ports": [{"name": "http", "port": PORT, "targetPort": PORT}],
    }
    try:
        host = _node_address(cluster)
        cluster.apply({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec})
    except ClusterError as error:
        if error.status not in REFUSED:
            raise
        raise Missing(f"the cluster refuses a Service with a node port: {error}") from None
    try:
        yield f"{host}:{cluster.get(*key)['spec']['ports'][0]['nodePort']}"
    finally:
        cluster.delete(*key)


def _node_address(cluster: Cluster) -> str:
    """Return the address of a node that is ready, the external one if it has one; IPv6 in brackets."""
    nodes = [one for one in cluster.items("v1", "Node") if is_ready(one)]
    found = {one["type"]: one["address"] for node in nodes[:1] for one in node["status"]["addresses"]}
    address = found.get("ExternalIP") or found.get("InternalIP")
    if not address:
        raise Missing("no node is ready and has an address")
    return f"[{address}]" if ":" in address else address


def _opens(address: str) -> bool:
    """Return whether a TCP connection opens; without one, nothing of the mesh was asked."""
    try:
        socket.create_connection(host_and_port(address), CONNECT).close()
    except OSError:
        return False
    return True
