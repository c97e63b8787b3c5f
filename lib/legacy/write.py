"""Today's objects as YAML, each under the comments that say what was decided."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import yaml

API = "security.istio.io/v1"
WIDTH = 100


@dataclass(frozen=True)
class Translated:
    """An object of today's API, or none where none is needed, and what was decided on the way to it."""

    thing: dict
    notes: Sequence[str] = field(default_factory=list)


def thing(kind: str, name: str, namespace: str, spec: dict) -> dict:
    """Return an object of security.istio.io/v1."""
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": API, "kind": kind, "metadata": metadata, "spec": spec}


def document(made: Iterable[Translated]) -> str:
    """Return the objects as a stream of YAML documents; a document without an object is comments alone."""
    parts = []
    for one in made:
        notes = "".join(textwrap.indent(textwrap.fill(note, WIDTH), "# ") + "\n" for note in one.notes)
        body = yaml.safe_dump(one.thing, sort_keys=False, width=WIDTH, allow_unicode=True) if one.thing else ""
        parts.append(f"---\n{notes}{body}")
    return "".join(parts)
