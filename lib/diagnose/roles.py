"""Why a claim of a valid token does not satisfy a rule: another place, another spelling, or `notValues`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from lib.istio.evaluator import Miss

CLAIM = re.compile(r"^request\.auth\.claims((?:\[[^\]]+\])+)$")
NEGATED = "not "  # what lib.istio.evaluator writes before the values of notValues


class Slip(NamedTuple):
    """A likely mistake: its cause in short, why the claim does not match, and what to change.

    `edit` is what to change in the policy: a field, its value, and the right value; () if that is not the policy's.
    """

    cause: str
    why: str
    change: str
    edit: tuple[str, ...] = ()


def find_slip(missed: Miss, claims: Mapping, policy: str) -> Slip | None:
    """Return the mistake that explains why a claim does not match; None if the token simply lacks the value.

    Args:
        missed: The condition on `request.auth.claims` that the token does not satisfy.
        claims: The token's claims.
        policy: The policy's namespace/name.
    """
    key = CLAIM.match(missed.field)
    if not key:
        return None
    path = tuple(re.findall(r"\[([^\]]+)\]", key[1]))
    place = ".".join(path)
    if missed.wanted.startswith(NEGATED):
        named = missed.wanted.removeprefix(NEGATED)
        why = f"the rule's notValues lists {named}, and the token has {missed.got} in {place}"
        return Slip("role-excluded", why, f"to require {named}, write values instead of notValues in {policy}")
    wanted, got = missed.wanted.split(", "), _values(_at(claims, path))
    return _spelling(wanted, got, place, policy) or _elsewhere(wanted, claims, path, policy)


def value_at(claims: Mapping, key: str) -> str:
    """Return the values that the token has at a condition's key, as text."""
    found = CLAIM.match(key)
    held = _values(_at(claims, tuple(re.findall(r"\[([^\]]+)\]", found[1])))) if found else []
    return ", ".join(held) or "nothing"


def _spelling(wanted: list[str], got: list[str], place: str, policy: str) -> Slip | None:
    for value in got:
        for want in wanted:
            if value.strip("/") == want.strip("/"):
                why = f"the token's {place} has {value}, and the rule requires {want}: they differ in a slash"
                change = f"write {value} into {policy}; Keycloak's mapper writes the slash unless its full.path is off"
                return Slip("group-slash", why, change, ("values", want, value))
            if value.lower() == want.lower():
                why = f"the token's {place} has {value}, and the rule requires {want}: upper and lower case count"
                return Slip(
                    "role-case", why, f"write {value} into {policy}, or rename the role", ("values", want, value)
                )
            if want in re.split(r"[\s,]+", value):
                why = f"the token's {place} is one string, {value!r}, and the rule requires the value {want} alone"
                return Slip("roles-in-one-string", why, "make the mapper multivalued: the claim is then a list")
    return None


def _elsewhere(wanted: list[str], claims: Mapping, path: tuple[str, ...], policy: str) -> Slip | None:
    for there, value in _walk(claims, ()):
        if there != path and value in wanted:
            why = f"the token has {value} at {_brackets(there)}, and the rule reads {_brackets(path)}"
            keys = [f"request.auth.claims{_brackets(one)}" for one in (path, there)]
            change = f"write the key {keys[1]} into {policy}, or add a mapper"
            # A value at another place may be a user's own choice, such as a nickname: no command makes it count
            return Slip("claim-path", why, change, ("key", *keys) if ".".join(there) == ".".join(path) else ())
    return None


def _brackets(path: tuple[str, ...]) -> str:
    """Return a claim's path as a policy writes it; a dot inside brackets belongs to a name."""
    return "".join(f"[{part}]" for part in path)


def _walk(node: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    if isinstance(node, Mapping):
        for name, child in node.items():
            yield from _walk(child, (*path, str(name)))
    else:
        yield from ((path, value) for value in _values(node))


def _at(claims: Any, path: tuple[str, ...]) -> Any:
    node = claims
    for part in path:
        node = node.get(part) if isinstance(node, Mapping) else None
    return node


def _values(node: Any) -> list[str]:
    return [value for value in (node if isinstance(node, list) else [node]) if isinstance(value, str)]
