"""What the API server accepts of a Gateway and an HTTPRoute: it would refuse one object, and take those beside it.

Source: https://github.com/kubernetes-sigs/gateway-api, config/crd/standard at v1.6.0.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from lib.errors import LegacyError

MOST = {"hostnames": 16, "parentRefs": 32, "rules": 16, "matches": 64, "headers": 16, "queryParams": 16, "set": 16,
        "add": 16, "remove": 16, "backendRefs": 16, "listeners": 64}  # fmt: skip
ALL_MATCHES = 128  # of all rules of an HTTPRoute
LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
NAME = re.compile(rf"{LABEL}(\.{LABEL})*")
PATH = re.compile(r"(?!.*(//|/\.\.?(/|$)|%2[fF]))([-A-Za-z0-9/._~!$&'()*+,;=:@]|%[0-9a-fA-F]{2})+")
DURATION = re.compile(r"([0-9]{1,5}(h|m|s|ms)){1,4}")


def check(made: Mapping) -> None:
    """Raise LegacyError if the API server would refuse a Gateway or an HTTPRoute."""
    if made.get("kind") not in ("Gateway", "HTTPRoute"):
        return
    spec, name = made["spec"], f"{made['kind']} {made['metadata']['namespace']}/{made['metadata']['name']}"
    _lists(spec, name)
    rules = spec.get("rules") or []
    matches = [match for rule in rules for match in rule.get("matches") or []]
    _most(len(matches), ALL_MATCHES, "matches in all", name)
    hosts = [*(spec.get("hostnames") or []), *(one.get("hostname", "a") for one in spec.get("listeners") or [])]
    for pattern, what, values in (
        (NAME, "host", [one.removeprefix("*.") for one in hosts]),
        (NAME, "listener", [one["name"] for one in spec.get("listeners") or []]),
        (PATH, "path", [one["path"]["value"] for one in matches if one["path"]["type"] != "RegularExpression"]),
        (DURATION, "time", [rule["timeouts"]["request"] for rule in rules if "timeouts" in rule]),
    ):
        for value in values:
            if not pattern.fullmatch(value):
                raise LegacyError(f"{name}: the Gateway API does not accept the {what} {value}. Write it otherwise.")


def _lists(node: Any, name: str) -> None:
    """Check the length of each list below a node."""
    if isinstance(node, list):
        for one in node:
            _lists(one, name)
    if isinstance(node, Mapping):
        for key, value in node.items():
            if isinstance(value, list):
                _most(len(value), MOST.get(key, len(value)), key, name)
            _lists(value, name)


def _most(number: int, most: int, what: str, name: str) -> None:
    if number > most:
        raise LegacyError(
            f"{name} needs {number} {what}, and the Gateway API accepts {most}. Make one rule of those with the same "
            "destination, or give some hosts an object of their own."
        )
