"""Tells from a live object alone that applying it again would change nothing, so that the request can be left out.

Server-side apply records in `metadata.managedFields` which fields a manager owns
(https://kubernetes.io/docs/reference/using-api/server-side-apply/#field-management). An apply changes nothing if the
manager owns exactly the fields of the object, and each of them has its value. In doubt the answer is False.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

BOOKKEEPING = ("apiVersion", "kind")  # never owned
NAMED = ("name", "namespace")  # of metadata; never owned either


def in_force(live: Mapping, stated: Mapping, manager: str) -> bool:
    """Return whether `manager` applied exactly the fields of `stated` before, and `live` has their values.

    Args:
        live: the object as the API server returns it, with its managedFields.
        stated: the object that would be applied.
        manager: the field manager of the apply.
    """
    stated = json.loads(json.dumps(stated))  # as the API has it: a map's keys are texts
    wanted = {key: value for key, value in stated.items() if key not in BOOKKEEPING}
    wanted["metadata"] = {key: value for key, value in stated["metadata"].items() if key not in NAMED}
    entries = live["metadata"].get("managedFields", [])
    owned = [entry for entry in entries if (entry["manager"], entry["operation"]) == (manager, "Apply")]
    if not owned:  # the API server keeps no entry of a manager that owns nothing
        return wanted == {"metadata": {}}
    if len(owned) != 1 or owned[0]["apiVersion"] != stated["apiVersion"] or owned[0].get("subresource"):
        return False
    if not wanted["metadata"]:
        del wanted["metadata"]
    return _fits(live, wanted, owned[0]["fieldsV1"])


def _fits(live: Any, stated: Any, owned: Mapping) -> bool:
    """Return whether `owned`, a level of fieldsV1, names exactly what `stated` has, with the values of `live`."""
    keys = [key for key in owned if key != "."]
    if not keys:  # owned as a whole: a plain value, or a list or map that is one value to the API
        return live == stated
    if isinstance(stated, Mapping) and isinstance(live, Mapping):
        return {f"f:{name}" for name in stated} == set(keys) and all(
            _fits(live.get(name, {} if value == {} else None), value, owned[f"f:{name}"])
            for name, value in stated.items()
        )
    if isinstance(stated, list) and isinstance(live, list):
        return len(stated) == len(keys) and all(_item_fits(live, stated, key, owned[key]) for key in keys)
    return False


def _item_fits(live: list, stated: list, key: str, owned: Mapping) -> bool:
    """Return whether the one item of a list that `key` names (`k:` and its key fields, or `v:` and the value) fits."""
    kind, _, text = key.partition(":")
    name = json.loads(text)
    if kind == "v":
        return name in stated and name in live
    if kind != "k":
        return False
    matches = [[item for item in items if _has(item, name)] for items in (live, stated)]
    if [len(found) for found in matches] != [1, 1]:
        return False
    (now,), (then,) = matches
    return _fits(now, {**{field: now[field] for field in name if f"f:{field}" in owned}, **then}, owned)


def _has(item: Mapping, name: Mapping) -> bool:
    """Return whether a list's item has these key fields; one that it leaves out has the API's default."""
    return all(item.get(field, value) == value for field, value in name.items())
