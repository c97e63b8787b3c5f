"""What the status of a Kubernetes object says: running, ready, terminating, or what of a rollout is missing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Object = Mapping[str, Any]


def is_running(pod: Object) -> bool:
    """Return whether the phase of a pod is Running; a pod that is terminating can be."""
    return pod["status"].get("phase") == "Running"


def is_ready(pod_or_node: Object) -> bool:
    """Return whether the condition Ready of a pod or a node is true."""
    conditions = pod_or_node.get("status", {}).get("conditions", [])
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)


def is_terminating(obj: Object) -> bool:
    """Return whether somebody has deleted the object and finalizers keep it."""
    return bool(obj["metadata"].get("deletionTimestamp"))


def missing_pods(workload: Object) -> str:
    """Return what a Deployment or StatefulSet lacks until all its pods are of its present template and ready, or ""."""
    replicas, status = workload["spec"].get("replicas", 1), workload.get("status", {})
    if status.get("observedGeneration", 0) < workload["metadata"]["generation"]:
        return "its controller has not seen the change yet"
    counts = [status.get(key, 0) for key in ("updatedReplicas", "replicas", "readyReplicas")]
    return "" if counts == [replicas] * 3 else f"{counts[2]} of {replicas} ready"


def public_address(service: Object) -> str:
    """Return the public address of a Service of type LoadBalancer: a host name (AWS) or an IP, "" before it has one."""
    entry = (service.get("status", {}).get("loadBalancer", {}).get("ingress") or [{}])[0]
    return entry.get("hostname") or entry.get("ip") or ""
