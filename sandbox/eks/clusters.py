"""The real side of the EKS API: for each cluster a node, the one thread that works on it, and its authenticator."""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol, cast

from joserfc.jwk import KeySetSerialization
from moto.eks.models import Cluster, EKSBackend

from lib.errors import ClusterError
from sandbox.eks.access_entries import AccessEntries
from sandbox.eks.delays import Delays
from sandbox.eks.models import EksCluster, EksNodegroup
from sandbox.iam.sigv4 import FindIdentity
from sandbox.node.authenticator import verify
from sandbox.node.command_lines import POD_SECURITY_LEVELS
from sandbox.node.node import NodeFailed, OpenAws
from sandbox.node.webhook import Authenticate, Authorize

HEALTH_TAG = "eks-sandbox/health"  # the status and code that the tagged object gets, as in "DEGRADED AccessDenied"
FORCED_MESSAGE = "It was asked to fail."
POD_SECURITY_TAG = "eks-sandbox/pod-security"  # the level for namespaces without a label; as on EKS by default


class Node(Protocol):
    """What Clusters needs of a node; sandbox/node/node.py has the real one."""

    endpoint: str
    ca_pem: bytes

    def start_control_plane(self) -> None: ...  # noqa: D102
    def join(self, node_group: str, count: int) -> None: ...  # noqa: D102
    def set_labels_and_taints(self, labels: dict[str, str], taints: list[dict[str, str]]) -> None: ...  # noqa: D102
    def leave(self, node_group: str) -> None: ...  # noqa: D102
    def stop(self) -> None: ...  # noqa: D102
    def addon_healthy(self, addon: str) -> bool: ...  # noqa: D102
    def signing_keys(self) -> KeySetSerialization: ...  # noqa: D102


class Worker(Protocol):
    """The part of an Executor that Clusters uses."""

    def submit(self, fn: Callable[[], None], /) -> Future: ...  # noqa: D102
    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None: ...  # noqa: D102


# Cluster name, Kubernetes version, …, pod security, issuer of service accounts' tokens, …
MakeNode = Callable[[str, str, Authenticate, Authorize, str, str, OpenAws], Node]


def forced_health(tags: dict[str, str]) -> tuple[str, dict]:
    """Return the status and the health that HEALTH_TAG asks for."""
    status, _, code = tags[HEALTH_TAG].partition(" ")
    return status, {"issues": [{"code": code, "message": FORCED_MESSAGE, "resourceIds": []}] if code else []}


def pod_security(tags: dict) -> str:
    """Return the level that POD_SECURITY_TAG asks for. Raises ValueError for an unknown level."""
    level = tags.get(POD_SECURITY_TAG, POD_SECURITY_LEVELS[0])
    if level not in POD_SECURITY_LEVELS:
        raise ValueError(f"expected the tag {POD_SECURITY_TAG} among {', '.join(POD_SECURITY_LEVELS)}, got {level!r}.")
    return level


def _one_thread(name: str) -> Worker:
    return ThreadPoolExecutor(1, name)


@dataclass
class Running:
    """One cluster's node, and the only thread that works on it.

    The kernel ends a node when the thread that started it ends (PR_SET_PDEATHSIG), so the thread stays.
    """

    worker: Worker
    issuer: str
    node: Node | None = None


class Clusters:
    """Turns the states of moto's clusters and node groups into real nodes, and back.

    A failure ends in the object's `health` and in the log. Each act takes at least as long as `delays` say.

    Args:
        make_node: makes the node of a cluster.
        kubernetes_version: the one minor version, as in "1.36".
        region: the one region with EKS.
        hosts: the STS hosts that a token may name.
        find: returns the owner of an access key.
        open_aws: opens the AWS endpoint on a node's link.
        log: takes one line.
        worker: makes the executor of a cluster's one thread, by name.
        delays: how long EKS takes; no time at all if None.
    """

    def __init__(
        self,
        make_node: MakeNode,
        kubernetes_version: str,
        region: str,
        hosts: set[str],
        find: FindIdentity,
        open_aws: OpenAws,
        log: Callable[[str], None],
        worker: Callable[[str], Worker] = _one_thread,
        delays: Delays | None = None,
    ) -> None:
        self.make_node, self.kubernetes_version, self.region = make_node, kubernetes_version, region
        self.worker, self.delays, self._ended = worker, delays or Delays(), threading.Event()
        self.hosts, self.find, self.open_aws, self.log = hosts, find, open_aws, log
        self._running: dict[str, Running] = {}

    def start(self, cluster: EksCluster) -> None:
        """Start the cluster's control plane; it is CREATING, then ACTIVE or FAILED."""
        issuer = cluster.identity["oidc"]["issuer"]
        running = self._running[cluster.name] = Running(self.worker(f"cluster-{cluster.name}"), issuer)
        authenticate = self.authenticator(cluster.name, cluster.access)

        def work() -> None:
            callers = authenticate, cluster.access.allows
            more = pod_security(cluster.tags), issuer
            node = self.make_node(cluster.name, self.kubernetes_version, *callers, *more, self.open_aws)
            running.node = node
            node.start_control_plane()
            cluster.endpoint = node.endpoint
            cluster.certificate_authority = {"data": base64.b64encode(node.ca_pem).decode()}

        self._submit(cluster.name, f"cluster {cluster.name}", work, cluster, ("ACTIVE", "FAILED"), "cluster")

    def join(self, group: EksNodegroup) -> None:
        """Join the node group's nodes; it is CREATING, then ACTIVE or CREATE_FAILED."""

        def work() -> None:
            node = self._node(group)
            node.join(group.nodegroup_name, group.scaling_config["desiredSize"])
            if group.labels or group.taints:
                node.set_labels_and_taints(group.labels, group.taints)

        self._submit(group.cluster_name, _title(group), work, group, ("ACTIVE", "CREATE_FAILED"), "node group")

    def set_labels_and_taints(self, group: EksNodegroup) -> None:
        """Give the node group's nodes its present labels and taints."""
        self._node(group).set_labels_and_taints(group.labels, group.taints)

    def leave(self, group: EksNodegroup, backend: EKSBackend) -> None:
        """End the node group's nodes; it is DELETING, then gone or DELETE_FAILED."""

        def work() -> None:
            self._node(group).leave(group.nodegroup_name)
            backend.delete_nodegroup(group.cluster_name, group.nodegroup_name)

        ends = ("DELETING", "DELETE_FAILED")
        self._submit(group.cluster_name, _title(group), work, group, ends, "node group gone")

    def end(self, cluster: EksCluster, backend: EKSBackend, after: Callable[[], None]) -> None:
        """End the cluster's node and call `after()`; the cluster is DELETING, then gone or FAILED."""
        running = self._running[cluster.name]

        def work() -> None:
            if running.node:
                running.node.stop()
            after()
            del self._running[cluster.name]
            backend.delete_cluster(cluster.name)
            running.worker.shutdown(wait=False)

        self._submit(cluster.name, f"cluster {cluster.name}", work, cluster, ("DELETING", "FAILED"), "cluster gone")

    def stop(self) -> None:
        """End every node, also one that is just starting."""
        self._ended.set()
        for name, running in list(self._running.items()):
            running.worker.shutdown(wait=False, cancel_futures=True)
            try:
                if running.node:
                    running.node.stop()
            except Exception as error:  # the other nodes must end too
                self.log(f"cluster {name}: {error}")
        self._running.clear()

    def authenticator(self, cluster_name: str, access: AccessEntries) -> Authenticate:
        """Return the function that maps a token for this cluster to its Kubernetes user, or raises Refused."""

        def authenticate(token: str) -> dict:
            identity = verify(
                token,
                cluster_name=cluster_name,
                region=self.region,
                hosts=self.hosts,
                find=self.find,
                now=datetime.now(UTC),
            )
            return access.user(identity)

        return authenticate

    def signing_keys(self, issuer: str) -> KeySetSerialization | None:
        """Return the keys of the cluster with this issuer of service accounts' tokens; None if no such cluster runs."""
        named = [one.node for one in list(self._running.values()) if one.node and one.issuer == issuer]
        try:
            return named[0].signing_keys() if named else None
        except (ClusterError, NodeFailed):  # the API server does not answer yet, or any more
            return None

    def addon_healthy(self, name: str, addon: str) -> bool:
        """Return whether the node of cluster `name` reports its part for an add-on as healthy."""
        running = self._running.get(name)
        return bool(running and running.node and running.node.addon_healthy(addon))

    def _node(self, group: EksNodegroup) -> Node:
        return cast(Node, self._running[group.cluster_name].node)  # EKS joins node groups to ACTIVE clusters alone

    def _submit(
        self,
        name: str,
        title: str,
        work: Callable[[], None],
        target: EksCluster | EksNodegroup,
        ends: tuple[str, str],
        delay: str,
    ) -> None:
        """Let the thread of cluster `name` do `work` when `delay` is over.

        `ends` are the statuses that `target` gets after success and after an error.
        """
        good, bad = ends
        due = self.delays.due(delay)

        def attempt() -> None:
            if (left := self.delays.left(due)) and self._ended.wait(left):
                return
            try:
                work()
            except Exception as error:
                self.log(f"{title}: {error}")
                code = "InternalFailure" if isinstance(target, Cluster) else "NodeCreationFailure"
                target.health = {"issues": [{"code": code, "message": str(error), "resourceIds": [name]}]}
                target.status = bad
            else:
                target.status = good
                if good == "ACTIVE" and HEALTH_TAG in target.tags:
                    target.status, target.health = forced_health(target.tags)
                self.log(f"{title}: {'gone' if good == 'DELETING' else good}")

        self._running[name].worker.submit(attempt)


def _title(group: EksNodegroup) -> str:
    return f"node group {group.nodegroup_name} of cluster {group.cluster_name}"
