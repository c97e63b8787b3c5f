"""Objects of Kubernetes: from YAML files, changed, and in the order in which they can be created."""

from __future__ import annotations

from pathlib import Path
from string import Template

import yaml

# Definitions before what they define, homes before who lives in them, admission last.
_ORDER = {
    "CustomResourceDefinition": 0,
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


def load(path: Path, **values: str) -> list[dict]:
    """Return the objects of a YAML file, its ${names} replaced by `values`; an unknown name raises KeyError."""
    return [thing for thing in yaml.safe_load_all(Template(path.read_text()).substitute(values)) if thing]


def ordered(things: list[dict]) -> list[dict]:
    """Return objects in the order in which they can be created."""
    return sorted(things, key=lambda thing: _LAST.get(thing["kind"], _ORDER.get(thing["kind"], 50)))


def set_variable(container: dict, name: str, **value) -> None:
    """Give a container's environment variable another value, or add it."""
    container["env"] = [one for one in container["env"] if one["name"] != name] + [{"name": name, **value}]
