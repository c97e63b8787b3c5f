"""Evaluation of IAM policy documents: actions, resources and some conditions; a deny wins.

Source: "Policy evaluation logic" in the IAM user guide, for identity policies in one account. A statement with an
unknown condition never allows and always denies, so the sandbox allows nothing that AWS refuses.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache

ALLOWED, DENIED, NOT_ALLOWED = "allowed", "explicitDeny", "implicitDeny"  # API_EvaluationResult of IAM


def decide(documents: Iterable[str], action: str, resource: str, context: Mapping[str, str]) -> str:
    """Return the decision of policies (JSON texts) for `action` on `resource`; `context` has the condition keys."""
    statements = [one for text in documents for one in _statements(text)]
    effects = {one["Effect"] for one in statements if _concerns(one, action, resource, context)}
    return DENIED if "Deny" in effects else ALLOWED if "Allow" in effects else NOT_ALLOWED


@lru_cache(maxsize=500)
def _statements(text: str) -> tuple[dict, ...]:
    found = json.loads(text).get("Statement", [])
    return tuple([found] if isinstance(found, dict) else found)


def _concerns(statement: dict, action: str, resource: str, context: Mapping[str, str]) -> bool:
    def names(key: str, value: str, fold: bool = False) -> bool:
        return any(_matches(pattern, value, fold) for pattern in _list(statement[key]))

    if "Action" in statement and not names("Action", action, True):
        return False
    if "NotAction" in statement and names("NotAction", action, True):
        return False
    if "Resource" in statement and not names("Resource", resource):
        return False
    if "NotResource" in statement and names("NotResource", resource):
        return False
    return _holds(statement, context)


def _holds(statement: dict, context: Mapping[str, str]) -> bool:
    """Return whether the conditions hold. An unknown condition fails in an allow and holds in a deny."""
    denies = statement["Effect"] == "Deny"
    for operator, keys in statement.get("Condition", {}).items():
        name, lenient = operator.removesuffix("IfExists"), operator.endswith("IfExists")
        for key, values in keys.items():
            value = context.get(key)
            if name not in OPERATORS or (value is None and not lenient):
                if not denies:
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


def _list(value: str | list[str]) -> list[str]:
    return value if isinstance(value, list) else [value]


OPERATORS = {
    "StringEquals": lambda pattern, value: pattern == value,
    "StringLike": _matches,
    "ArnEquals": _matches,
    "ArnLike": _matches,
}
