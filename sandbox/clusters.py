"""What stands behind the EKS API: by cluster a node, one thread that works on it, and who may talk to it."""

from __future__ import annotations

import base64
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from moto.eks.models import Cluster, EKSBackend, Nodegroup

from sandbox.access import Access
from sandbox.webhook import SecretOf, verify


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
    goes wrong ends in the object's `health` and in the log.
    """

    def __init__(
        self, make_node, kubernetes_version: str, region: str, hosts: set[str], find: SecretOf, log, worker=_thread
    ):
        self.make_node, self.kubernetes_version, self.region = make_node, kubernetes_version, region
        self.worker = worker
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

        self._do(cluster.name, f"cluster {cluster.name}", work, cluster, "ACTIVE", "FAILED")

    def join(self, group: Nodegroup) -> None:
        """Join the node group's nodes; it is CREATING, then ACTIVE or CREATE_FAILED."""

        def work():
            self._running[group.cluster_name].node.join(group.nodegroup_name, group.scaling_config["desiredSize"])

        self._do(group.cluster_name, _named(group), work, group, "ACTIVE", "CREATE_FAILED")

    def leave(self, group: Nodegroup, backend: EKSBackend) -> None:
        """End the node group's nodes; it is DELETING, then gone or DELETE_FAILED."""

        def work():
            self._running[group.cluster_name].node.leave(group.nodegroup_name)
            backend.delete_nodegroup(group.cluster_name, group.nodegroup_name)

        self._do(group.cluster_name, _named(group), work, group, "DELETING", "DELETE_FAILED")

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

        self._do(cluster.name, f"cluster {cluster.name}", work, cluster, "DELETING", "FAILED")

    def stop(self) -> None:
        """End every node, also one that is just starting."""
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

    def _do(self, name: str, what: str, work, thing: Cluster | Nodegroup, good: str, bad: str) -> None:
        def attempt():
            try:
                work()
            except Exception as error:
                self.log(f"{what}: {error}")
                code = "InternalFailure" if isinstance(thing, Cluster) else "NodeCreationFailure"
                thing.health = {"issues": [{"code": code, "message": str(error), "resourceIds": [name]}]}
                thing.status = bad
            else:
                thing.status = good
                self.log(f"{what}: {'gone' if good == 'DELETING' else good}")

        self._running[name].worker.submit(attempt)


def _named(group: Nodegroup) -> str:
    return f"node group {group.nodegroup_name} of cluster {group.cluster_name}"
