"""The bundle: the folder that a run leaves, sealed by SHA256SUMS; outputs/README.md documents it."""

from __future__ import annotations

import csv
import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
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
UNSUMMED = (SUMS, provenance.FILE)  # SHA256SUMS does not list itself, nor the signed statement about it
ACTIONS = ("created", "changed", "unchanged", "deleted")
IDENTITY = ("cluster_arn", "endpoint", "kube_system_uid")  # the facts that identify the cluster
LISTS = ("real", "emulated")  # the facts whose values of all steps are joined to a list
EVIDENCE = ("objects", "mesh")  # folders that steps write evidence to
STANDING = "standing"  # the fact with the parts of the cluster at the end: lib.steps.overview.facts
TABLED = ("images", "addresses")  # the facts whose values of all steps are merged: digests by image, addresses by part
COUNTS = {"passed": "pass", "failed": "fail", "errors": "error", "skipped": "skipped", "waived": "waived"}

TABLES = {  # file: the event of its rows, its columns after step and at
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
    """Create `outputs`/`env`/<UTC time>-<short commit>, with -2, -3, … if the name is taken; return its path."""
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
    """Return the counts of a step's events: checks made, checks by verdict (see COUNTS), changes by action.

    A response is a check too. A skipped check was not made.
    """
    kinds = Counter(event["verdict"] for event in events if event["event"] in ("check", "response"))
    actions = Counter(event["action"] for event in events if event["event"] == "change")
    made = kinds.total() - kinds[verdicts.SKIPPED]
    return {
        "checks": made,
        **{name: kinds[kind] for name, kind in COUNTS.items()},
        **{name: actions[name] for name in ACTIONS},
    }


def seal(folder: Path, run: dict, key: Ed25519PrivateKey, secrets: AbstractSet[str] = frozenset()) -> dict:
    """Finish the bundle of a run, whatever its verdict. SHA256SUMS is written last.

    Args:
        folder: the bundle, with the executed notebooks, their pages and the events of each step.
        run: the keys of run.json that the runner knows: who, when, params, versions, and the steps as
            {step, title, verdict, started, seconds, error}. Counts, facts and the verdict come from the events.
        key: signs the statement about SHA256SUMS.
        secrets: the values to redact in every file.

    Returns:
        The content of run.json.
    """
    _scrub(folder, secrets)
    events = {row["step"]: read(folder / "events" / f"{row['step']}.jsonl") for row in run["steps"]}
    names = [row["step"] for row in run["steps"]]
    run = cleaned(_complete(run, events), secrets) | {"run": folder.name, "previous": previous_run(folder)}
    for row, name in zip(run["steps"], names, strict=True):
        row["step"] = name  # a step's name is a file's name, so it is not redacted even if a secret is this word
    tables = {name: _rows(events, kind, columns.split()) for name, (kind, columns) in TABLES.items()}
    for name, rows in tables.items():
        _write_csv(folder / name, ["step", "at", *TABLES[name][1].split()], rows)
    write_atomic(folder / RUN, json.dumps(run, indent=2, ensure_ascii=False) + "\n")
    write_atomic(folder / "params.yml", yaml.safe_dump(run["params"], sort_keys=False, allow_unicode=True))
    write_atomic(folder / JUNIT, junit.document(_cases(tables), f"{run['env']} {run['started']}"))
    write_atomic(folder / oscal.FILE, oscal.document(run, tables))
    write_atomic(folder / "index.html", index_page.index(run, tables, files(folder)))
    write_atomic(folder / provenance.KEY_FILE, signing_key.pem(key.public_key()))
    sums = "".join(f"{digest(folder / name)}  {name}\n" for name in files(folder))
    statement = provenance.statement(run, SUMS, hashlib.sha256(sums.encode()).hexdigest())
    write_atomic(folder / provenance.FILE, provenance.sign(statement, key))
    write_atomic(folder / SUMS, sums)
    return run


def sealed(folder: Path) -> list[Path]:
    """Return the sealed bundles of an environment's folder, oldest first."""
    return sorted(path.parent for path in folder.glob(f"*/{SUMS}"))


def previous_run(folder: Path) -> dict[str, str] | None:
    """Return the sealed bundle before this one as {run, sha256}, the SHA-256 of its SHA256SUMS; None for the first."""
    older = [bundle for bundle in sealed(folder.parent) if bundle.name < folder.name]
    return {"run": older[-1].name, "sha256": digest(older[-1] / SUMS)} if older else None


def read_run(folder: Path) -> dict:
    """Return the content of a bundle's run.json."""
    return json.loads((folder / RUN).read_text(encoding="utf-8"))


def read_rows(folder: Path, name: str) -> list[dict]:
    """Return the rows of the bundle's table `name`, as texts by column."""
    with (folder / name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _complete(run: dict, events: dict[str, list[dict]]) -> dict:
    steps = [{**row, **count(events[row["step"]])} for row in run["steps"]]
    facts = [event for recorded in events.values() for event in recorded if event["event"] == "fact"]
    last = {fact["key"]: fact["value"] for fact in facts}
    whole = verdicts.worst(row["verdict"] for row in steps)
    return {
        **run,
        "versions": {
            "runner": run["versions"],
            "cluster": {key: value for key, value in last.items() if key not in (*IDENTITY, *LISTS, *TABLED, STANDING)},
        },
        "cluster": {key: last[key] for key in IDENTITY if key in last},
        **{key: _joined_list(facts, key) for key in LISTS},
        **{key: _merged(facts, key) for key in TABLED},
        STANDING: last.get(STANDING, {}),
        "steps": steps,
        "totals": {key: sum(row[key] for row in steps) for key in ("checks", *COUNTS, *ACTIONS)},
        "verdict": whole,
        "exit_code": run.get("exit_code") or verdicts.EXIT_CODES[whole],
    }


def _joined_list(facts: list[dict], key: str) -> list[str]:
    values = [fact["value"] for fact in facts if fact["key"] == key]
    flat = [part for value in values for part in (value if isinstance(value, list) else [value])]
    return list(dict.fromkeys(flat))


def _merged(facts: list[dict], key: str) -> dict[str, str]:
    return {name: value for fact in facts if fact["key"] == key for name, value in fact["value"].items()}


def _rows(events: dict[str, list[dict]], kind: str, columns: list[str]) -> list[dict]:
    return [
        {"step": step, "at": event["at"], **{column: event.get(column, "") for column in columns}}
        for step, recorded in events.items()
        for event in recorded
        if event["event"] == kind
    ]


def _cases(tables: dict[str, list[dict]]) -> Iterator[junit.Case]:
    """Yield a case for each check and each response; the steps are the suites."""
    for row in tables["checks.csv"]:
        yield _case(row, "check", row["name"], row["actual"], row["reason"])
    for row in tables["responses.csv"]:
        request = row["title"] or f"{row['request']}, {row['caller']}, {row['token']}"
        name = f"{row['probe']} {request}".strip()
        yield _case(row, row["figure"], name, row["got"], row["note"] or row["reason"])


def _case(row: dict, kind: str, name: str, got: object, reason: object) -> junit.Case:
    message = f"expected {row['expected']}, got {got}" if row["verdict"] in verdicts.RED else str(reason)
    about = (row["step"], f"{row['step']}.{kind}", name, float(row["seconds"] or 0))
    return junit.Case(*about, row["verdict"], message, str(reason))


def _write_csv(path: Path, columns: list[str], rows: list[dict]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def files(folder: Path) -> list[str]:
    """Return the names that SHA256SUMS lists; a link counts as a file."""
    paths = (path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    return sorted(name for path in paths if (name := str(path.relative_to(folder))) not in UNSUMMED)


def _scrub(folder: Path, secrets: AbstractSet[str]) -> None:
    """Redact every file again: a cell may have shown a secret before a kernel reported it."""
    for path in sorted(folder.glob("notebooks/*.ipynb")):
        notebook = json.loads(path.read_text(encoding="utf-8"))
        for cell in notebook["cells"]:
            scrub_cell(cell, secrets)
        write_atomic(path, json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n")
    for path in sorted(path for kind in ("html", *EVIDENCE) for path in folder.glob(f"{kind}/*")):
        write_atomic(path, clean(path.read_text(encoding="utf-8"), secrets))
    for path in sorted(folder.glob("events/*.jsonl")):
        lines = (json.dumps(cleaned(event, secrets), ensure_ascii=False) + "\n" for event in read(path))
        write_atomic(path, "".join(lines))


def scrub_cell(cell: dict, secrets: AbstractSet[str]) -> None:
    """Redact a cell's outputs in place."""
    for output in cell.get("outputs", []):
        for key in ("text", "data", "evalue", "traceback"):
            if key in output:
                output[key] = cleaned(_joined(output[key]) if key == "text" else output[key], secrets)


def _joined(text: str | list[str]) -> str:
    return text if isinstance(text, str) else "".join(text)
