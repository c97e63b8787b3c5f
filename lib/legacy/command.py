"""What the translators' commands share: they read YAML of Kubernetes objects, and print today's with each decision."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import yaml

from lib.errors import LegacyError, ParamsError
from lib.legacy.write import Translated, document
from lib.params.yaml_loader import UniqueKeys

UNREADABLE = (OSError, ValueError, yaml.YAMLError, LegacyError, ParamsError)


def read(paths: Iterable[str]) -> list[dict]:
    """Return the objects in files; - is standard input. A List (kubectl get -o yaml) counts as its items.

    Raises:
        ValueError: A document is no object with metadata; OSError and yaml.YAMLError as their libraries raise them.
    """
    return [one for path in paths for one in _read(path)]


def unreadable(error: Exception) -> int:
    """Report that the input cannot be read; return the exit code 2."""
    reason = " ".join(str(error).split())
    print(f"cannot read the input: {reason}. Give YAML of Kubernetes objects.", file=sys.stderr)
    return 2


def report(translate: Callable[[], Sequence[Translated]], unseen: str) -> int:
    """Print what a translator makes, and its warnings to stderr. Return 0; 1 (and print nothing) if it refuses."""
    try:
        made = translate()
    except LegacyError as error:
        print(f"refused: {error}", file=sys.stderr)
        return 1
    print(document(made), end="")
    for one in made:
        for warning in one.warnings:
            print(f"careful: {_named(one.manifest)}{warning}", file=sys.stderr)
    print(unseen, file=sys.stderr)
    return 0


def check_strict(made: Iterable[Translated]) -> None:
    """Raise LegacyError if a translation has a warning (--strict)."""
    if careful := [warning for one in made for warning in one.warnings]:
        raise LegacyError(
            f"--strict refuses a translation with a warning: {careful[0]} Change the old object, or leave out --strict."
        )


def flat(manifests: Sequence[Mapping]) -> list[Mapping]:
    """Return the objects, with the items of a List (kubectl get -o yaml) in its place."""
    made: list[Mapping] = []
    for one in manifests:
        kind = str(one.get("kind", ""))
        if not kind.endswith("List") or "items" not in one:
            made.append(one)
            continue
        about = {"apiVersion": one.get("apiVersion"), "kind": kind.removesuffix("List")} if kind != "List" else {}
        made += flat([{**about, **item} for item in one["items"] or []])
    return made


def placed(manifests: Sequence[Mapping]) -> list[dict]:
    """Return the objects as `flat` does, each with its kind, its namespace (default if it names none) and a spec."""
    return [
        {
            **one,
            "kind": str(one.get("kind", "")),
            "metadata": {"namespace": "default", **one["metadata"]},
            "spec": one.get("spec") or {},
        }
        for one in flat(manifests)
    ]


def _read(path: str) -> list[dict]:
    text = sys.stdin.read() if path == "-" else Path(path).read_text(encoding="utf-8")
    found = [manifest for manifest in yaml.load_all(text, UniqueKeys) if manifest is not None]
    if not all(isinstance(manifest, dict) for manifest in found):
        raise ValueError(f"a document in {path} is no object")
    objects = flat(found)
    if not all(isinstance(manifest, dict) and isinstance(manifest.get("metadata"), dict) for manifest in objects):
        raise ValueError(f"a document in {path} has no metadata")
    return [dict(one) for one in objects]


def _named(manifest: Mapping) -> str:
    return (
        f"{manifest['kind']} {manifest['metadata']['namespace']}/{manifest['metadata']['name']}: " if manifest else ""
    )
