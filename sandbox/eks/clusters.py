"""What stands behind the EKS API: by cluster a node, one thread that works on it, and who may talk to it."""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from moto.eks.models import Cluster, EKSBackend, Nodegroup

from sandbox.eks.access_entries import Access
from sandbox.eks.delays import Delays
from sandbox.node.authenticator import SecretOf, verify

HEALTH = "eks-sandbox/health"  # a tag: how what has it ends, status and code, such as "DEGRADED AccessDenied"


def cued(tags: dict[str, str]) -> tuple[str, dict]:
    """Return the status and the health that the tag HEALTH asks for."""
    status, _, code = tags[HEALTH].partition(" ")
    return status, {"issues": [{"code": code, "message": "It was asked to fail.", "resourceIds": []}] if code else []}


def _thread(name: str) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, name)


@dataclass
class Running:
    """One cluster's node, and the only thread that works on it.

    The kernel ends a node when the thread that started it ends (PR_SET_PDEATHSIG), so the thread stays.
    """

    worker: ThreadPoolExecutor
    node: Any = None


class Clusters:
    """Turns the states of moto's clusters and node groups into real nodes, and back.

    `make_node(name, kubernetes_version, authenticate, authorize)` makes a node; `hosts` are the STS hosts that tokens
    may name; `find` says whose an access key is; `worker(name)` makes the executor of a cluster's one thread. Whatever
    goes wrong ends in the object's `health` and in the log. Each act takes as long as `delays` say, at the least.
    """

    def __init__(
        self,
        make_node,
        kubernetes_version: str,
        region: str,
        hosts: set[str],
        find: SecretOf,
        log,
        worker=_thread,
        delays: Delays | None = None,
    ):
        self.make_node, self.kubernetes_version, self.region = make_node, kubernetes_version, region
        self.worker, self.delays, self._ended = worker, delays or Delays(), threading.Event()
        self.hosts, self.find, self.log = hosts, find, log
        self._running: dict[str, Running] = {}

    def start(self, cluster: Cluster) -> None:
        """Start the cluster's control plane; it is CREATING, then ACTIVE or FAILED."""
        running = self._running[cluster.name] = Running(self.worker(f"cluster-{cluster.name}"))
        authenticate = self.authenticator(cluster.name, cluster.access)

        def work():
            running.node = self.make_node(cluster.name, self.kubernetes_version, authenticate, cluster.access.allows)
            running.node.start_control_plane()
            cluster.endpoint = running.node.endpoint
            cluster.certificate_authority = {"data": base64.b64encode(running.node.ca_pem).decode()}

        self._do(cluster.name, f"cluster {cluster.name}", work, cluster, ("ACTIVE", "FAILED"), "cluster")

    def join(self, group: Nodegroup) -> None:
        """Join the node group's nodes; it is CREATING, then ACTIVE or CREATE_FAILED."""

        def work():
            node = self._running[group.cluster_name].node
            node.join(group.nodegroup_name, group.scaling_config["desiredSize"])
            if group.labels or group.taints:
                node.dress(group.labels, group.taints)

        self._do(group.cluster_name, _named(group), work, group, ("ACTIVE", "CREATE_FAILED"), "node group")

    def dress(self, group: Nodegroup) -> None:
        """Give the node group's nodes its labels and taints as they are now."""
        self._running[group.cluster_name].node.dress(group.labels, group.taints)

    def leave(self, group: Nodegroup, backend: EKSBackend) -> None:
        """End the node group's nodes; it is DELETING, then gone or DELETE_FAILED."""

        def work():
            self._running[group.cluster_name].node.leave(group.nodegroup_name)
            backend.delete_nodegroup(group.cluster_name, group.nodegroup_name)

        self._do(group.cluster_name, _named(group), work, group, ("DELETING", "DELETE_FAILED"), "node group gone")

    def end(self, cluster: Cluster, backend: EKSBackend, after: Callable[[], None]) -> None:
        """End the cluster's node; it is DELETING, then gone (and `after` was called) or FAILED."""
        running = self._running[cluster.name]

        def work():
            if running.node:
                running.node.stop()
            after()
            del self._running[cluster.name]
            backend.delete_cluster(cluster.name)
            running.worker.shutdown(wait=False)

        self._do(cluster.name, f"cluster {cluster.name}", work, cluster, ("DELETING", "FAILED"), "cluster gone")

    def stop(self) -> None:
        """End every node, also one that is just starting."""
        self._ended.set()
        for name, running in list(self._running.items()):
            running.worker.shutdown(wait=False, cancel_futures=True)
            try:
                if running.node:
                    running.node.stop()
            except Exception as error:  # the others must end too
                self.log(f"cluster {name}: {error}")
        self._running.clear()

    def authenticator(self, cluster_name: str, access: Access) -> Callable[[str], dict]:
        """Return what takes a token for this cluster and returns the Kubernetes user, or raises Refused."""

        def authenticate(token: str) -> dict:
            rules = {"cluster_name": cluster_name, "region": self.region, "hosts": self.hosts, "secret_of": self.find}
            return access.user(verify(token, **rules, now=datetime.now(UTC)))

        return authenticate

    def stands(self, name: str, addon: str) -> bool:
        """Whether what stands for an add-on of the cluster is as it should be, by the node's own word."""
        running = self._running.get(name)
        return bool(running and running.node and running.node.stands(addon))

    def _do(self, name: str, what: str, work, thing: Cluster | Nodegroup, ends: tuple[str, str], act: str) -> None:
        good, bad = ends
        due = self.delays.due(act)

        def attempt():
            if (left := self.delays.left(due)) and self._ended.wait(left):
                return
            try:
                work()
            except Exception as error:
                self.log(f"{what}: {error}")
                code = "InternalFailure" if isinstance(thing, Cluster) else "NodeCreationFailure"
                thing.health = {"issues": [{"code": code, "message": str(error), "resourceIds": [name]}]}
                thing.status = bad
            else:
                thing.status = good
                if good == "ACTIVE" and HEALTH in thing.tags:
                    thing.status, thing.health = cued(thing.tags)
                self.log(f"{what}: {'gone' if good == 'DELETING' else good}")

        self._running[name].worker.submit(attempt)


def _named(group: Nodegroup) -> str:
    return f"node group {group.nodegroup_name} of cluster {group.cluster_name}"
