"""Compares two runs, and lists the runs of an environment."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from lib.bundle import latency, object_diff, seal
from lib.errors import BundleError
from lib.record import row as record_row

SIGNS = {"fail": "✗"}
# A step's duration differs if it is SLOWER times and SECONDS longer, a median latency if it is SLOWER times and
# MILLISECONDS longer. Smaller differences are the noise of a busy machine.
SLOWER, SECONDS, MILLISECONDS = 2.0, 5.0, 5.0


def runs(folder: Path) -> pd.DataFrame:
    """Return a row for each bundle in an environment's folder, oldest first; a bundle without seal is `incomplete`."""
    columns = ["run", "verdict", "steps", "checks", "passed", "created", "changed", "seconds", "commit"]
    return pd.DataFrame(
        [_row(path) for path in sorted(folder.iterdir()) if path.is_dir()], columns=columns, dtype=object
    )


def compare(one: Path, other: Path) -> dict[str, pd.DataFrame]:
    """Return the differences between two bundles, a table for each part that differs.

    A table has the columns what, A and B; a value is "" if that bundle has none. Checks and probes differ by answer,
    steps by verdict or by duration, latencies if B is slower, live objects by field.

    Raises:
        BundleError: a folder is no sealed bundle.
    """
    old, new = _contents(one), _contents(other)
    old["live objects"], new["live objects"] = object_diff.differences(one, other)
    rules = {"seconds": _same_duration, "latencies": _not_slower}
    tables = {part: _differing(old[part], new[part], rules.get(part, str.__eq__)) for part in old}
    return {part: table for part, table in tables.items() if not table.empty}


def _row(folder: Path) -> dict:
    if not (folder / seal.SUMS).is_file():
        return {"run": folder.name, "verdict": "incomplete"}
    run = seal.read_run(folder)
    ran = sum(step["verdict"] != "not run" for step in run["steps"])
    kept = {key: run["totals"][key] for key in ("checks", "passed", "created", "changed")}
    return {"run": folder.name, "verdict": run["verdict"], "steps": ran, **kept, "seconds": run["seconds"]} | {
        "commit": f"{run['commit'][:8]}{'+' if run['dirty'] else ''}"
    }


def _contents(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the values of a bundle that can be compared, by part and name."""
    if not (folder / seal.SUMS).is_file():
        raise BundleError(f"{folder} is no sealed bundle: it has no {seal.SUMS}. Name a run that ended.")
    run = seal.read_run(folder)
    versions = {f"{part} {name}": value for part, names in run["versions"].items() for name, value in names.items()}
    answers = seal.read_rows(folder, "responses.csv")
    good = [row for row in answers if record_row.verdict(row) == "pass"]
    return {
        "parameters": _texts(run["params"]),
        "versions": _texts(versions),
        "images": run.get("images", {}),
        "verdicts": {step["step"]: step["verdict"] for step in run["steps"]},
        "seconds": {step["step"]: step["seconds"] for step in run["steps"] if step["verdict"] != "not run"},
        "checks": {
            f"{row['step']}: {row['name']}": record_row.verdict(row) for row in seal.read_rows(folder, "checks.csv")
        },
        "answers": {_request(row): _answer(row) for row in answers},
        "findings": {_request(row): row["finding"] for row in good if row["finding"]},
        "latencies": _medians(answers),
        "objects": {
            " ".join(filter(None, (row["kind"], row["namespace"], row["name"]))): row["action"]
            for row in seal.read_rows(folder, "changes.csv")
        },
    }


def _request(row: dict) -> str:
    name = row["probe"] or f"{row['request']}, {row['caller']}, {row['token']}"
    return f"{row['figure']}: {name}"


def _answer(row: dict) -> str:
    verdict = record_row.verdict(row)
    return row["got"] if verdict == "pass" else f"{row['got']} {SIGNS.get(verdict, verdict)}".strip()


def _medians(answers: list[dict]) -> dict[str, float]:
    """Return the median latency in ms of each figure or world with enough answers."""
    return {name: numbers["p50"] for name, numbers in latency.distributions(answers).items()}


def _differing(old: dict, new: dict, same: Callable[[Any, Any], bool]) -> pd.DataFrame:
    names = [name for name in dict.fromkeys([*old, *new]) if not same(old.get(name, ""), new.get(name, ""))]
    rows = [{"what": name, "A": old.get(name, ""), "B": new.get(name, "")} for name in names]
    return pd.DataFrame(rows, columns=["what", "A", "B"])


def _same_duration(one: float | str, other: float | str) -> bool:
    if isinstance(one, str) or isinstance(other, str):
        return False
    return abs(one - other) < SECONDS or max(one, other) < SLOWER * min(one, other)


def _not_slower(one: float | str, other: float | str) -> bool:
    """Return whether the other latency is not notably longer: a faster answer is no difference to report."""
    if isinstance(one, str) or isinstance(other, str):
        return True
    return other - one <= MILLISECONDS or other < SLOWER * one


def _texts(values: dict) -> dict[str, str]:
    return {name: str(value) for name, value in values.items()}
