"""Kubernetes objects: read from YAML files, changed, and sorted for creation."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from lib.kubernetes.rest import Object

DEFINITION = "CustomResourceDefinition"  # the kind
# Definitions before their objects, namespaces before their content, admission webhooks last.
_ORDER = {
    DEFINITION: 0,
    "Namespace": 1,
    "ServiceAccount": 2,
    "Secret": 3,
    "ConfigMap": 3,
    "ClusterRole": 4,
    "Role": 4,
    "ClusterRoleBinding": 5,
    "RoleBinding": 5,
    "Service": 6,
}
_LAST = {"MutatingWebhookConfiguration": 90, "ValidatingWebhookConfiguration": 91}


def load(path: Path, **values: str) -> list[Object]:
    """Return the objects of a YAML file, with `values` for its ${names}; an unknown name raises KeyError."""
    return [obj for obj in yaml.load_all(Template(path.read_text()).substitute(values), yaml.CSafeLoader) if obj]


def ordered(objects: list[Object]) -> list[Object]:
    """Return the objects sorted by kind: each comes after the objects that it needs."""
    return sorted(objects, key=lambda obj: _LAST.get(obj["kind"], _ORDER.get(obj["kind"], 50)))


def set_variable(container: Object, name: str, **value: Any) -> None:
    """Set an environment variable of a container; `value` is `value=…` or `valueFrom=…`."""
    others = [variable for variable in container["env"] if variable["name"] != name]
    container["env"] = [*others, {"name": name, **value}]


def as_yaml(objects: Iterable[dict[str, Any]]) -> str:
    """Return objects as YAML for a reader, with the values of Secrets left out."""
    return "---\n".join(yaml.safe_dump(_without_values(one), sort_keys=False, width=110) for one in objects)


def _without_values(manifest: dict[str, Any]) -> dict[str, Any]:
    if manifest["kind"] != "Secret":
        return manifest
    return {**manifest, "stringData": dict.fromkeys(manifest.get("stringData", {}), "(not shown)")}
