"""Pods as `why` needs them: the workload behind a Service, the caller, readiness, failed probes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from lib.errors import RunbookError
from lib.istio import proxy
from lib.istio.access_log import PROXY
from lib.istio.mesh import DEFAULT, REVISION, Mesh
from lib.kubernetes import kubectl
from lib.kubernetes.cluster import Cluster
from lib.kubernetes.status import is_ready, is_running

PROBE_FAILED = ("Readiness probe failed", "Startup probe failed")  # the kubelet's words, in Events: reason Unhealthy
EXCLUDED_PORTS = "traffic.sidecar.istio.io/excludeInboundPorts"  # annotation: these ports go past the sidecar
WAYPOINT = "istio.io/use-waypoint"  # label of a namespace or Service
REDIRECTED, DATA_PLANE = "ambient.istio.io/redirection", "istio.io/dataplane-mode"  # annotation; label
UNIQUE = (  # labels that differ between the pods of a workload
    "pod-template-hash",
    "controller-revision-hash",
    "statefulset.kubernetes.io/pod-name",
    "apps.kubernetes.io/pod-index",
)
IDENTIFYING = ("app", "istio", "app.kubernetes.io/name")  # labels that all pods of a workload share


@dataclass(frozen=True)
class Workload:
    """Some pods, described by the first one that is ready. `problem` says why none is ready, "" if one is.

    `revision` is the control plane's that injected the proxy, `addresses` are the pods', `bypassed` the ports that the
    proxy does not see (excludeInboundPorts). In ambient mode ztunnel stands before the pods, and they have no proxy;
    `waypoint` is what their namespace names as such.
    """

    namespace: str
    labels: Mapping[str, str]
    account: str
    pod: str
    proxied: bool
    ready: bool
    problem: str = ""
    rewrites_probes: bool = True
    revision: str = ""
    addresses: tuple[str, ...] = ()
    bypassed: tuple[str, ...] = ()
    ambient: bool = False
    waypoint: str = ""


def workload_of(pods: Sequence[Mapping], probe_failure: str = "") -> Workload | None:
    """Return the workload that these pods are, None if there are no pods.

    `probe_failure` is the kubelet's message; it joins the problem if no pod is ready.
    """
    if not pods:
        return None
    best = next((pod for pod in pods if is_ready(pod)), pods[0])
    metadata, proxied = best["metadata"], proxy.has_proxy(dict(best))
    notes = metadata.get("annotations") or {}
    return Workload(
        metadata["namespace"],
        metadata.get("labels") or {},
        best["spec"].get("serviceAccountName", "default"),
        metadata["name"],
        proxied,
        is_ready(best),
        "; ".join(filter(None, (_problem(best), probe_failure))) if not is_ready(best) else "",
        notes.get("sidecar.istio.io/rewriteAppHTTPProbers") != "false",
        notes.get(REVISION, "") if proxied else "",
        tuple(pod["status"]["podIP"] for pod in pods if pod["status"].get("podIP")),
        _bypassed(notes),
        notes.get(REDIRECTED) == "enabled",
    )


def with_ambient(cluster: Cluster, workload: Workload) -> Workload:
    """Return the workload, in ambient mode if its pods or its namespace say so and it has no sidecar."""
    if workload.proxied or workload.ambient:
        return replace(workload, ambient=workload.ambient and not workload.proxied)
    namespace = cluster.find("v1", "Namespace", workload.namespace) or {}
    labels = namespace.get("metadata", {}).get("labels") or {}
    ambient = workload.labels.get(DATA_PLANE, labels.get(DATA_PLANE, "")) == "ambient"
    return replace(workload, ambient=ambient, waypoint=labels.get(WAYPOINT, ""))


def _bypassed(notes: Mapping[str, str]) -> tuple[str, ...]:
    ports = notes.get(EXCLUDED_PORTS, "")
    return tuple(one.strip() for one in ports.split(",") if one.strip())


def probe_failure(cluster: Cluster, pods: Sequence[Mapping]) -> str:
    """Return the kubelet's last message about a failed probe, "" if a pod is ready or none failed."""
    if any(map(is_ready, pods)) or not pods:
        return ""
    names = {pod["metadata"]["name"] for pod in pods}
    events = cluster.items("v1", "Event", pods[0]["metadata"]["namespace"])
    failures = [one for one in events if one["involvedObject"].get("name") in names and _failed_probe(one)]
    return max(failures, key=lambda one: str(one.get("lastTimestamp"))).get("message", "") if failures else ""


def istiod(cluster: Cluster, settings: Mesh) -> dict[str, Any]:
    """Return whether istiod runs, and since when, as attributes of the evidence.

    A Deployment's conditions change when its pods become available, and when a rollout ends.
    """
    found = cluster.find("apps/v1", "Deployment", settings.istiod, settings.istiod_namespace)
    status = found.get("status", {}) if found else {}
    times = [one[name] for one in status.get("conditions", []) for name in ("lastUpdateTime", "lastTransitionTime")]
    since = datetime.fromisoformat(max(times)).timestamp() if times else 0.0
    return {"istiod_ready": found is None or status.get("availableReplicas", 0) > 0, "istiod_since": since}


def find_caller(pods: Sequence[Mapping], name: str) -> Workload:
    """Return the workload with this label app (or app.kubernetes.io/name), or namespace/app.

    Raises:
        RunbookError: No pod with that label runs, or several namespaces have one.
    """
    namespace, _, app = name.rpartition("/")
    labels = lambda one: one["metadata"].get("labels") or {}  # noqa: E731
    fitting = [one for one in pods if app in (labels(one).get("app"), labels(one).get("app.kubernetes.io/name"))]
    fitting = [one for one in fitting if not namespace or one["metadata"]["namespace"] == namespace]
    namespaces = {one["metadata"]["namespace"] for one in fitting}
    if len(namespaces) > 1:
        names = ", ".join(f"{one}/{app}" for one in sorted(namespaces))
        raise RunbookError(f"Several namespaces have pods app={app}. Name the caller as one of: {names}.")
    found = workload_of([one for one in fitting if is_running(one)])
    if not found:
        raise RunbookError(f"No running pod app={app} to ask from. Start it, or name another as namespace/app.")
    return found


def application_container(workload: Workload, pods: Sequence[Mapping]) -> str:
    """Return the name of the first container that is not the proxy."""
    pod = next(pod for pod in pods if pod["metadata"]["name"] == workload.pod)
    return next(each["name"] for each in pod["spec"]["containers"] if each["name"] != PROXY)


def declared_ports(workload: Workload, pods: Sequence[Mapping]) -> list[str]:
    """Return the ports that the containers of a workload's pod declare, without the proxy's."""
    own = [one for pod in pods if pod["metadata"]["name"] == workload.pod for one in pod["spec"]["containers"]]
    ports = [port for one in own if one["name"] != PROXY for port in one.get("ports") or []]
    return [str(one["containerPort"]) for one in ports]


def refused_certificates(cluster: Cluster, pods: Sequence[Mapping]) -> int:
    """Return how many certificates of servers all gateways have refused so far, as far as their statistics count it."""
    running = [one for one in pods if is_running(one) and proxy.has_proxy(dict(one)) and proxy.is_gateway(one)]
    places = {(label_selector(one["metadata"].get("labels") or {}), one["metadata"]["namespace"]) for one in running}
    refused = 0
    for selector, namespace in places:
        with suppress(RunbookError):
            refused += proxy.refused_certificates(cluster.execute(selector, namespace, PROXY))
    return refused


def label_selector(labels: Mapping[str, str]) -> str:
    """Return a selector by the labels that all pods of a workload share."""
    return ",".join(f"{key}={value}" for key, value in identifying(labels).items())


def identifying(labels: Mapping[str, str]) -> dict[str, str]:
    """Return the labels that all pods of a workload share."""
    shared = {key: labels[key] for key in IDENTIFYING if key in labels}
    return shared or {key: value for key, value in labels.items() if key not in UNIQUE}


def pods_command(workload: Workload, **metadata: Mapping[str, str | None]) -> str:
    """Return the command that gives a workload's pods labels and annotations; "" if no Deployment or StatefulSet does.

    None removes one. The command waits until the new pods are ready.
    """
    labels, owner = workload.labels, ("", "")
    if number := labels.get("pod-template-hash"):
        owner = "deployment", workload.pod.rpartition(f"-{number}-")[0]
    elif "apps.kubernetes.io/pod-index" in labels:
        owner = "statefulset", workload.pod.rpartition("-")[0]
    content = {"spec": {"template": {"metadata": metadata}}}
    if not owner[1]:
        return ""
    where = (*owner, workload.namespace)
    return f"{kubectl.merge(*where, content)} && {kubectl.rolled_out(*where)}"


def sidecar_command(workload: Workload, mesh: Mesh) -> str:
    """Return the command that gives a workload's pods a sidecar; the label of a pod overrides its annotation."""
    revision = {} if mesh.revision in ("", DEFAULT) else {REVISION: mesh.revision}
    return pods_command(workload, labels={"sidecar.istio.io/inject": "true", **revision})


def _problem(pod: Mapping) -> str:
    states = [*pod["status"].get("initContainerStatuses", []), *pod["status"].get("containerStatuses", [])]
    waiting = [f"{one['name']}: {one['state']['waiting'].get('reason')}" for one in states if "waiting" in one["state"]]
    unready = [f"{one['name']} is not ready" for one in states if not one.get("ready") and "running" in one["state"]]
    return "; ".join([*waiting, *unready]) or pod["status"].get("phase", "unknown")


def _failed_probe(event: Mapping) -> bool:
    return event.get("reason") == "Unhealthy" and event.get("message", "").startswith(PROBE_FAILED)
