"""Compares two runs, and lists the runs of an environment."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from yaml import YAMLError

from lib.bundle import latency, object_diff, seal
from lib.bundle.contradictions import shape_problems
from lib.bundle.verify import verify
from lib.errors import BundleError
from lib.record import row as record_row

SIGNS = {"fail": "✗"}
# A step's duration differs if it is SLOWER times and SECONDS longer, a median latency if it is SLOWER times and
# MILLISECONDS longer. Smaller differences are the noise of a busy machine.
SLOWER, SECONDS, MILLISECONDS = 2.0, 5.0, 5.0


def runs(folder: Path, trusted: Sequence[Ed25519PublicKey] = ()) -> pd.DataFrame:
    """Return a row for each bundle in an environment's folder, oldest first.

    A bundle without seal is `incomplete`, one whose run.json is not readable is `unreadable`. `verifies` is what
    `verifies` says of it, by the keys that are trusted.
    """
    columns = ["run", "verdict", "verifies", "steps", "checks", "passed", "created", "changed", "seconds", "commit"]
    folders = sorted(path for path in folder.iterdir() if path.is_dir() and not path.is_symlink())
    return pd.DataFrame([_row(path, trusted) for path in folders], columns=columns, dtype=object)


def verifies(folder: Path, trusted: Sequence[Ed25519PublicKey]) -> str:
    """Return `verifies`, or `does not verify` with the first reason; the pages of notebooks are not made again."""
    problems = verify(folder, trusted, pages=False).problems
    return f"does not verify: {problems[0]}" if problems else "verifies"


def sealed_run(folder: Path) -> dict | None:
    """Return a bundle's run.json if it can be read and follows its schema, else None."""
    try:
        run = seal.read_run(folder)
    except BundleError:
        return None
    return None if shape_problems(run) else run


def compare(one: Path, other: Path) -> dict[str, pd.DataFrame]:
    """Return the differences between two bundles, a table for each part that differs.

    A table has the columns what, A and B; a value is "" if that bundle has none. Checks and probes differ by answer,
    steps by verdict or by duration, latencies if B is slower, live objects by field.

    Raises:
        BundleError: a folder is no sealed bundle.
    """
    old, new = _contents(one), _contents(other)
    try:
        old["live objects"], new["live objects"] = object_diff.differences(one, other)
    except (YAMLError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BundleError(f"The live objects cannot be compared ({type(error).__name__}). Verify both runs.") from None
    rules = {"seconds": _same_duration, "latencies": _not_slower}
    tables = {part: _differing(old[part], new[part], rules.get(part, str.__eq__)) for part in old}
    return {part: table for part, table in tables.items() if not table.empty}


def _row(folder: Path, trusted: Sequence[Ed25519PublicKey]) -> dict:
    if not (folder / seal.SUMS).is_file():
        return {"run": folder.name, "verdict": "incomplete", "verifies": "no"}
    state = "yes" if verifies(folder, trusted) == "verifies" else "no"
    run = sealed_run(folder)
    if run is None:
        return {"run": folder.name, "verdict": "unreadable", "verifies": "no"}
    ran = sum(step["verdict"] != "not run" for step in run["steps"])
    kept = {key: run["totals"][key] for key in ("checks", "passed", "created", "changed")}
    return {
        "run": folder.name,
        "verdict": run["verdict"],
        "verifies": state,
        "steps": ran,
        **kept,
        "seconds": run["seconds"],
    } | {"commit": f"{run['commit'][:8]}{'+' if run['dirty'] else ''}"}


def _contents(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the values of a bundle that can be compared, by part and name."""
    if not (folder / seal.SUMS).is_file():
        raise BundleError(f"{folder} is no sealed bundle: it has no {seal.SUMS}. Name a run that ended.")
    run = sealed_run(folder)
    if run is None:
        raise BundleError(f"{folder} is not readable: its {seal.RUN} does not follow its schema. Verify it.")
    try:
        return _parts(folder, run)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BundleError(f"{folder} is not readable ({type(error).__name__}: {error}). Verify it.") from None


def _parts(folder: Path, run: dict) -> dict[str, dict[str, Any]]:
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
