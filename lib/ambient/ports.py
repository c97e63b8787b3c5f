"""The ports that a policy compares: a sidecar and ztunnel see the pods' port, and a waypoint the Service's.

Source: istio/istio 1.31, pilot/pkg/networking/core/listener_waypoint.go (buildWaypointInternal).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lib.istio import policies, routes

KEY, ADDRESS = "destination.port", "destination.ip"  # of `when`


def at_services(spec: Mapping, services: Sequence[Mapping], workloads: Sequence[Mapping]) -> dict | None:
    """Return a spec with the ports of Services in the place of their pods'.

    None if one list does not fit them all, or if the spec compares the pods' addresses.

    Args:
        spec: The spec of a policy at pods.
        services: The Services for which the policy is at the waypoint.
        workloads: Objects with pod templates, for target ports that are names.
    """
    if f"'{ADDRESS}'" in str(spec.get("rules")):
        return None
    pods = [one["spec"].get("template") or one for one in workloads]
    pods = [one for one in pods if "containers" in (one.get("spec") or {})]
    ports = [port for one in services for port in one["spec"].get("ports") or []]
    leads = [(str(one["port"]), routes.target(one, pods)) for one in ports if one.get("protocol", "TCP") == "TCP"]
    changed: dict[str, list[str]] = {}

    def of_services(values: Sequence[Any], _: bool) -> list[str]:
        for value in map(str, values):
            changed[value] = sorted({port for port, to in leads if str(to) == value}) or [value]
        return sorted({port for value in values for port in changed[str(value)]})

    made = policies.rewritten(spec, {"ports": of_services, KEY: of_services})
    same = all((port in changed[value]) == (str(to) == value) for port, to in leads for value in changed)
    return made if not changed or (same and all(to for _, to in leads)) else None
