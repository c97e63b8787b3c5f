"""The ports that a policy compares: a sidecar and ztunnel see the pods' port, and a waypoint the Service's.

Source: istio/istio 1.31, pilot/pkg/networking/core/listener_waypoint.go (buildWaypointInternal).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lib.istio import routes
from lib.istio.policies import bare

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
    values = {str(value) for found in _lists(spec) for value in found}
    if not values:
        return dict(spec)
    changed = {value: sorted({port for port, to in leads if str(to) == value}) or [value] for value in values}
    same = all((port in changed[value]) == (str(to) == value) for port, to in leads for value in values)
    return _each(spec, changed) if same and all(to for _, to in leads) else None


def _lists(node: Any) -> list[list]:
    """Return all lists of ports in a spec."""
    if isinstance(node, list):
        return [found for one in node for found in _lists(one)]
    if not isinstance(node, Mapping):
        return []
    own = [value for key, value in node.items() if _is_ports(node, key)]
    return own + [found for key, value in node.items() if not _is_ports(node, key) for found in _lists(value)]


def _each(node: Any, changed: Mapping[str, Sequence[str]]) -> Any:
    if isinstance(node, list):
        return [_each(one, changed) for one in node]
    if not isinstance(node, Mapping):
        return node
    return {key: sorted({port for one in value for port in changed[str(one)]}) if _is_ports(node, key)
            else _each(value, changed) for key, value in node.items()}  # fmt: skip


def _is_ports(node: Mapping, key: str) -> bool:
    return isinstance(node[key], list) and (bare(key) == "ports" or node.get("key") == KEY)
