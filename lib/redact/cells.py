"""Secrets in the cells of a notebook."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from typing import Any

from lib.redact import clean, cleaned

SHOWN = {"source", "metadata", "attachments", "text", "data", "ename", "evalue", "traceback"}  # of cells and outputs


def scrub_cell(cell: dict, secrets: AbstractSet[str]) -> None:
    """Redact a cell in place: its source, its metadata, and its outputs with their metadata and errors."""
    for part in (cell, *cell.get("outputs", [])):
        for key in part.keys() & SHOWN:
            if part[key] != (redacted := _redacted(key, part[key], secrets)):
                part[key] = redacted


def _redacted(key: str, value: Any, secrets: AbstractSet[str]) -> Any:
    """Return a value of a cell or output redacted, as it is if nothing is secret; lines of a text are one text."""
    if isinstance(value, dict):
        changed = {name: _redacted(name, one, secrets) for name, one in value.items()}
        new = cleaned(changed, secrets)
        if new == value:
            return value
        value.clear()  # papermill holds on to the dict
        value.update(new)
        return value
    if isinstance(value, list) and value and all(isinstance(line, str) for line in value):
        whole = ("\n" if key == "traceback" else "").join(value)
        redacted = clean(whole, secrets)
        return value if redacted == whole else [redacted] if key == "traceback" else redacted
    return cleaned(value, secrets)
