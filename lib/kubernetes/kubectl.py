"""Commands of kubectl, as text for a person to read and to run, and its kubeconfigs. Nothing here runs a command."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


def kubeconfigs(environment: Mapping[str, str] = os.environ) -> list[Path]:
    """Return the files that kubectl reads: those of KUBECONFIG, by default ~/.kube/config."""
    named = environment.get("KUBECONFIG") or "~/.kube/config"
    return [Path(part).expanduser() for part in named.split(os.pathsep) if part]


def edit(found: Mapping, field: str, old: Any, new: Any) -> str:
    """Return the command that gives a field of an object's spec another value.

    Args:
        found: The object; {} if it is not known.
        field: The field's name. The first place counts where this field has the old value.
        old: The value, or an item of a list.
        new: The other value; None removes the field or the item.

    Returns:
        "" if no such field has the old value, or the object's kind is not known.
    """
    place = next(_places(found.get("spec") or {}, field, old, "/spec"), "")
    change = {"op": "remove", "path": place} if new is None else {"op": "replace", "path": place, "value": new}
    return patch(found, change) if place and "kind" in found else ""


def patch(found: Mapping, *operations: Mapping) -> str:
    """Return the command that changes an object by operations of JSON Patch (RFC 6902)."""
    metadata = found["metadata"]
    return _patch(found["kind"], metadata["name"], metadata["namespace"], "json", operations)


def merge(kind: str, name: str, namespace: str, content: Mapping) -> str:
    """Return the command that merges content into an object (RFC 7386: None removes a field)."""
    return _patch(kind, name, namespace, "merge", content)


def apply(manifest: Mapping) -> str:
    """Return the command that creates or updates an object."""
    return f"echo {shlex.quote(json.dumps(manifest))} | kubectl apply -f -"


def rolled_out(kind: str, name: str, namespace: str) -> str:
    """Return the command that waits until a workload's new pods are ready."""
    return f"kubectl -n {namespace} rollout status {kind.lower()}/{name}"


def scale(kind: str, name: str, namespace: str) -> str:
    """Return the command that starts a workload that has no pods, with one."""
    return f"kubectl -n {namespace} scale {kind.lower()}/{name} --replicas=1 && {rolled_out(kind, name, namespace)}"


def restart(kind: str, name: str, namespace: str) -> str:
    """Return the command that replaces a workload's pods."""
    return f"kubectl -n {namespace} rollout restart {kind.lower()}/{name} && {rolled_out(kind, name, namespace)}"


def _patch(kind: str, name: str, namespace: str, form: str, content: Any) -> str:
    return f"kubectl -n {namespace} patch {kind.lower()} {name} --type={form} -p {shlex.quote(json.dumps(content))}"


def _places(node: Any, field: str, old: Any, at: str) -> Iterator[str]:
    """Yield the JSON Pointers (RFC 6901) of the fields with this name and value."""
    if isinstance(node, Mapping):
        for name, child in node.items():
            place = f"{at}/{name.replace('~', '~0').replace('/', '~1')}"
            if name == field and child == old:
                yield place
            elif name == field and isinstance(child, list) and old in child:
                yield f"{place}/{child.index(old)}"
            yield from _places(child, field, old, place)
    elif isinstance(node, list):
        for number, child in enumerate(node):
            yield from _places(child, field, old, f"{at}/{number}")
