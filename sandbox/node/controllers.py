"""The controllers that EKS adds to Kubernetes: cluster DNS, load balancer addresses, volumes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import urllib3
from kubernetes import client, config, watch

from lib.errors import ClusterError
from lib.kubernetes.cluster import Cluster
from lib.kubernetes.manifests import load, ordered
from lib.kubernetes.status import is_ready
from sandbox.build.image_catalogue import names
from sandbox.node.command_lines import DNS

OBJECTS = Path(__file__).parent / "manifests" / "cluster.yaml"
CLASS = "sandbox-local"  # the default StorageClass
VOLUMES = "var/lib/volumes"  # on the node
EFFECTS = {  # EKS's names of the taint effects (API_Taint) and Kubernetes'
    "NO_SCHEDULE": "NoSchedule",
    "NO_EXECUTE": "NoExecute",
    "PREFER_NO_SCHEDULE": "PreferNoSchedule",
}


class Controllers:
    """Gives Services of type LoadBalancer an address, and claims of the default StorageClass a folder of the node.

    Args:
        kubeconfig: of an administrator.
        pool: the addresses for load balancers, in order.
        on_node: runs a command on the node.
        log: takes one line.
    """

    def __init__(
        self, kubeconfig: Path, pool: list[str], on_node: Callable[[list[str]], Any], log: Callable[[str], None]
    ) -> None:
        self.cluster = Cluster.from_kubeconfig(kubeconfig)
        self.pool, self.on_node, self.log = pool, on_node, log
        self.core = client.CoreV1Api(config.new_client_from_config(str(kubeconfig)))
        self._stopped = threading.Event()
        self._labels: dict[str, str] = {}  # of the Node, from the last call of set_labels_and_taints

    def start(self) -> None:
        """Apply the objects of OBJECTS and start watching."""
        for object_ in ordered(load(OBJECTS, dns=DNS, coredns=names()["coredns"], storage_class=CLASS)):
            self.cluster.apply(object_)
        for listing, act in (
            (self.core.list_service_for_all_namespaces, self._assign_address),
            (self.core.list_persistent_volume_claim_for_all_namespaces, self._provision_volume),
            (self.core.list_persistent_volume, self._delete_volume),
        ):
            threading.Thread(target=self._follow, args=(listing, act), daemon=True).start()

    def stop(self) -> None:
        """Stop watching."""
        self._stopped.set()

    def node_ready(self, name: str) -> bool:
        """Return whether the Node is Ready."""
        node = self.cluster.find("v1", "Node", name)
        return node is not None and is_ready(node)

    def available(self, name: str, namespace: str) -> bool:
        """Return whether a Deployment has all its replicas."""
        deployment = self.cluster.find("apps/v1", "Deployment", name, namespace) or {}
        return deployment.get("status", {}).get("availableReplicas", 0) >= deployment.get("spec", {}).get("replicas", 1)

    def set_labels_and_taints(self, name: str, labels: dict[str, str], taints: list[dict[str, str]]) -> None:
        """Give a Node these labels and taints, and remove those of the last call. The effects have EKS's names."""
        removed = dict.fromkeys(self._labels.keys() - labels.keys())
        wanted = [{**taint, "effect": EFFECTS[taint["effect"]]} for taint in taints]
        present = self.cluster.get("v1", "Node", name)["spec"].get("taints") or []
        own = [taint for taint in present if taint["key"].startswith("node.kubernetes.io/")]  # set by Kubernetes
        kept = [{key: taint[key] for key in ("key", "value", "effect") if taint.get(key)} for taint in own]
        self.core.patch_node(name, {"metadata": {"labels": {**removed, **labels}}, "spec": {"taints": kept + wanted}})
        self._labels = dict(labels)

    def forget_node(self, name: str) -> None:
        """Delete the Node object."""
        self.cluster.delete("v1", "Node", name)

    def _follow(self, listing: Callable, act: Callable[[Any], None]) -> None:
        while not self._stopped.is_set():
            try:
                for event in watch.Watch().stream(listing, timeout_seconds=300):
                    if self._stopped.is_set():
                        return
                    if event["type"] in ("ADDED", "MODIFIED"):
                        attempt(act, event["object"], self.log)
            except (client.ApiException, urllib3.exceptions.HTTPError) as error:
                if not self._stopped.wait(0.5):
                    self.log(f"controllers: watching again after {type(error).__name__}")

    def _assign_address(self, service: Any) -> None:
        if service.spec.type != "LoadBalancer" or (service.status.load_balancer.ingress or []):
            return
        services: list[Any] = self.core.list_service_for_all_namespaces().items
        taken = {entry.ip for other in services for entry in other.status.load_balancer.ingress or []}
        free = [address for address in self.pool if address not in taken]
        if not free:
            self.log(
                f"controllers: no address is left for Service {service.metadata.namespace}/{service.metadata.name}"
            )
            return
        status = {"status": {"loadBalancer": {"ingress": [{"ip": free[0]}]}}}
        self.core.patch_namespaced_service_status(service.metadata.name, service.metadata.namespace, status)

    def _provision_volume(self, claim: Any) -> None:
        if claim.spec.volume_name or claim.spec.storage_class_name != CLASS or claim.metadata.deletion_timestamp:
            return
        name = f"pvc-{claim.metadata.uid}"
        volume = {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": name},
            "spec": {
                "capacity": {"storage": claim.spec.resources.requests["storage"]},
                "accessModes": claim.spec.access_modes,
                "persistentVolumeReclaimPolicy": "Delete",
                "storageClassName": CLASS,
                "hostPath": {"path": f"/{VOLUMES}/{name}", "type": "DirectoryOrCreate"},
                "claimRef": {
                    "namespace": claim.metadata.namespace,
                    "name": claim.metadata.name,
                    "uid": claim.metadata.uid,
                },
            },
        }
        # Everybody may write, as in kind's and minikube's: Kubernetes gives no folder of a node to a pod's fsGroup
        self.on_node(["install", "-d", "-m", "777", f"/{VOLUMES}/{name}"])
        self.cluster.apply(volume)

    def _delete_volume(self, volume: Any) -> None:
        ours = volume.spec.storage_class_name == CLASS and volume.status.phase in ("Released", "Failed")
        if ours and not volume.metadata.deletion_timestamp:
            self.on_node(["rm", "-rf", f"/{VOLUMES}/{volume.metadata.name}"])
            self.core.delete_persistent_volume(volume.metadata.name)


def attempt(act: Callable[[Any], None], object_: Any, log: Callable[[str], None]) -> None:
    """Act on one object, and log if the API server refuses that: one user's object must not stop the others'."""
    try:
        act(object_)
    except (client.ApiException, ClusterError) as error:
        log(f"controllers: {object_.metadata.name} is left as it is: {type(error).__name__}")
