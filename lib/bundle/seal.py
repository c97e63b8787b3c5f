"""The bundle: the folder that a run leaves, sealed by SHA256SUMS; outputs/README.md is its contract."""

from __future__ import annotations

import csv
import hashlib
import json
from collections import Counter
from datetime import datetime
from pathlib import Path

import yaml
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from lib.bundle import index_page, oscal, provenance, signing_key
from lib.bundle.environment import digest
from lib.files import write_atomic
from lib.record import junit, verdicts
from lib.record.events import read
from lib.redact import clean, cleaned

SUMS, JUNIT, RUN = "SHA256SUMS", "junit.xml", "run.json"
UNSUMMED = (SUMS, provenance.FILE)  # SHA256SUMS lists neither: the statement is about SHA256SUMS itself
ACTIONS = ("created", "changed", "unchanged", "deleted")
IDENTITY = ("cluster_arn", "endpoint", "kube_system_uid")  # the facts that tell which cluster it was
LISTS = ("real", "emulated")  # the facts that add up to lists
EVIDENCE = ("objects", "mesh")  # folders that steps write to, where they have something
STANDING = "standing"  # the fact that tells what stood at the end: lib.standing.facts
TABLED = ("images", "addresses")  # the facts that add up to tables: digests by name, addresses by part
COUNTS = {"passed": "pass", "failed": "fail", "errors": "error", "skipped": "skipped", "waived": "waived"}

TABLES = {  # file: the event it holds, its columns after step and at
    "checks.csv": ("check", "name expected actual verdict passed seconds tries reason"),
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
    """Return how many checks (responses are checks too) were made, how many had which verdict, and each action's count.

    What was skipped is not among the checks made.
    """
    found = Counter(one["verdict"] for one in events if one["event"] in ("check", "response"))
    actions = Counter(one["action"] for one in events if one["event"] == "change")
    made = found.total() - found[verdicts.SKIPPED]
    return {
        "checks": made,
        **{name: found[kind] for name, kind in COUNTS.items()},
        **{name: actions[name] for name in ACTIONS},
    }


def seal(folder: Path, run: dict, key: Ed25519PrivateKey, secrets: set[str] = frozenset()) -> dict:
    """Finish the bundle of a run, green or red; return the run as written to run.json.

    `run` has who, when, what with, params and steps ({step, title, verdict, started, seconds, error}). Counts, facts,
    totals, verdict and exit code come from the events. Notebooks and pages are scrubbed, the statement is signed with
    the `key`, and SHA256SUMS is written last.
    """
    _scrub(folder, secrets)
    events = {row["step"]: read(folder / "events" / f"{row['step']}.jsonl") for row in run["steps"]}
    names = [row["step"] for row in run["steps"]]
    run = cleaned(_complete(run, events), secrets) | {"run": folder.name, "previous": before(folder)}
    for row, name in zip(run["steps"], names, strict=True):
        row["step"] = name  # it is a file's name, whatever word it shares with a secret
    tables = {name: _rows(events, kind, columns.split()) for name, (kind, columns) in TABLES.items()}
    for name, rows in tables.items():
        _write_csv(folder / name, ["step", "at", *TABLES[name][1].split()], rows)
    write_atomic(folder / RUN, json.dumps(run, indent=2, ensure_ascii=False) + "\n")
    write_atomic(folder / "params.yml", yaml.safe_dump(run["params"], sort_keys=False, allow_unicode=True))
    write_atomic(folder / JUNIT, junit.document(_suites(tables), f"{run['env']} {run['started']}"))
    write_atomic(folder / oscal.FILE, oscal.document(run, tables))
    write_atomic(folder / "index.html", index_page.index(run, tables, files(folder)))
    write_atomic(folder / provenance.KEY_FILE, signing_key.pem(key.public_key()))
    sums = "".join(f"{digest(folder / name)}  {name}\n" for name in files(folder))
    stated = provenance.statement(run, SUMS, hashlib.sha256(sums.encode()).hexdigest())
    write_atomic(folder / provenance.FILE, provenance.sign(stated, key))
    write_atomic(folder / SUMS, sums)
    return run


def sealed(folder: Path) -> list[Path]:
    """Return the sealed bundles of an environment's folder, oldest first."""
    return sorted(path.parent for path in folder.glob(f"*/{SUMS}"))


def before(folder: Path) -> dict[str, str] | None:
    """Return the name of the sealed bundle before this one, and the SHA-256 of its SHA256SUMS; None for the first."""
    older = [one for one in sealed(folder.parent) if one.name < folder.name]
    return {"run": older[-1].name, "sha256": digest(older[-1] / SUMS)} if older else None


def run(folder: Path) -> dict:
    """Return what run.json of a bundle says."""
    return json.loads((folder / RUN).read_text(encoding="utf-8"))


def rows(folder: Path, name: str) -> list[dict]:
    """Return the rows of one of a bundle's tables, as texts by column."""
    with (folder / name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _complete(run: dict, events: dict[str, list[dict]]) -> dict:
    steps = [{**row, **count(events[row["step"]])} for row in run["steps"]]
    facts = [one for found in events.values() for one in found if one["event"] == "fact"]
    last = {one["key"]: one["value"] for one in facts}
    whole = verdicts.worst(row["verdict"] for row in steps)
    return {
        **run,
        "versions": {
            "runner": run["versions"],
            "cluster": {key: value for key, value in last.items() if key not in (*IDENTITY, *LISTS, *TABLED, STANDING)},
        },
        "cluster": {key: last[key] for key in IDENTITY if key in last},
        **{key: _added(facts, key) for key in LISTS},
        **{key: _joint(facts, key) for key in TABLED},
        STANDING: last.get(STANDING, {}),
        "steps": steps,
        "totals": {key: sum(row[key] for row in steps) for key in ("checks", *COUNTS, *ACTIONS)},
        "verdict": whole,
        "exit_code": run.get("exit_code") or verdicts.EXIT_CODES[whole],
    }


def _added(facts: list[dict], key: str) -> list[str]:
    values = [one["value"] for one in facts if one["key"] == key]
    flat = [part for value in values for part in (value if isinstance(value, list) else [value])]
    return list(dict.fromkeys(flat))


def _joint(facts: list[dict], key: str) -> dict[str, str]:
    return {name: value for one in facts if one["key"] == key for name, value in one["value"].items()}


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
    told = f"expected {row['expected']}, got {got}" if row["verdict"] in verdicts.RED else why
    about = (f"{row['step']}.{kind}", name, float(row["seconds"] or 0))
    return junit.Case(*about, junit.outcome(row["verdict"]), told, str(why))


def _write_csv(path: Path, columns: list[str], rows: list[dict]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def files(folder: Path) -> list[str]:
    """The names that SHA256SUMS lists; a link counts as a file."""
    found = (path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    return sorted(name for path in found if (name := str(path.relative_to(folder))) not in UNSUMMED)


def _scrub(folder: Path, secrets: set[str]) -> None:
    """Once more with all that is known at the end: a secret may have been shown before it was told."""
    for path in sorted(folder.glob("notebooks/*.ipynb")):
        notebook = json.loads(path.read_text(encoding="utf-8"))
        for cell in notebook["cells"]:
            scrub_cell(cell, secrets)
        write_atomic(path, json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n")
    for path in sorted(path for kind in ("html", *EVIDENCE) for path in folder.glob(f"{kind}/*")):
        write_atomic(path, clean(path.read_text(encoding="utf-8"), secrets))
    for path in sorted(folder.glob("events/*.jsonl")):
        lines = (json.dumps(cleaned(one, secrets), ensure_ascii=False) + "\n" for one in read(path))
        write_atomic(path, "".join(lines))


def scrub_cell(cell: dict, secrets: set[str]) -> None:
    """Redact what a code cell put out, in place."""
    for output in cell.get("outputs", []):
        for key in ("text", "data", "evalue", "traceback"):
            if key in output:
                output[key] = cleaned(_joined(output[key]) if key == "text" else output[key], secrets)


def _joined(text: str | list[str]) -> str:
    return text if isinstance(text, str) else "".join(text)
