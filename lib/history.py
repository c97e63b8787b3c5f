"""Several runs: what changed between two of them, and an environment's runs over time."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from lib import bundle
from lib.errors import BundleError

SLOWER = 2.0  # times as long, and
NOTICED = 5.0  # seconds longer, before a step's time is told as a difference


def runs(folder: Path) -> pd.DataFrame:
    """Return the bundles of an environment's folder, oldest first: when, verdict, checks, seconds, commit.

    One that was never sealed is `incomplete`.
    """
    columns = ["run", "verdict", "steps", "checks", "passed", "created", "changed", "seconds", "commit"]
    return pd.DataFrame([_row(one) for one in sorted(folder.iterdir()) if one.is_dir()], columns=columns)


def compare(one: Path, other: Path) -> dict[str, pd.DataFrame]:
    """Return what is not the same in two bundles, by part: parameters, versions, steps, checks, probes, objects.

    Each table has the name of the thing and its value in either, "" where it is not there. Checks and probes differ by
    what they got; steps by verdict, or where the one took much longer; parts without a difference are left out.
    BundleError where one of them is no sealed bundle.
    """
    old, new = _told(one), _told(other)
    tables = {part: _different(old[part], new[part]) for part in old}
    return {part: table for part, table in tables.items() if not table.empty}


def _row(folder: Path) -> dict:
    if not (folder / bundle.SUMS).is_file():
        return {"run": folder.name, "verdict": "incomplete"}
    run = _run(folder)
    ran = sum(step["verdict"] != "not run" for step in run["steps"])
    kept = {key: run["totals"][key] for key in ("checks", "passed", "created", "changed")}
    return {"run": folder.name, "verdict": run["verdict"], "steps": ran, **kept, "seconds": run["seconds"]} | {
        "commit": f"{run['commit'][:8]}{'+' if run['dirty'] else ''}"
    }


def _told(folder: Path) -> dict[str, dict[str, str]]:
    """Return what a bundle holds, by part and name."""
    if not (folder / bundle.SUMS).is_file():
        raise BundleError(f"expected a sealed bundle in {folder}, got no {bundle.SUMS}; name a run that ended.")
    run = _run(folder)
    versions = {f"{where} {name}": value for where, found in run["versions"].items() for name, value in found.items()}
    answers = bundle.rows(folder, "responses.csv")
    return {
        "parameters": _texts(run["params"]),
        "versions": _texts(versions),
        "verdicts": {step["step"]: step["verdict"] for step in run["steps"]},
        "seconds": {step["step"]: step["seconds"] for step in run["steps"] if step["verdict"] != "not run"},
        "checks": {f"{row['step']}: {row['name']}": row["passed"] for row in bundle.rows(folder, "checks.csv")},
        "answers": {_asked(row): _got(row) for row in answers},
        "objects": {
            " ".join(filter(None, (row["kind"], row["namespace"], row["name"]))): row["action"]
            for row in bundle.rows(folder, "changes.csv")
        },
    }


def _asked(row: dict) -> str:
    name = row["probe"] or f"{row['request']}, {row['caller']}, {row['token']}"
    return f"{row['figure']}: {name}"


def _got(row: dict) -> str:
    return row["got"] if row["passed"] != "False" else f"{row['got']} ✗"


def _different(old: dict, new: dict) -> pd.DataFrame:
    names = [name for name in dict.fromkeys([*old, *new]) if not _same(old.get(name, ""), new.get(name, ""))]
    rows = [{"what": name, "A": old.get(name, ""), "B": new.get(name, "")} for name in names]
    return pd.DataFrame(rows, columns=["what", "A", "B"])


def _same(one, other) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return abs(one - other) < NOTICED or max(one, other) < SLOWER * min(one, other)
    return one == other


def _texts(values: dict) -> dict[str, str]:
    return {name: str(value) for name, value in values.items()}


def _run(folder: Path) -> dict:
    return json.loads((folder / "run.json").read_text(encoding="utf-8"))
