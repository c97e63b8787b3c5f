"""EnvoyFilters and plugins beside gateways: those that still fit, and those that make Envoy read requests as nginx did.

Source: https://istio.io/latest/docs/reference/config/networking/envoy-filter/
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lib.errors import LegacyError
from lib.gateway_api.gateways import OWN, Old, has_labels, of
from lib.istio.policies import targets

KINDS = ("EnvoyFilter", "WasmPlugin", "TrafficExtension", "Telemetry", "DestinationRule")
SAME = ("context", "proxy.proxyversion", "cluster", "listener.listenerfilter", "listener.filterchain.filter")
MANAGER = "envoy.filters.network.http_connection_manager"
PATHS = {"normalize_path": True, "merge_slashes": True, "path_with_escaped_slashes_action": "UNESCAPE_AND_FORWARD"}


def check(one: Mapping, gateways: Sequence[Old], root: str) -> None:
    """Raise LegacyError if an object is for a gateway's old pods, and would not do the same at the new ones.

    Args:
        one: An object of KINDS.
        gateways: The gateways that change.
        root: The mesh's root namespace.
    """
    spec = one["spec"]
    stated = spec.get("workloadSelector") or spec.get("selector") or {}
    labels = stated.get("labels") or stated.get("matchLabels") or {}
    for old in gateways:
        if targets(one) or one["metadata"]["namespace"] not in (old.namespace, root) or not has_labels(old, labels):
            continue
        if own := [key for key in labels if key.startswith(OWN)]:
            raise LegacyError(
                f"it selects the gateway by the label {own[0]}, which the new pods do not keep. Select a label of "
                "its own, for example app."
            )
        if any(each.get("ports") for each in spec.get("match") or []) or not all(map(_stays, _patches(one))):
            raise LegacyError(
                "the filter names ports or routes of the old gateway, and those of the new one differ. Match only "
                "the filter's name, or write it for the new gateway."
            )


def _patches(one: Mapping) -> list[Mapping]:
    return (one["spec"].get("configPatches") or []) if one["kind"] == "EnvoyFilter" else []


def _stays(patch: Mapping) -> bool:
    """Return whether a patch matches nothing that the new gateway names otherwise."""
    match = patch.get("match") or {}
    if isinstance(match, Mapping) and str(match.get("context", "")).startswith("SIDECAR"):
        return True
    return all(any(f"{leaf}.".startswith(f"{name}.") for name in SAME) for leaf in _leaves(match))


def _leaves(node: Any, path: str = "") -> Iterator[str]:
    """Yield the names of all values below a node: listener.filterchain.filter.name, in either spelling of fields."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield from _leaves(value, f"{path}.{key}".removeprefix(".").replace("_", "").lower())
    elif isinstance(node, list):
        for value in node:
            yield from _leaves(value, path)
    else:
        yield path


def without(home: str, name: str, headers: Sequence[str], target: list) -> dict:
    """Return the EnvoyFilter that removes headers before any other filter reads them."""
    early = {"name": "envoy.http.early_header_mutation.header_mutation", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation",
        "mutations": [{"remove": one} for one in headers]}}  # fmt: skip
    return _manager(home, name, target, {"early_header_mutation_extensions": [early]})


def decoded(home: str, name: str, target: list) -> dict:
    """Return the EnvoyFilter that decodes, resolves and merges a path before policies and routes read it."""
    return _manager(home, name, target, PATHS)


def _manager(home: str, name: str, target: list, config: Mapping) -> dict:
    whole = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
    value = {"typed_config": {"@type": whole, **config}}
    patch = {"applyTo": "NETWORK_FILTER", "match": {"listener": {"filterChain": {"filter": {"name": MANAGER}}}},
             "patch": {"operation": "MERGE", "value": value}}  # fmt: skip
    spec = {"targetRefs": target, "configPatches": [patch]}
    return of("EnvoyFilter", name, home, {"spec": spec}, "networking.istio.io/v1alpha3")
