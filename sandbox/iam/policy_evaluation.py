"""IAM policy documents, evaluated as far as the sandbox needs: actions, resources, some conditions; a deny counts most.

As "Policy evaluation logic" in the IAM user guide, for identity policies in one account. A condition that is not known
here never allows anything, and always denies: nothing is allowed here that AWS refuses.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache

ALLOWED, DENIED, NOTHING = "allowed", "explicitDeny", "implicitDeny"


def decide(documents: Iterable[str], action: str, resource: str, about: Mapping[str, str]) -> str:
    """Return what policies (JSON texts) say to `action` on `resource`; `about` are values of condition keys."""
    statements = [one for text in documents for one in _statements(text)]
    effects = {one["Effect"] for one in statements if _concerns(one, action, resource, about)}
    return DENIED if "Deny" in effects else ALLOWED if "Allow" in effects else NOTHING


@lru_cache(maxsize=500)
def _statements(text: str) -> tuple[dict, ...]:
    found = json.loads(text).get("Statement", [])
    return tuple([found] if isinstance(found, dict) else found)


def _concerns(statement: dict, action: str, resource: str, about: Mapping[str, str]) -> bool:
    said = lambda key, value, fold=False: any(  # noqa: E731
        _matches(pattern, value, fold) for pattern in _list(statement[key])
    )
    if "Action" in statement and not said("Action", action, True):
        return False
    if "NotAction" in statement and said("NotAction", action, True):
        return False
    if "Resource" in statement and not said("Resource", resource):
        return False
    if "NotResource" in statement and said("NotResource", resource):
        return False
    return _holds(statement, about)


def _holds(statement: dict, about: Mapping[str, str]) -> bool:
    """Whether the conditions hold; of one that is not known here, whatever allows less."""
    less = statement["Effect"] == "Deny"
    for operator, keys in statement.get("Condition", {}).items():
        name, lenient = operator.removesuffix("IfExists"), operator.endswith("IfExists")
        for key, values in keys.items():
            value = about.get(key)
            if name not in OPERATORS or (value is None and not lenient):
                if not less:
                    return False
            elif value is not None and not any(OPERATORS[name](pattern, value) for pattern in _list(values)):
                return False
    return True


@lru_cache(maxsize=5000)
def _pattern(text: str, fold: bool) -> re.Pattern:
    parts = (".*" if one == "*" else "." if one == "?" else re.escape(one) for one in text)
    return re.compile("".join(parts), re.DOTALL | (re.IGNORECASE if fold else 0))


def _matches(pattern: str, value: str, fold: bool = False) -> bool:
    return bool(_pattern(pattern, fold).fullmatch(value))


def _list(value) -> list:
    return value if isinstance(value, list) else [value]


OPERATORS = {
    "StringEquals": lambda pattern, value: pattern == value,
    "StringLike": _matches,
    "ArnEquals": _matches,
    "ArnLike": _matches,
}
