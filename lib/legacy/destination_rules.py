"""DestinationRules beside the old policies: the wildcard's mutual TLS goes, and everything else stays."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from lib.legacy.write import Translated

API = "networking.istio.io/v1"
NETWORKING = "networking.istio.io/"
API_SERVER = "kubernetes.default.svc.cluster.local"
LOCAL = (".local", ".svc")  # how hosts of this cluster end
NEEDLESS = (
    "DestinationRule {name} for {host} is needless and harmful today: clients detect mutual TLS, and this rule breaks "
    "every call to a pod without a sidecar. Delete it."
)
PART = (
    "DestinationRule {name} for {host}: its tls block (ISTIO_MUTUAL) is left out, since clients detect mutual TLS and "
    "it breaks every call to a pod without a sidecar. The other settings stay."
)
SERVER = (
    "DestinationRule {name} for {host} is needless today: the API server has no sidecar, and clients detect that. "
    "Delete it together with the wildcard rule that it was an exception from."
)
KEPT = "DestinationRule {name} for {host} is kept as it is: it is no part of the old security API."
AWAY = (
    "DestinationRule {name} for {host} is kept as it is: {host} names Services of other clusters, for which clients "
    "do not detect mutual TLS. Delete it together with the ServiceEntries for these names."
)
OLD_FIELDS = "The rule has {fields}: Istio has deprecated it. Write {instead}."
DEPRECATED = {"consecutiveErrors": "consecutive5xxErrors", "LEAST_CONN": "LEAST_REQUEST"}


def is_rule(manifest: Mapping) -> bool:
    """Return whether an object is a DestinationRule of any version."""
    return manifest.get("kind") == "DestinationRule" and str(manifest.get("apiVersion", "")).startswith(NETWORKING)


def translate(one: Mapping) -> Translated:
    """Return a DestinationRule without the mutual TLS that clients detect today; nothing else of it is lost."""
    spec, name = one.get("spec") or {}, (one.get("metadata") or {}).get("name")
    host = str(spec.get("host", ""))
    names = {"name": name, "host": host}
    mode = ((spec.get("trafficPolicy") or {}).get("tls") or {}).get("mode")
    if host == API_SERVER and mode == "DISABLE" and _only_tls(spec):
        return Translated({}, [SERVER.format(**names)])
    if not host.startswith("*") or not _mutual(spec):
        return _kept(one, KEPT.format(**names))
    if not (host == "*" or host.endswith(LOCAL)):
        return _kept(one, AWAY.format(**names))
    left = _without_mutual(spec)
    if not left.get("trafficPolicy") and not left.get("subsets"):
        return Translated({}, [NEEDLESS.format(**names)])
    return _kept({**one, "spec": left}, PART.format(**names))


def _kept(one: Mapping, note: str) -> Translated:
    metadata = {key: value for key, value in one["metadata"].items() if key in ("name", "namespace", "labels")}
    made = {"apiVersion": API, "kind": "DestinationRule", "metadata": metadata, "spec": copy.deepcopy(one["spec"])}
    text = str(one["spec"])
    old = [OLD_FIELDS.format(fields=word, instead=new) for word, new in DEPRECATED.items() if f"'{word}'" in text]
    return Translated(made, [note, *old])


def _only_tls(spec: Mapping) -> bool:
    return not set(spec) - {"host", "trafficPolicy"} and not set(spec.get("trafficPolicy") or {}) - {"tls"}


def _mutual(node: Any) -> bool:
    """Return whether any tls block in a spec is ISTIO_MUTUAL."""
    if isinstance(node, Mapping):
        tls = node.get("tls")
        own = isinstance(tls, Mapping) and tls.get("mode") == "ISTIO_MUTUAL"
        return own or any(_mutual(value) for value in node.values())
    return isinstance(node, list) and any(_mutual(value) for value in node)


def _without_mutual(node: Any) -> Any:
    """Return a spec without the tls blocks that are ISTIO_MUTUAL, and without what is empty after that."""
    if isinstance(node, list):
        return [_without_mutual(value) for value in node]
    if not isinstance(node, Mapping):
        return node
    kept = {key: value for key, value in node.items() if not (key == "tls" and _mutual({"tls": value}))}
    made = {key: _without_mutual(value) for key, value in kept.items()}
    levels = [one for one in made.get("portLevelSettings") or [] if set(one) - {"port"}]
    if "portLevelSettings" in made:
        made["portLevelSettings"] = levels
    return {key: value for key, value in made.items() if value not in ({}, []) or node[key] in ({}, [])}
