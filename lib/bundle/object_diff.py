"""Compares the Kubernetes objects that two bundles keep, field by field."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import yaml

from lib import strict

VOLATILE = (
    "resourceVersion",
    "uid",
    "generation",
    "creationTimestamp",
    "managedFields",
)  # fields of metadata that differ in every run
MOST = 100_000  # values of one object
DEEP = 100  # levels of one object; libyaml builds values by recursion, and 50,000 levels end the process
LONG = 120  # characters; a longer value is cut and gets its SHA-256
Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def differences(one: Path, other: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Return the fields whose values differ, for either bundle, as value by "object: field".

    An object that exists in only one bundle is reported as "there". Both are empty if a bundle keeps no objects.
    """
    old, new = objects(one), objects(other)
    if not old or not new:
        return {}, {}
    left: dict[str, str] = {}
    right: dict[str, str] = {}
    for name in dict.fromkeys([*old, *new]):
        left |= _differing(name, old.get(name), new.get(name))
        right |= _differing(name, new.get(name), old.get(name))
    return left, right


def objects(folder: Path) -> dict[str, dict[str, str]]:
    """Return the fields of the objects in a bundle's objects/, by "kind namespace name"; the last copy counts."""
    fields: dict[str, dict[str, str]] = {}
    for path in sorted(folder.glob("objects/*.yaml")):
        text = strict.text(path)
        _refuse_depth(text)
        for body in filter(None, yaml.load_all(text, Loader)):
            leaves = list(islice(_leaves(_lasting(body)), MOST + 1))
            if len(leaves) > MOST:  # aliases can make a small file into any number of values
                raise ValueError(f"{_name(body)} has more than {MOST} values")
            fields[_name(body)] = dict(leaves)
    return fields


def _refuse_depth(text: str) -> None:
    depth = 0
    for event in yaml.parse(text, Loader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEP:
            raise ValueError(f"an object is nested deeper than {DEEP} levels")


def _differing(name: str, fields: dict[str, str] | None, others: dict[str, str] | None) -> dict[str, str]:
    if fields is None or others is None:
        return {} if fields is None else {name: "there"}
    return {f"{name}: {field}": value for field, value in fields.items() if others.get(field) != value}


def _name(body: dict) -> str:
    metadata = body["metadata"]
    return " ".join(filter(None, (body["kind"], metadata.get("namespace"), metadata["name"])))


def _lasting(body: dict) -> dict:
    """Return an object without its status and the metadata that the API server counts."""
    metadata = {key: value for key, value in body["metadata"].items() if key not in VOLATILE}
    return {**{key: value for key, value in body.items() if key != "status"}, "metadata": metadata}


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield each leaf with its path.

    If all items of a list have a name, the path has the name instead of the number: a new item then moves no other.
    """
    if isinstance(value, dict) and value:
        for key, member in value.items():
            yield from _leaves(member, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list) and value:
        for key, item in zip(_keys(value), value, strict=True):
            yield from _leaves(item, f"{path}[{key}]")
    else:
        yield path, _text(value)


def _keys(items: list) -> list:
    names = [item.get("name") if isinstance(item, dict) else None for item in items]
    return names if all(names) and len(set(names)) == len(names) else list(range(len(items)))


def _text(value: object) -> str:
    text = str(value)
    if len(text) <= LONG:
        return text
    return f"{text[: LONG // 2]}… ({len(text)} characters, SHA-256 {hashlib.sha256(text.encode()).hexdigest()[:16]})"
