"""Sidecars (the resource): which Services a workload's proxy knows.

Source: https://istio.io/latest/docs/reference/config/networking/sidecar/ (egress, hosts, workloadSelector)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping


def hiding(
    sidecars: Iterable[Mapping], root: str, caller: tuple[str, Mapping[str, str]], host: str, home: str
) -> Mapping | None:
    """Return the Sidecar that hides a host from a caller, None if the caller's proxy knows the host.

    Args:
        sidecars: The Sidecars of the cluster.
        root: The namespace of Istio's root.
        caller: The caller's namespace and labels.
        host: The host in full, as in web.shop.svc.cluster.local.
        home: The namespace of the host's Service.
    """
    namespace, labels = caller
    fitting = [one for one in sidecars if _applies(one, namespace, labels, root)]
    chosen = min(fitting, key=lambda one: (not _selector(one), one["metadata"]["namespace"] != namespace), default=None)
    if chosen is None or "egress" not in (chosen.get("spec") or {}):
        return None
    hosts = [one for egress in chosen["spec"]["egress"] for one in egress.get("hosts") or []]
    return None if any(_shows(one, namespace, host, home) for one in hosts) else chosen


def _applies(sidecar: Mapping, namespace: str, labels: Mapping[str, str], root: str) -> bool:
    own, wanted = sidecar["metadata"]["namespace"], _selector(sidecar)
    if wanted:
        return own == namespace and wanted.items() <= labels.items()
    return own in (namespace, root)


def _selector(sidecar: Mapping) -> dict[str, str]:
    return ((sidecar.get("spec") or {}).get("workloadSelector") or {}).get("labels") or {}


def _shows(stated: str, namespace: str, host: str, home: str) -> bool:
    place, _, pattern = stated.rpartition("/")
    there = place in ("*", home) or (place in (".", "") and home == namespace)
    return there and (pattern == host or (pattern.startswith("*") and host.endswith(pattern[1:])))
