"""Evaluation of IAM policy documents: actions, resources, variables and some conditions; a deny wins.

Source: "Policy evaluation logic" in the IAM user guide, in one account. What the sandbox does not know (a condition, a
variable, the resource of a call) never allows and always denies, so the sandbox allows nothing that AWS refuses.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any

ALLOWED, DENIED, NOT_ALLOWED = "allowed", "explicitDeny", "implicitDeny"  # API_EvaluationResult of IAM
UNKNOWN = "*"  # the resource of a call whose resource the sandbox cannot tell
VARIABLE = re.compile(r"\$\{([^}]*)\}")  # IAM user guide, "IAM policy elements: Variables and tags"
EVERYTHING = {"Resource": "*", "NotResource": []}  # the resources of a Deny with an unknown variable
Concerns = Callable[[dict], bool]


def decide(documents: Iterable[str], action: str, resource: str, context: Mapping[str, str]) -> str:
    """Return the decision of policies (JSON texts) for `action` on `resource`; `context` has the condition keys."""
    return effect(documents, lambda one: _names_action(one, action) and _names_resource(one, resource), context)


def effect(documents: Iterable[str], concerns: Concerns, context: Mapping[str, str]) -> str:
    """Return the decision of the statements that `concerns` selects; it gets them with their variables replaced."""
    folded = {key.lower(): value for key, value in context.items()}
    found = set()
    for statement in (one for text in documents for one in _statements(text)):
        known = _replaced(statement, folded)
        if known is None:  # a variable that the sandbox does not know
            if statement["Effect"] == "Deny" and concerns({**statement, **EVERYTHING}):
                found.add("Deny")
        elif concerns(known) and _holds(known, folded):
            found.add(known["Effect"])
    return DENIED if "Deny" in found else ALLOWED if "Allow" in found else NOT_ALLOWED


@lru_cache(maxsize=500)
def _statements(text: str) -> tuple[dict, ...]:
    document = json.loads(text)
    found = document.get("Statement", [])
    kept = {"version": document.get("Version", "2008-10-17")}  # the default version, which has no variables
    return tuple({**one, **kept} for one in ([found] if isinstance(found, dict) else found))


def _replaced(statement: dict, context: Mapping[str, str]) -> dict | None:
    """Return the statement with values for its variables, None if one of them is unknown."""
    parts = {key: statement[key] for key in ("Resource", "NotResource", "Condition") if key in statement}
    text = json.dumps(parts)
    if statement["version"] != "2012-10-17" or "${" not in text:
        return statement
    names = [name.lower() for name in VARIABLE.findall(text)]
    if not all(name in context and not set('*?$\\"') & set(context[name]) for name in names):
        return None
    return {**statement, **json.loads(VARIABLE.sub(lambda found: context[found[1].lower()], text))}


def _names_action(statement: dict, action: str) -> bool:
    if "NotAction" in statement:
        return not any(matches(pattern, action, True) for pattern in as_list(statement["NotAction"]))
    return any(matches(pattern, action, True) for pattern in as_list(statement.get("Action", [])))


def _names_resource(statement: dict, resource: str) -> bool:
    named, excepted = as_list(statement.get("Resource", [])), as_list(statement.get("NotResource", []))
    if resource == UNKNOWN:
        everything = any(not pattern.strip("*") and pattern for pattern in (named or excepted))
        if statement["Effect"] == "Deny":
            return bool(named) or not everything
        return bool(named) and everything
    if named:
        return any(matches(pattern, resource) for pattern in named)
    return bool(excepted) and not any(matches(pattern, resource) for pattern in excepted)


def _holds(statement: dict, context: Mapping[str, str]) -> bool:
    """Return whether the conditions hold. An unknown condition fails in an allow and holds in a deny."""
    denies = statement["Effect"] == "Deny"
    for operator, keys in statement.get("Condition", {}).items():
        name, lenient = operator.removesuffix("IfExists"), operator.endswith("IfExists")
        for key, values in keys.items():
            value = context.get(key.lower())
            if name not in OPERATORS or (value is None and not lenient):
                if not denies:
                    return False
            elif value is not None and not any(OPERATORS[name](pattern, value) for pattern in as_list(values)):
                return False
    return True


@lru_cache(maxsize=5000)
def _pattern(text: str, fold: bool) -> re.Pattern:
    parts = (".*" if one == "*" else "." if one == "?" else re.escape(one) for one in text)
    return re.compile("".join(parts), re.DOTALL | (re.IGNORECASE if fold else 0))


def matches(pattern: str, value: str, fold: bool = False) -> bool:
    """Return whether a value has the form of a pattern; * and ? are wildcards."""
    return bool(_pattern(pattern, fold).fullmatch(value))


def as_list(value: Any) -> list[Any]:
    """Return one or several values of a policy as a list."""
    return value if isinstance(value, list) else [value]


OPERATORS = {
    "StringEquals": lambda pattern, value: pattern == value,
    "StringLike": matches,
    "ArnEquals": matches,
    "ArnLike": matches,
}
