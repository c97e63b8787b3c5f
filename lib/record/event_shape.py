"""What an event must look like, so that tables and counts can follow from it."""

from __future__ import annotations

import math
import re
from datetime import datetime
from typing import Any

from lib.record import verdicts

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
ACTIONS = ("created", "changed", "unchanged", "deleted")
ABSENT = "absent"  # an action too, which is not counted: the object was to be deleted, and did not exist
LONGEST = 1e8  # seconds, about three years; and milliseconds
FILE = re.compile(r"[a-z]+(/(?!\.\.?/)[^/\\]+)+")  # in a folder of its own
SHA256 = re.compile(r"[0-9a-f]{64}")
REQUIRED = {
    "step_started": "step",
    "change": "kind namespace name action",
    "check": "name expected actual verdict passed seconds tries reason",
    "response": "figure request caller token expected got reason latency_ms seconds tries passed verdict",
    "token": "name fingerprint",
    "fact": "key value",
    "evidence": "file sha256",
    "waiting": "what deadline",
    "waited": "what seconds held",
    "step_finished": "verdict seconds",
    "unreadable": "text",
}
OPTIONAL = (
    "probe title status_line details flags hop note finding closed_by source alg kid typ iss aud azp sub scope iat exp "
    "lifetime"
)
FIELDS = frozenset(" ".join([*REQUIRED.values(), OPTIONAL]).split())  # their names are the code's words
NUMBERS = ("seconds", "latency_ms", "tries", "deadline")
# Facts. Of most, the last value counts.
IDENTITY = ("cluster_arn", "endpoint", "kube_system_uid")  # identify the cluster
LISTS = ("real", "emulated")  # the values of all steps are joined to a list
MAPS = ("images", "addresses")  # the values of all steps are merged: digests by image, addresses by part
STANDING = "standing"  # the parts of the cluster at the end: lib.steps.overview.facts


def fault(event: object) -> str:
    """Return why an event cannot be used, "" if it can."""
    if not isinstance(event, dict):
        return "it is no JSON object"
    kind = event.get("event")
    if not is_time(event.get("at")):
        return "its time (at) is none"
    if not isinstance(kind, str) or kind not in REQUIRED:
        return f"there is no event {kind!r}"
    if missing := [name for name in REQUIRED[kind].split() if name not in event]:
        return f"its {missing[0]} is missing"
    if kind == "fact":
        return _fact_fault(event["key"], event["value"])
    if nested := [name for name, value in event.items() if isinstance(value, (dict, list))]:
        return f"its {nested[0]} is no plain value"
    if wrong := [name for name in NUMBERS if name in event and not _is_number(event[name])]:
        return f"its {wrong[0]} is no number between 0 and {LONGEST:.0f}"
    return _word_fault(kind, event)


def is_time(value: object) -> bool:
    """Return whether the value is a UTC time with milliseconds, such as 2026-01-31T12:00:00.123Z."""
    try:
        return isinstance(value, str) and bool(TIME.fullmatch(value)) and bool(datetime.fromisoformat(value))
    except ValueError:
        return False


def _word_fault(kind: str, event: dict) -> str:
    if kind in ("check", "response"):
        if event["verdict"] not in verdicts.VERDICTS:
            return f"there is no verdict {event['verdict']!r}"
        if event["passed"] is not verdicts.held(event["verdict"]):
            return f"passed is {event['passed']!r}, but its verdict is {event['verdict']}"
    if kind == "change" and event["action"] not in (*ACTIONS, ABSENT):
        return f"there is no action {event['action']!r}"
    if kind == "evidence" and not (_matches(FILE, event["file"]) and _matches(SHA256, event["sha256"])):
        return "it names no file and its SHA-256"
    return ""


def _fact_fault(key: object, value: object) -> str:
    if not isinstance(key, str):
        return "its key is no text"
    if key in MAPS and not _is_map(value):
        return f"{key} are no texts by name"
    if key == STANDING and not _is_standing(value):
        return f"{key} has no parts by name"
    if key in LISTS and not (isinstance(value, str) or _is_texts(value)):
        return f"{key} is no text and no list of texts"
    if key in IDENTITY and not isinstance(value, str):
        return f"{key} is no text"
    return ""


def _is_standing(value: object) -> bool:
    if not isinstance(value, dict) or not set(value) <= {"parts", "may", "bypasses"}:
        return False
    tables = [row for name in ("may", "bypasses") for row in _members(value.get(name, {}))]
    return _is_map(value.get("parts", {})) and all(map(_is_map, tables))


def _members(value: object) -> list[Any]:
    return list(value.values()) if isinstance(value, dict) else [value]


def _is_map(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(one, str) for one in value.values())


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _is_number(value: object) -> bool:
    if value == "" or isinstance(value, bool):
        return value == ""
    return isinstance(value, (int, float)) and math.isfinite(value) and 0 <= value <= LONGEST


def _matches(pattern: re.Pattern[str], value: object) -> bool:
    return isinstance(value, str) and bool(pattern.fullmatch(value))
