"""A YAML loader that refuses a repeated key; plain YAML would silently use the last value."""

from __future__ import annotations

import yaml


class UniqueKeys(yaml.SafeLoader):
    """A safe loader that raises YAMLError where a key is given twice."""


def _mapping(loader: UniqueKeys, node: yaml.MappingNode) -> dict:
    seen = set()
    for key, _ in node.value:
        if key.value in seen:
            raise yaml.YAMLError(f"the key {key.value} stands twice (line {key.start_mark.line + 1})")
        seen.add(key.value)
    return yaml.SafeLoader.construct_mapping(loader, node, deep=True)


UniqueKeys.add_constructor("tag:yaml.org,2002:map", _mapping)
