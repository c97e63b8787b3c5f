"""The objects that a bundle keeps as the API had them, field by field, so that two runs' can be compared."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import yaml

NEVER_THE_SAME = ("resourceVersion", "uid", "generation", "creationTimestamp", "managedFields")  # of metadata
LONG = 120  # characters of a value that are told as they are
Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def differing(one: Path, other: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Return the fields of either bundle's objects that the other has not, or otherwise, by object and field.

    Of an object that only one of them has it is told that it is there. Both are empty where a bundle keeps no objects.
    """
    old, new = objects(one), objects(other)
    if not old or not new:
        return {}, {}
    here: tuple[dict[str, str], dict[str, str]] = ({}, {})
    for name in dict.fromkeys([*old, *new]):
        for told, mine, its in zip(here, (old, new), (new, old), strict=True):
            told.update(_unlike(name, mine.get(name), its.get(name)))
    return here


def objects(folder: Path) -> dict[str, dict[str, str]]:
    """Return the fields of the objects in a bundle's objects/, by kind, namespace and name; the last step's count."""
    found: dict[str, dict[str, str]] = {}
    for path in sorted(folder.glob("objects/*.yaml")):
        for thing in filter(None, yaml.load_all(path.read_text(encoding="utf-8"), Loader)):
            found[_name(thing)] = dict(_fields(_lasting(thing)))
    return found


def _unlike(name: str, mine: dict[str, str] | None, its: dict[str, str] | None) -> dict[str, str]:
    if mine is None or its is None:
        return {} if mine is None else {name: "there"}
    return {f"{name}: {field}": value for field, value in mine.items() if its.get(field) != value}


def _name(thing: dict) -> str:
    about = thing["metadata"]
    return " ".join(filter(None, (thing["kind"], about.get("namespace"), about["name"])))


def _lasting(thing: dict) -> dict:
    metadata = {key: value for key, value in thing["metadata"].items() if key not in NEVER_THE_SAME}
    return {**{key: value for key, value in thing.items() if key != "status"}, "metadata": metadata}


def _fields(value, path: str = "") -> Iterator[tuple[str, str]]:
    """Give each leaf by its path; an item of a list by its name, where all have one, so that a new one moves none."""
    if isinstance(value, dict) and value:
        for key, one in value.items():
            yield from _fields(one, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list) and value:
        for key, one in zip(_keys(value), value, strict=True):
            yield from _fields(one, f"{path}[{key}]")
    else:
        yield path, _text(value)


def _keys(items: list) -> list:
    names = [item.get("name") if isinstance(item, dict) else None for item in items]
    return names if all(names) and len(set(names)) == len(names) else list(range(len(items)))


def _text(value) -> str:
    text = str(value)
    if len(text) <= LONG:
        return text
    return f"{text[: LONG // 2]}… ({len(text)} characters, SHA-256 {hashlib.sha256(text.encode()).hexdigest()[:16]})"
