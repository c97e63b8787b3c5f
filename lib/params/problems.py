"""The problems of a params file, each as one instruction."""

from __future__ import annotations

import datetime
import difflib
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

STAND_IN = "x"  # for a value that is missing or wrong, while the values that depend on each other are checked
MISREAD = (bool, int, float, datetime.date)  # what YAML makes of `on`, `1.36`, `2026-01-31`


def of_values(model: type[BaseModel], values: Mapping[Any, Any]) -> list[str]:
    """Return every problem of the values: unknown keys, missing and wrong values, values that do not fit each other."""
    strange = [f"the key {key!r} is not a text; quote it, or remove it" for key in values if not isinstance(key, str)]
    given = {key: value for key, value in values.items() if isinstance(key, str)}
    errors = _errors(model, given)
    wrong = {str(error["loc"][0]) for error in errors if error["loc"]}
    found = [*strange, *(line for error in errors for line in _lines(model, error))]
    if wrong:  # pydantic does not compare values while one of them is wrong
        rest = {key: value for key, value in given.items() if key not in wrong}
        required = {key: STAND_IN for key, field in model.model_fields.items() if field.is_required()}
        again = _errors(model, {**required, "cluster_source": "eks", **rest})
        lines = [line for error in again if not error["loc"] for line in _lines(model, error)]
        found += [line for line in lines if not _names(line, wrong)]
    return found


def _errors(model: type[BaseModel], values: dict[str, Any]) -> list[Any]:
    try:
        model(**values)
    except ValidationError as error:
        return list(error.errors())
    except (TypeError, RecursionError) as error:
        return [{"loc": (), "type": "", "msg": f"the values cannot be read ({type(error).__name__}); simplify them"}]
    return []


def _lines(model: type[BaseModel], error: Any) -> Iterator[str]:
    key, message = ".".join(str(part) for part in error["loc"]), error["msg"].removeprefix("Value error, ")
    if not key:
        yield from message.splitlines()
    elif error["type"] == "extra_forbidden" and len(error["loc"]) == 1:
        near = difflib.get_close_matches(key, model.model_fields, n=1)
        hint = f"did you mean {near[0]}?" if near else f"the keys are: {', '.join(model.model_fields)}"
        yield f"expected only known keys, got {key}; {hint}"
    elif error["type"] == "missing" and len(error["loc"]) == 1:
        yield f"expected a value for {key} ({model.model_fields[key].description or 'a value'}), got none; add it"
    else:
        misread = error["type"] in ("string_type", "literal_error") and isinstance(error["input"], MISREAD)
        remedy = f"YAML reads it as {type(error['input']).__name__}: quote it" if misread else "change it"
        if misread and isinstance(error["input"], (int, float)) and not isinstance(error["input"], bool):
            remedy = f"with papermill take -r {key}, not -p; {remedy}"  # -p makes a number of it too
        yield f"expected for {key}: {message}; got {error['input']!r:.200}; {remedy}"


def _names(line: str, keys: Collection[str]) -> bool:
    return any(re.search(rf"\b{re.escape(key)}\b", line) for key in keys)
