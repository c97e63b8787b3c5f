"""The matches of a VirtualService as those of an HTTPRoute, only if every request keeps its route.

Two things differ. Istio's prefix /api fits /apis too, and a PathPrefix ends where a segment ends. A VirtualService
takes its first rule that fits, and an HTTPRoute the most exact one (lib.istio.gateway_api.precedence).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from lib.errors import LegacyError
from lib.gateway_api.read import Match, Rule, Text
from lib.istio.gateway_api import precedence

SEGMENT = "The prefix {0} fitted {0}x too; it now ends at a segment, so such a path gets 404."
REGEX = (
    "Prefixes are regular expressions here: Istio's prefix {0} also fits {0}x, or does not fit the path without its "
    "last slash, and another rule would otherwise take that request."
)


@dataclass(frozen=True)
class Piece:
    """One match of a rule in both forms, with the filter that rewrites its path."""

    rule: int
    old: Match
    new: dict
    rewrite: dict = field(default_factory=dict)
    notes: Sequence[str] = ()
    warnings: Sequence[str] = ()


def pieces(rules: Sequence[Rule]) -> list[Piece]:
    """Return the matches of all rules; LegacyError if the Gateway API cannot keep a request's route."""
    natural = _all(rules, False)
    clash = _clash(natural)
    if clash is None:
        return natural
    exact = _all(rules, True)
    if _clash(exact) is not None or any(one.rewrite.get("type") == "ReplacePrefixMatch" for one in natural):
        one, other = (f"rule {place + 1}" for place in clash)
        raise LegacyError(
            f"{f'two matches of {one}' if one == other else f'{one} and {other}'} may both fit a request, and an "
            "HTTPRoute would take the more exact one instead of the first one. Write the paths of one so that they "
            "exclude those of the other."
        )
    return exact


def _all(rules: Sequence[Rule], exact: bool) -> list[Piece]:
    made = []
    for number, rule in enumerate(rules):
        found = rule.match or [Match()]
        prefixes = {one.uri.prefix for one in found if one.uri}
        for one in found:
            other = [each for each in found if _conditions(each) == _conditions(one)]
            paths = {each.uri.exact for each in other if each.uri}
            text = one.uri if one.uri and one.uri != Text() else Text(prefix="/")
            if text.exact is not None and f"{text.exact}/" in prefixes and not exact and not rule.rewrite:
                continue  # with its prefix: the path and all below it
            whole = text.prefix is not None and text.prefix[:-1] in paths and len(text.prefix) > 1
            piece = _piece(number, rule, one, text, whole, exact)
            target = piece.rewrite.get("replacePrefixMatch", "/")
            if target != "/" and target.endswith("/") and not whole:  # istiod drops the last slash of the path itself
                itself = one.model_copy(update={"uri": Text(exact=text.prefix)})
                made.append(_piece(number, rule, itself, itself.uri or text, False, exact))
            made.append(piece)
    return made


def _piece(number: int, rule: Rule, old: Match, text: Text, whole: bool, exact: bool) -> Piece:
    if any(name.startswith("@") for name in old.headers):
        raise LegacyError("a match on claims has no equal. Write an AuthorizationPolicy for them.")
    path, notes, warnings = _path(text, whole, exact)
    new: dict = {"path": path}
    if old.headers:
        new["headers"] = [_value(name, one) for name, one in old.headers.items()]
    if old.query_params:
        new["queryParams"] = [_value(name, one) for name, one in old.query_params.items()]
    if old.method:
        if old.method.exact is None:
            raise LegacyError("a method that is no exact name has no equal. Write a match for each method.")
        new["method"] = old.method.exact
    rewrite = _rewrite(rule.rewrite.uri, path, text, whole) if rule.rewrite and rule.rewrite.uri else {}
    return Piece(number, old, new, rewrite, notes, warnings)


def _path(text: Text, whole: bool, exact: bool) -> tuple[dict, list[str], list[str]]:
    """Return the path, with notes and warnings. `whole`: the rule has the path without its last slash too."""
    if text.regex is not None:
        return {"type": "RegularExpression", "value": text.regex}, [], []
    value = text.exact if text.exact is not None else text.prefix or "/"
    if not value.startswith("/"):
        raise LegacyError(f"the path {value} does not start with a slash. Write whole paths.")
    if text.exact is not None:
        return {"type": "Exact", "value": value}, [], []
    if exact or (value.endswith("/") and value != "/" and not whole):
        return {"type": "RegularExpression", "value": f"{re.escape(value)}.*"}, [REGEX.format(value)], []
    if value == "/" or whole:
        return {"type": "PathPrefix", "value": value[:-1] or "/"}, [], []
    return {"type": "PathPrefix", "value": value}, [], [SEGMENT.format(value)]


def _rewrite(uri: str, path: dict, text: Text, whole: bool) -> dict:
    if text.prefix is None:
        return {"type": "ReplaceFullPath", "replaceFullPath": uri}
    if path["value"] == "/" and uri == "/":
        return {}
    if path["type"] != "PathPrefix" or path["value"] == "/" or (whole and not uri.endswith("/")):
        raise LegacyError(
            f"a rewrite of the prefix {text.prefix} to {uri} has no equal: the Gateway API replaces whole segments. "
            "Match the path without its last slash too, and end the rewrite with a slash."
        )
    return {"type": "ReplacePrefixMatch", "replacePrefixMatch": uri}


def _value(name: str, text: Text) -> dict:
    if text.exact is not None:
        return {"name": name, "value": text.exact}
    value = text.regex if text.regex is not None else f"{re.escape(text.prefix or '')}.*"
    return {"type": "RegularExpression", "name": name, "value": value}


def _conditions(match: Match) -> str:
    return str([match.method, match.headers, match.query_params])


def _clash(found: Sequence[Piece]) -> tuple[int, int] | None:
    """Return two rules between which a request may change, or one whose rewrite may; None if all stays."""
    for place, one in enumerate(found):
        for later in found[place + 1 :]:
            same = (one.rule, one.rewrite) == (later.rule, later.rewrite)
            if not same and overlap(one.old, later.old) and precedence(later.new) < precedence(one.new):
                return one.rule, later.rule
        for other in found if one.warnings else []:
            if one.rule != other.rule and overlap(one.old, other.old) and not _below(one.old, other.old):
                return min(one.rule, other.rule), max(one.rule, other.rule)
    return None


def _below(prefix: Match, other: Match) -> bool:
    """Return whether another match fits only the prefix itself and paths in segments below it."""
    bare = prefix.uri.prefix if prefix.uri else ""
    path = (other.uri.exact or other.uri.prefix or "") if other.uri else ""
    return path.startswith(f"{bare}/") or (bool(other.uri and other.uri.exact) and path == bare)


def overlap(one: Match, other: Match) -> bool:
    """Return whether a request may fit both matches; True if this is not known.

    Envoy reads a regular expression as RE2, which Python's re does not read: only its fixed beginning counts.
    """
    if one.method and other.method and one.method.exact != other.method.exact:
        return False
    for mine, theirs in ((one.headers, other.headers), (one.query_params, other.query_params)):
        for name in mine.keys() & theirs.keys():
            values = mine[name].exact, theirs[name].exact
            if None not in values and values[0] != values[1]:
                return False
    (fixed, open_), (others, also_open) = _start(one.uri), _start(other.uri)
    if open_ and also_open:
        return fixed.startswith(others) or others.startswith(fixed)
    if not open_ and not also_open:
        return fixed == others
    exact, start = (fixed, others) if not open_ else (others, fixed)
    return exact.startswith(start)


def _start(text: Text | None) -> tuple[str, bool]:
    """Return how the paths that fit begin, and whether anything may follow."""
    if text is None:
        return "/", True
    if text.exact is not None:
        return text.exact, False
    if text.regex is None:
        return text.prefix or "/", True
    literal = "" if "|" in text.regex else re.split(r"[\\.\[\](){}*+?|^$]", text.regex)[0]
    rest = text.regex[len(literal) :]
    return (literal[:-1] if rest.startswith(("*", "?", "{")) else literal), True
