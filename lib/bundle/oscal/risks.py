"""OSCAL risks of a run: failed checks that somebody waived, and known weaknesses that probes confirmed."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import date

from lib.record import row as record_row

WAIVED = re.compile(r"waived by (?P<owner>.+?) until (?P<day>\d{4}-\d\d-\d\d): (?P<why>.+)", re.S)
NAMES = "urn:istio-keycloak-runbook"  # the namespace of properties that OSCAL does not define

Uuid = Callable[[str], str]


@dataclass(frozen=True)
class Risk:
    """A risk in OSCAL's form, and the rows that it is about."""

    content: dict
    rows: list[dict]

    def concerns(self, rows: list[dict]) -> bool:
        """Return whether the risk is about one of these rows."""
        known = {id(row) for row in self.rows}
        return any(id(row) in known for row in rows)


def waivers(rows: list[dict], uuid: Uuid) -> list[Risk]:
    """Return a risk for each waiver: its owner, reason and last day, and the checks that it covers."""
    by_reason: dict[str, list[dict]] = {}
    for row in rows:
        if record_row.verdict(row) == "waived":
            by_reason.setdefault(record_row.why(row), []).append(row)
    return [Risk(_waiver(reason, some, uuid(f"waiver {reason}")), some) for reason, some in by_reason.items()]


def weaknesses(rows: list[dict], uuid: Uuid) -> list[Risk]:
    """Return a risk for each finding of the probes: an expected answer that is a weakness."""
    by_finding: dict[str, list[dict]] = {}
    for row in rows:
        if row.get("finding") and record_row.verdict(row) == "pass":
            by_finding.setdefault(row["finding"], []).append(row)
    return [Risk(_weakness(finding, some, uuid), some) for finding, some in by_finding.items()]


def prop(name: str, value: object) -> dict[str, str]:
    """Return an OSCAL property in the project's namespace."""
    return {"name": name, "ns": NAMES, "value": " ".join(str(value).split())}


def unless_empty(name: str, values: list) -> dict[str, list]:
    """Return the list by its name, or nothing if it is empty: OSCAL allows no empty list."""
    return {name: values} if values else {}


def _waiver(reason: str, rows: list[dict], uuid: str) -> dict:
    match = WAIVED.search(reason)
    owner, day, why = match.group("owner", "day", "why") if match else ("", "", reason or "no reason was given")
    failed = "; ".join(record_row.name(row) for row in rows)
    return {
        "uuid": uuid,
        "title": f"Waived{f' by {owner} until {day}' if match else ''}: {len(rows)} checks",
        "description": why,
        "statement": f"These checks failed and are waived: {failed}.",
        **({"props": [prop("owner", owner), prop("expires", day)]} if match else {}),
        "status": "deviation-approved",
        **({"deadline": f"{day}T23:59:59Z"} if _is_day(day) else {}),
    }


def _weakness(finding: str, rows: list[dict], uuid: Uuid) -> dict:
    number, closed_by = uuid(f"finding {finding}"), rows[0]["closed_by"]
    cure = {
        "uuid": uuid(f"cure {finding}"),
        "lifecycle": "recommendation",
        "title": "What closes it",
        "description": closed_by,
    }
    places = ", ".join(dict.fromkeys(str(row["figure"]) for row in rows))
    return {
        "uuid": number,
        "title": f"Known: {', '.join(dict.fromkeys(row['probe'] for row in rows))}",
        "description": finding,
        "statement": f"Seen {len(rows)} times, at {places}.",
        "status": "open",
        **({"remediations": [cure]} if closed_by else {}),
    }


def _is_day(day: str) -> bool:
    with suppress(ValueError):
        return bool(date.fromisoformat(day))
    return False
