"""A YAML loader that refuses a repeated key; plain YAML would silently use the last value."""

from __future__ import annotations

import yaml


class UniqueKeys(yaml.SafeLoader):
    """A safe loader that raises YAMLError where a key is given twice."""


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
