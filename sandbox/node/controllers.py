"""What EKS gives a cluster beside Kubernetes: DNS, addresses for load balancers, volumes."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import urllib3
from kubernetes import client, config, watch

from lib.kubernetes.cluster import Cluster
from lib.kubernetes.manifests import load, ordered
from lib.kubernetes.status import is_ready
from sandbox.build.image_catalogue import names
from sandbox.node.command_lines import DNS

OBJECTS = Path(__file__).parent / "manifests" / "cluster.yaml"
CLASS = "sandbox-local"  # the default StorageClass
VOLUMES = "var/lib/volumes"  # on the node
EFFECTS = {"NO_SCHEDULE": "NoSchedule", "NO_EXECUTE": "NoExecute", "PREFER_NO_SCHEDULE": "PreferNoSchedule"}


class Controllers:
    """Gives load balancers an address of `pool`, and claims of the default class a folder of the node."""

    def __init__(self, kubeconfig: Path, pool: list[str], disk: Path, log) -> None:
        self.cluster = Cluster.from_kubeconfig(kubeconfig)
        self.pool, self.disk, self.log = pool, disk, log
        self.core = client.CoreV1Api(config.new_client_from_config(str(kubeconfig)))
        self._stopped, self._dressed = threading.Event(), {}

    def start(self) -> None:
        """Apply the cluster's own objects and start watching."""
        for thing in ordered(load(OBJECTS, dns=DNS, coredns=names()["coredns"], storage_class=CLASS)):
            self.cluster.apply(thing)
        for listing, act in (
            (self.core.list_service_for_all_namespaces, self._balance),
            (self.core.list_persistent_volume_claim_for_all_namespaces, self._provide),
            (self.core.list_persistent_volume, self._reclaim),
        ):
            threading.Thread(target=self._follow, args=(listing, act), daemon=True).start()

    def stop(self) -> None:
        """Stop watching."""
        self._stopped.set()

    def node_ready(self, name: str) -> bool:
        """Return whether the Node says it is Ready."""
        found = self.cluster.find("v1", "Node", name)
        return found is not None and is_ready(found)

    def available(self, name: str, namespace: str) -> bool:
        """Return whether a Deployment has all the pods it should have."""
        found = self.cluster.find("apps/v1", "Deployment", name, namespace) or {}
        return found.get("status", {}).get("availableReplicas", 0) >= found.get("spec", {}).get("replicas", 1)

    def set_labels_and_taints(self, name: str, labels: dict[str, str], taints: list[dict[str, str]]) -> None:
        """Give a Node these labels and taints, in EKS's words; what an earlier call gave and this one has not goes."""
        gone = dict.fromkeys(self._dressed.keys() - labels.keys())
        wanted = [{**one, "effect": EFFECTS[one["effect"]]} for one in taints]
        there = self.core.read_node(name).spec.taints or []
        own = [one.to_dict() for one in there if one.key.startswith("node.kubernetes.io/")]  # Kubernetes' own
        kept = [{key: one[key] for key in ("key", "value", "effect") if one.get(key)} for one in own]
        self.core.patch_node(name, {"metadata": {"labels": {**gone, **labels}}, "spec": {"taints": kept + wanted}})
        self._dressed = dict(labels)

    def forget_node(self, name: str) -> None:
        """Delete the Node object."""
        self.cluster.delete("v1", "Node", name)

    def _follow(self, listing, act) -> None:
        while not self._stopped.is_set():
            try:
                for event in watch.Watch().stream(listing, timeout_seconds=300):
                    if self._stopped.is_set():
                        return
                    if event["type"] in ("ADDED", "MODIFIED"):
                        act(event["object"])
            except (client.ApiException, urllib3.exceptions.HTTPError) as error:
                if not self._stopped.wait(0.5):
                    self.log(f"controllers: watching again after {type(error).__name__}")

    def _balance(self, service) -> None:
        if service.spec.type != "LoadBalancer" or (service.status.load_balancer.ingress or []):
            return
        taken = set()
        for other in self.core.list_service_for_all_namespaces().items:
            taken |= {entry.ip for entry in other.status.load_balancer.ingress or []}
        free = [address for address in self.pool if address not in taken]
        if not free:
            self.log(
                f"controllers: no address is left for Service {service.metadata.namespace}/{service.metadata.name}"
            )
            return
        status = {"status": {"loadBalancer": {"ingress": [{"ip": free[0]}]}}}
        self.core.patch_namespaced_service_status(service.metadata.name, service.metadata.namespace, status)

    def _provide(self, claim) -> None:
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
        self.cluster.apply(volume)

    def _reclaim(self, volume) -> None:
        ours = volume.spec.storage_class_name == CLASS and volume.status.phase in ("Released", "Failed")
        if ours and not volume.metadata.deletion_timestamp:
            shutil.rmtree(self.disk / VOLUMES / volume.metadata.name, ignore_errors=True)
            self.core.delete_persistent_volume(volume.metadata.name)
