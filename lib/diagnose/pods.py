"""The pods behind a Service, or that ask: what they are, whether they are ready, and what the kubelet says of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lib.errors import RunbookError
from lib.istio import proxy
from lib.istio.access_log import PROXY
from lib.kubernetes.cluster import Cluster

FAILED_PROBE = "Readiness probe failed"  # the kubelet's words, in an Event with reason Unhealthy


@dataclass(frozen=True)
class Workload:
    """The pods behind something: the first ready one's namespace, labels, account, and what is wrong with them."""

    namespace: str
    labels: Mapping[str, str]
    account: str
    pod: str
    proxied: bool
    ready: bool
    trouble: str = ""
    rewrites_probes: bool = True


def workload(pods: Sequence[Mapping], said: str = "") -> Workload | None:
    """Return what pods are, by the first of them that is ready; None of none.

    `said` is what is told of one that is not ready, besides what its status tells.
    """
    if not pods:
        return None
    best = next((pod for pod in pods if _ready(pod)), pods[0])
    return Workload(
        best["metadata"]["namespace"],
        best["metadata"].get("labels", {}),
        best["spec"].get("serviceAccountName", "default"),
        best["metadata"]["name"],
        proxy.has_proxy(best),
        _ready(best),
        "; ".join(filter(None, (_trouble(best), said))) if not _ready(best) else "",
        best["metadata"].get("annotations", {}).get("sidecar.istio.io/rewriteAppHTTPProbers") != "false",
    )


def complaint(cluster: Cluster, pods: Sequence[Mapping]) -> str:
    """Return what the kubelet last said of a probe of these pods, where none is ready."""
    if any(map(_ready, pods)) or not pods:
        return ""
    names = {pod["metadata"]["name"] for pod in pods}
    events = cluster.items("v1", "Event", pods[0]["metadata"]["namespace"])
    found = [one for one in events if one["involvedObject"].get("name") in names and _of_a_probe(one)]
    return max(found, key=lambda one: str(one.get("lastTimestamp"))).get("message", "") if found else ""


def caller(pods: Sequence[Mapping], name: str) -> Workload:
    """Return the workload that is named app or namespace/app; RunbookError where none runs, or several are meant."""
    home, _, app = name.rpartition("/")
    fitting = [one for one in pods if one["metadata"].get("labels", {}).get("app") == app]
    fitting = [one for one in fitting if not home or one["metadata"]["namespace"] == home]
    homes = {one["metadata"]["namespace"] for one in fitting}
    if len(homes) > 1:
        names = ", ".join(f"{one}/{app}" for one in sorted(homes))
        raise RunbookError(f"expected one app={app} to ask from, got {names}; name one of these.")
    found = workload([one for one in fitting if one["status"].get("phase") == "Running"])
    if not found:
        raise RunbookError(f"expected a running pod app={app} to ask from, got none; name it as namespace/app.")
    return found


def container(one: Workload, pods: Sequence[Mapping]) -> str:
    """Return the name of its pod's first container that is not the proxy."""
    pod = next(pod for pod in pods if pod["metadata"]["name"] == one.pod)
    return next(each["name"] for each in pod["spec"]["containers"] if each["name"] != PROXY)


def selector(labels: Mapping[str, str]) -> str:
    """Return the labels that tell a workload from others: not those that differ from pod to pod."""
    return ",".join(f"{key}={labels[key]}" for key in ("app", "istio", "app.kubernetes.io/name") if key in labels)


def _ready(pod: Mapping) -> bool:
    conditions = pod["status"].get("conditions", [])
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def _trouble(pod: Mapping) -> str:
    states = [*pod["status"].get("initContainerStatuses", []), *pod["status"].get("containerStatuses", [])]
    waiting = [f"{one['name']}: {one['state']['waiting'].get('reason')}" for one in states if "waiting" in one["state"]]
    unready = [f"{one['name']} is not ready" for one in states if not one.get("ready") and "running" in one["state"]]
    return "; ".join([*waiting, *unready]) or pod["status"].get("phase", "unknown")


def _of_a_probe(event: Mapping) -> bool:
    return event.get("reason") == "Unhealthy" and FAILED_PROBE in event.get("message", "")
