"""OSCAL risks of a run: what somebody let pass until a day, and what is as expected though one would not wish it."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import date

from lib.record import row as record_row

WAIVED = re.compile(r"waived by (?P<owner>.+?) until (?P<day>\d{4}-\d\d-\d\d): (?P<why>.+)", re.S)
NAMES = "urn:istio-keycloak-runbook"  # of the properties that are not OSCAL's own

Uuid = Callable[[str], str]


@dataclass(frozen=True)
class Risk:
    """A risk as OSCAL writes it, and the rows that it is about."""

    content: dict
    rows: list[dict]

    def touches(self, rows: list[dict]) -> bool:
        """Whether one of these rows is among the risk's."""
        mine = {id(row) for row in self.rows}
        return any(id(row) in mine for row in rows)


def waivers(rows: list[dict], uuid: Uuid) -> list[Risk]:
    """Return a risk for each waiver: who owns it, why, until when, and what was let pass by it."""
    said: dict[str, list[dict]] = {}
    for row in rows:
        if record_row.verdict(row) == "waived":
            said.setdefault(record_row.why(row), []).append(row)
    return [Risk(_waiver(reason, some, uuid(f"waiver {reason}")), some) for reason, some in said.items()]


def weaknesses(rows: list[dict], uuid: Uuid) -> list[Risk]:
    """Return a risk for each finding of the probes: the mesh behaves as expected, and one would wish it did not."""
    said: dict[str, list[dict]] = {}
    for row in rows:
        if row.get("finding") and record_row.verdict(row) == "pass":
            said.setdefault(row["finding"], []).append(row)
    return [Risk(_weakness(finding, some, uuid), some) for finding, some in said.items()]


def prop(name: str, value) -> dict[str, str]:
    """Return a property under the project's own names."""
    return {"name": name, "ns": NAMES, "value": " ".join(str(value).split())}


def _waiver(reason: str, rows: list[dict], uuid: str) -> dict:
    found = WAIVED.search(reason)
    owner, day, why = found.group("owner", "day", "why") if found else ("", "", reason or "no reason was given")
    passed = "; ".join(record_row.name(row) for row in rows)
    return {
        "uuid": uuid,
        "title": f"Waived{f' by {owner} until {day}' if found else ''}: {len(rows)} checks",
        "description": why,
        "statement": f"These did not hold, and were let pass: {passed}.",
        **({"props": [prop("owner", owner), prop("expires", day)]} if found else {}),
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
