"""The verdict, name and reason of a row of checks.csv or responses.csv; older rows have no `verdict`."""

from __future__ import annotations

from lib.record.verdicts import VERDICTS


def verdict(row: dict) -> str:
    """Return one of VERDICTS: the row's own, else the verdict that `passed` implies, else skipped."""
    if row.get("verdict") in VERDICTS:
        return row["verdict"]
    return {"True": "pass", "False": "fail"}.get(str(row.get("passed")), "skipped")


def counts(rows: list[dict]) -> dict[str, int]:
    """Return the number of rows for each verdict that occurs."""
    found = [verdict(row) for row in rows]
    return {name: found.count(name) for name in VERDICTS if name in found}


def summary(rows: list[dict]) -> str:
    """Return the counts in words: 12 checks: 11 pass, 1 fail."""
    return f"{len(rows)} checks: {', '.join(f'{count} {name}' for name, count in counts(rows).items()) or 'none made'}"


def name(row: dict) -> str:
    """Return one line: the step's name, then the check's name or the request."""
    asked = row["name"] if "name" in row else f"{row['figure']}: {_request(row)}"
    return " ".join(f"{row['step']}, {asked}".split())


def why(row: dict) -> str:
    """Return the row's reason; a probe's reason is its note."""
    return str(row.get("note") or row["reason"] or "")


def _request(row: dict) -> str:
    if row.get("probe"):
        return f"{row['probe']} {row['title']}"
    return f"{row['request']}, {row['caller']}, {row['token']}"
