"""Objects of today's API among the old ones: kept as they are, or refused if fields of the old API are left in them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from lib.errors import LegacyError
from lib.istio.policies import API, KINDS
from lib.legacy.write import Translated

KEPT = "This object is of today's API already: it is kept as it is."
MOVED = {  # an old field, in both spellings, and where its meaning belongs today
    "triggerRules": "paths and notPaths of an AuthorizationPolicy that denies requests without a principal",
    "principalBinding": "nowhere: a request has source.principal and request.auth.principal side by side",
    "originIsOptional": "nowhere: a request without a token passes unless an AuthorizationPolicy refuses it",
    "peerIsOptional": "mtls.mode PERMISSIVE of a PeerAuthentication",
    "origins": "jwtRules of a RequestAuthentication",
    "peers": "mtls of a PeerAuthentication",
    "targets": "selector.matchLabels, with the labels of the pods",
    "jwtHeaders": "fromHeaders",
    "jwtParams": "fromParams",
    "roleRef": "rules of an AuthorizationPolicy",
    "subjects": "rules[].from of an AuthorizationPolicy",
}


def is_present(manifest: Mapping) -> bool:
    """Return whether an object is of today's security API."""
    return str(manifest.get("apiVersion", "")).startswith("security.istio.io/") and manifest.get("kind") in KINDS


def translate(one: Mapping) -> Translated:
    """Return the object itself.

    Raises:
        LegacyError: It has fields of the old API, which Istio refuses or ignores today.
    """
    spec = one.get("spec") or {}
    found = dict.fromkeys(_old_fields(spec))
    if found:
        places = "; ".join(f"{name} belongs into {MOVED[name]}" for name in found)
        raise LegacyError(
            f"the object is of today's API, but has {', '.join(found)} of the old one. Move these fields: {places}."
        )
    metadata = {key: value for key, value in one["metadata"].items() if key in ("name", "namespace", "labels")}
    return Translated({"apiVersion": API, "kind": one["kind"], "metadata": metadata, "spec": spec}, [KEPT])


def _old_fields(node: Any) -> Iterator[str]:
    if isinstance(node, list):
        for value in node:
            yield from _old_fields(value)
    elif isinstance(node, Mapping):
        for key, value in node.items():
            name = _camel(str(key))
            if name in MOVED:
                yield name
            else:
                yield from _old_fields(value)


def _camel(key: str) -> str:
    first, *others = key.split("_")
    return first + "".join(one.title() for one in others)
