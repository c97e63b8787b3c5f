"""Today's objects as YAML, each after the comments with its decisions."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from lib.istio.policies import API

WIDTH = 100


@dataclass(frozen=True)
class Translated:
    """An object of today's API ({} if none is needed), with the decisions behind it.

    `notes` name what today's API expresses differently; `warnings` name requests that Istio now refuses.
    """

    manifest: dict
    notes: Sequence[str] = field(default_factory=list)
    warnings: Sequence[str] = field(default_factory=list)


class Plain(yaml.SafeDumper):
    """Writes an object that occurs twice in full, without YAML's anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        """Use no anchors."""
        return True


def manifest(kind: str, name: str, namespace: str, spec: dict, metadata: Mapping | None = None) -> dict:
    """Return an object of security.istio.io/v1; `metadata` has its labels and annotations."""
    named = {"name": name, "namespace": namespace, **(metadata or {})}
    return {"apiVersion": API, "kind": kind, "metadata": named, "spec": spec}


def document(made: Iterable[Translated]) -> str:
    """Return the objects as a stream of YAML documents; a document without an object has only comments."""
    parts = []
    for one in made:
        comments = [*one.notes, *(f"Careful: {warning}" for warning in one.warnings)]
        notes = "".join(textwrap.indent(textwrap.fill(note, WIDTH), "# ") + "\n" for note in comments)
        body = (
            yaml.dump(one.manifest, Dumper=Plain, sort_keys=False, width=WIDTH, allow_unicode=True)
            if one.manifest
            else ""
        )
        parts.append(f"---\n{notes}{body}")
    return "".join(parts)
