"""Several runs: what changed between two of them, and an environment's runs over time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd

from lib.bundle import latency, object_diff, seal
from lib.errors import BundleError
from lib.record import row as record_row

SIGNS = {"fail": "✗"}
SLOWER = 2.0  # times as long, and
NOTICED = 5.0  # seconds longer, before a step's time is told as a difference
SLUGGISH = 5.0  # milliseconds longer, besides twice as long, before a figure's median latency is told


def runs(folder: Path) -> pd.DataFrame:
    """Return the bundles of an environment's folder, oldest first: when, verdict, checks, seconds, commit.

    One that was never sealed is `incomplete`.
    """
    columns = ["run", "verdict", "steps", "checks", "passed", "created", "changed", "seconds", "commit"]
    return pd.DataFrame([_row(one) for one in sorted(folder.iterdir()) if one.is_dir()], columns=columns, dtype=object)


def compare(one: Path, other: Path) -> dict[str, pd.DataFrame]:
    """Return what is not the same in two bundles, by part: parameters, versions, steps, answers, findings, objects, ….

    Each table has the name of the thing and its value in either, "" where it is not there. Checks and probes differ by
    what they got; steps by verdict, or where the one took much longer; latencies where B's are twice A's and noticeably
    so; live objects by field. Parts without a difference are left out. BundleError where one is no sealed bundle.
    """
    old, new = _told(one), _told(other)
    old["live objects"], new["live objects"] = object_diff.differing(one, other)
    rules = {"seconds": _as_long, "latencies": _as_fast}
    tables = {part: _different(old[part], new[part], rules.get(part, str.__eq__)) for part in old}
    return {part: table for part, table in tables.items() if not table.empty}


def _row(folder: Path) -> dict:
    if not (folder / seal.SUMS).is_file():
        return {"run": folder.name, "verdict": "incomplete"}
    run = seal.run(folder)
    ran = sum(step["verdict"] != "not run" for step in run["steps"])
    kept = {key: run["totals"][key] for key in ("checks", "passed", "created", "changed")}
    return {"run": folder.name, "verdict": run["verdict"], "steps": ran, **kept, "seconds": run["seconds"]} | {
        "commit": f"{run['commit'][:8]}{'+' if run['dirty'] else ''}"
    }


def _told(folder: Path) -> dict[str, dict[str, str]]:
    """Return what a bundle holds, by part and name."""
    if not (folder / seal.SUMS).is_file():
        raise BundleError(f"expected a sealed bundle in {folder}, got no {seal.SUMS}; name a run that ended.")
    run = seal.run(folder)
    versions = {f"{where} {name}": value for where, found in run["versions"].items() for name, value in found.items()}
    answers = seal.rows(folder, "responses.csv")
    good = [row for row in answers if record_row.verdict(row) == "pass"]
    return {
        "parameters": _texts(run["params"]),
        "versions": _texts(versions),
        "images": run.get("images", {}),
        "verdicts": {step["step"]: step["verdict"] for step in run["steps"]},
        "seconds": {step["step"]: step["seconds"] for step in run["steps"] if step["verdict"] != "not run"},
        "checks": {f"{row['step']}: {row['name']}": record_row.verdict(row) for row in seal.rows(folder, "checks.csv")},
        "answers": {_asked(row): _got(row) for row in answers},
        "findings": {_asked(row): row["finding"] for row in good if row["finding"]},
        "latencies": _medians(answers),
        "objects": {
            " ".join(filter(None, (row["kind"], row["namespace"], row["name"]))): row["action"]
            for row in seal.rows(folder, "changes.csv")
        },
    }


def _asked(row: dict) -> str:
    name = row["probe"] or f"{row['request']}, {row['caller']}, {row['token']}"
    return f"{row['figure']}: {name}"


def _got(row: dict) -> str:
    verdict = record_row.verdict(row)
    return row["got"] if verdict == "pass" else f"{row['got']} {SIGNS.get(verdict, verdict)}".strip()


def _medians(answers: list[dict]) -> dict[str, float]:
    """Return each figure's or world's median latency in ms, of those with enough answers."""
    return {name: one["p50"] for name, one in latency.distributions(answers).items()}


def _different(old: dict, new: dict, same: Callable) -> pd.DataFrame:
    names = [name for name in dict.fromkeys([*old, *new]) if not same(old.get(name, ""), new.get(name, ""))]
    rows = [{"what": name, "A": old.get(name, ""), "B": new.get(name, "")} for name in names]
    return pd.DataFrame(rows, columns=["what", "A", "B"])


def _as_long(one: float | str, other: float | str) -> bool:
    if isinstance(one, str) or isinstance(other, str):
        return False
    return abs(one - other) < NOTICED or max(one, other) < SLOWER * min(one, other)


def _as_fast(one: float | str, other: float | str) -> bool:
    """Only what got slower is told."""
    if isinstance(one, str) or isinstance(other, str):
        return True
    return other - one <= SLUGGISH or other < SLOWER * one


def _texts(values: dict) -> dict[str, str]:
    return {name: str(value) for name, value in values.items()}
