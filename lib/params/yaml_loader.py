"""A YAML loader that refuses a repeated key; plain YAML would silently use the last value."""

from __future__ import annotations

from pathlib import Path

import yaml

from lib.errors import ParamsError


class UniqueKeys(yaml.SafeLoader):
    """A safe loader that raises YAMLError where a key is given twice."""


def read(path: Path, name: str) -> dict:
    """Return the keys and values of a params file; ParamsError, which calls the file `name`, if it has none."""
    try:
        values = yaml.load(path.read_text(), Loader=UniqueKeys)
    except yaml.YAMLError as error:
        raise ParamsError(f"{name}: expected YAML, got: {' '.join(str(error).split())}; correct that line.") from None
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:  # a date 2026-13-45, say
        raise ParamsError(
            f"{name}: expected plain keys, plain values and a few levels, got: {str(error)[:200]}; "
            "quote the value, or simplify it."
        ) from None
    if not isinstance(values, dict):
        raise ParamsError(f"{name}: expected keys and values, got {type(values).__name__}; see params/dev.yml.")
    return values


def _mapping(loader: UniqueKeys, node: yaml.MappingNode) -> dict:
    lines: dict[str, int] = {}
    repeated = []
    for key, _ in node.value:
        if lines.setdefault(str(key.value), key.start_mark.line) != key.start_mark.line:
            repeated.append(f"the key {key.value} stands twice (line {key.start_mark.line + 1})")
    if repeated:
        raise yaml.YAMLError(", ".join(repeated))
    return yaml.SafeLoader.construct_mapping(loader, node, deep=True)


UniqueKeys.add_constructor("tag:yaml.org,2002:map", _mapping)
