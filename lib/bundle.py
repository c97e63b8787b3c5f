"""The bundle: the folder that a run leaves, sealed by SHA256SUMS; outputs/README.md is its contract."""

from __future__ import annotations

import csv
import json
import os
from collections import Counter
from datetime import datetime
from pathlib import Path

import yaml

from lib import junit, page
from lib.origin import digest
from lib.record import read
from lib.redact import clean, cleaned, forbidden

SUMS, JUNIT = "SHA256SUMS", "junit.xml"
EXIT_CODES = {"pass": 0, "fail": 1, "error": 2}
ACTIONS = ("created", "changed", "unchanged", "deleted")
IDENTITY = ("cluster_arn", "endpoint", "kube_system_uid")  # the facts that tell which cluster it was
LISTS = ("real", "emulated")  # the facts that add up to lists

TABLES = {  # file: the event it holds, its columns after step and at
    "checks.csv": ("check", "name expected actual passed seconds tries reason"),
    "responses.csv": (
        "response",
        "figure request caller token expected got reason latency_ms seconds tries passed"
        " probe title status_line details flags hop verdict note finding closed_by source",
    ),
    "tokens.csv": ("token", "name fingerprint alg kid typ iss aud azp sub scope iat exp lifetime"),
    "changes.csv": ("change", "kind namespace name action"),
}


def create(env: str, commit: str, now: datetime, outputs: Path) -> Path:
    """Make and return the folder `outputs`/`env`/<UTC time>-<short commit>, with -2, -3, … if that is taken."""
    name = f"{now:%Y%m%dT%H%M%SZ}-{commit[:8] or 'uncommitted'}"
    number, folder = 1, outputs / env / name
    while True:
        try:
            folder.mkdir(parents=True)
            break
        except FileExistsError:
            number += 1
            folder = outputs / env / f"{name}-{number}"
    for part in ("notebooks", "html", "events"):
        (folder / part).mkdir()
    return folder


def count(events: list[dict]) -> dict[str, int]:
    """Return how many checks (responses are checks too) there were, how many passed, and how many of each action.

    A probe that was skipped is no check: its `passed` is None.
    """
    answers = [one["passed"] for one in events if one["event"] in ("check", "response") and one["passed"] is not None]
    actions = Counter(one["action"] for one in events if one["event"] == "change")
    return {"checks": len(answers), "passed": sum(map(bool, answers)), **{name: actions[name] for name in ACTIONS}}


def seal(folder: Path, run: dict, secrets: set[str] = frozenset()) -> dict:
    """Finish the bundle of a run, green or red; return the run as written to run.json.

    `run` has who, when, what with, params and steps ({step, title, verdict, started, seconds, error}). Counts, facts,
    totals, verdict and exit code come from the events. Notebooks and pages are scrubbed; SHA256SUMS is written last.
    """
    _scrub(folder, secrets)
    events = {row["step"]: read(folder / "events" / f"{row['step']}.jsonl") for row in run["steps"]}
    names = [row["step"] for row in run["steps"]]
    run = cleaned(_complete(run, events), secrets)
    for row, name in zip(run["steps"], names, strict=True):
        row["step"] = name  # it is a file's name, whatever word it shares with a secret
    tables = {name: _rows(events, kind, columns.split()) for name, (kind, columns) in TABLES.items()}
    for name, rows in tables.items():
        _write_csv(folder / name, ["step", "at", *TABLES[name][1].split()], rows)
    _write(folder / "run.json", json.dumps(run, indent=2, ensure_ascii=False) + "\n")
    _write(folder / "params.yml", yaml.safe_dump(run["params"], sort_keys=False, allow_unicode=True))
    _write(folder / JUNIT, junit.document(_suites(tables), f"{run['env']} {run['started']}"))
    _write(folder / "index.html", page.index(run, tables, _files(folder)))
    _write(folder / SUMS, "".join(f"{digest(folder / name)}  {name}\n" for name in _files(folder)))
    return run


def verify(folder: Path) -> list[str]:
    """Return what is wrong with a bundle, a sentence each; none for one that is whole, unchanged and consistent."""
    if not (folder / SUMS).is_file():
        return [f"expected {SUMS} in {folder}, got none; the run did not end, this bundle is incomplete."]
    return _verify_files(folder) + _verify_content(folder) + _verify_verdict(folder)


def rows(folder: Path, name: str) -> list[dict]:
    """Return the rows of one of a bundle's tables, as texts by column."""
    with (folder / name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def verdict(verdicts: list[str]) -> str:
    """Return the run's verdict from its steps': error outweighs fail, fail outweighs pass; nothing run is an error."""
    return next((one for one in ("error", "fail", "pass") if one in verdicts), "error")


def _complete(run: dict, events: dict[str, list[dict]]) -> dict:
    steps = [{**row, **count(events[row["step"]])} for row in run["steps"]]
    facts = [one for found in events.values() for one in found if one["event"] == "fact"]
    last = {one["key"]: one["value"] for one in facts}
    whole = verdict([row["verdict"] for row in steps])
    return {
        **run,
        "versions": {
            "runner": run["versions"],
            "cluster": {key: value for key, value in last.items() if key not in IDENTITY + LISTS},
        },
        "cluster": {key: last[key] for key in IDENTITY if key in last},
        **{key: _added(facts, key) for key in LISTS},
        "steps": steps,
        "totals": {key: sum(row[key] for row in steps) for key in ("checks", "passed", *ACTIONS)},
        "verdict": whole,
        "exit_code": run.get("exit_code") or EXIT_CODES[whole],
    }


def _added(facts: list[dict], key: str) -> list[str]:
    values = [one["value"] for one in facts if one["key"] == key]
    flat = [part for value in values for part in (value if isinstance(value, list) else [value])]
    return list(dict.fromkeys(flat))


def _rows(events: dict[str, list[dict]], kind: str, columns: list[str]) -> list[dict]:
    return [
        {"step": step, "at": one["at"], **{column: one.get(column, "") for column in columns}}
        for step, found in events.items()
        for one in found
        if one["event"] == kind
    ]


def _suites(tables: dict[str, list[dict]]) -> dict[str, list[junit.Case]]:
    """A suite for each step: its checks, and its responses."""
    suites: dict[str, list[junit.Case]] = {}
    for row in tables["checks.csv"]:
        suites.setdefault(row["step"], []).append(_case(row, "check", row["name"], row["actual"], row["reason"]))
    for row in tables["responses.csv"]:
        asked = row["title"] or f"{row['request']}, {row['caller']}, {row['token']}"
        name = f"{row['probe']} {asked}".strip()
        case = _case(row, row["figure"], name, row["got"], row["note"] or row["reason"])
        suites.setdefault(row["step"], []).append(case)
    return suites


def _case(row: dict, kind: str, name: str, got, why: str) -> junit.Case:
    verdict = junit.SKIPPED if row["passed"] is None else junit.PASSED if row["passed"] else junit.FAILED
    told = f"expected {row['expected']}, got {got}" if verdict == junit.FAILED else why
    return junit.Case(f"{row['step']}.{kind}", name, float(row["seconds"] or 0), verdict, told, str(why))


def _write_csv(path: Path, columns: list[str], rows: list[dict]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _write(path: Path, text: str) -> None:
    """Write as a whole or not at all."""
    half = path.with_name(f".{path.name}.half")
    half.write_text(text, encoding="utf-8")
    os.replace(half, path)


def _files(folder: Path) -> list[str]:
    """The names that SHA256SUMS lists; a link counts as a file."""
    found = (path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    return sorted(name for path in found if (name := str(path.relative_to(folder))) != SUMS)


def _scrub(folder: Path, secrets: set[str]) -> None:
    """Once more with all that is known at the end: a secret may have been shown before it was told."""
    for path in sorted(folder.glob("notebooks/*.ipynb")):
        notebook = json.loads(path.read_text(encoding="utf-8"))
        for cell in notebook["cells"]:
            scrub_cell(cell, secrets)
        _write(path, json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n")
    for path in sorted(folder.glob("html/*.html")):
        _write(path, clean(path.read_text(encoding="utf-8"), secrets))
    for path in sorted(folder.glob("events/*.jsonl")):
        lines = (json.dumps(cleaned(one, secrets), ensure_ascii=False) + "\n" for one in read(path))
        _write(path, "".join(lines))


def scrub_cell(cell: dict, secrets: set[str]) -> None:
    """Redact what a code cell put out, in place."""
    for output in cell.get("outputs", []):
        for key in ("text", "data", "evalue", "traceback"):
            if key in output:
                output[key] = cleaned(_joined(output[key]) if key == "text" else output[key], secrets)


def _joined(text: str | list[str]) -> str:
    return text if isinstance(text, str) else "".join(text)


def _verify_files(folder: Path) -> list[str]:
    lines = (folder / SUMS).read_text(encoding="utf-8").splitlines()
    listed = {name: checksum for checksum, _, name in (line.partition("  ") for line in lines)}
    there = set(_files(folder))
    changed = [name for name in sorted(listed.keys() & there) if digest(folder / name) != listed[name]]
    return (
        [f"expected {name} as it was sealed, got it changed." for name in changed]
        + [f"expected {name}, which was sealed, got none." for name in sorted(listed.keys() - there)]
        + [f"expected only what was sealed, got {name} too." for name in sorted(there - listed.keys())]
    )


def _verify_content(folder: Path) -> list[str]:
    files = [name for name in _files(folder) if (folder / name).is_file()]
    found = {name: forbidden((folder / name).read_text(encoding="utf-8", errors="replace")) for name in files}
    return [f"expected no secret in {name}, got {kind}." for name, kind in found.items() if kind]


def _verify_verdict(folder: Path) -> list[str]:
    """Recompute from the tables what run.json claims."""
    try:
        run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        answers = [row for name in ("checks.csv", "responses.csv") for row in rows(folder, name)]
        problems = [text for row in run["steps"] for text in _verify_step(folder, row, answers)]
        whole = verdict([row["verdict"] for row in run["steps"]])
    except (OSError, ValueError, KeyError, TypeError) as error:
        return [f"expected run.json and the tables to be readable, got {type(error).__name__}: {error}."]
    if run.get("verdict") != whole:
        problems.append(f"expected the verdict {whole} from the steps, got {run.get('verdict')} in run.json.")
    if (run.get("exit_code") == 0) != (whole == "pass"):
        problems.append(f"expected an exit code of a run whose verdict is {whole}, got {run.get('exit_code')}.")
    return problems


def _verify_step(folder: Path, row: dict, answers: list[dict]) -> list[str]:
    step, claimed = row["step"], row["verdict"]
    mine = [answer["passed"] == "True" for answer in answers if answer["step"] == step and answer["passed"]]
    problems = []
    if (len(mine), sum(mine)) != (row["checks"], row["passed"]):
        problems.append(
            f"expected {row['checks']} checks of {step}, {row['passed']} passed, as run.json says, "
            f"got {len(mine)} in the tables, {sum(mine)} passed."
        )
    if claimed in ("pass", "fail") and claimed != ("pass" if all(mine) else "fail"):
        problems.append(f"expected the verdict of {step} to follow from its checks, got {claimed} in run.json.")
    if claimed in ("pass", "fail") and not (folder / "notebooks" / f"{step}.ipynb").is_file():
        problems.append(f"expected notebooks/{step}.ipynb of a step that ran, got none.")
    return problems
