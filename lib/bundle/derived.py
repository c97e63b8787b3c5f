"""What follows from a run's events and from what the runner knows: tables, counts, verdict, run.json, the pages.

`seal` writes these files, and `verify` makes them again and compares them byte for byte.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import yaml

from lib import spreadsheet
from lib.bundle import index_page, oscal, provenance
from lib.record import junit, verdicts
from lib.record.event_shape import ACTIONS, IDENTITY, LISTS, MAPS, STANDING

SUMS, RUN, PARAMS, JUNIT, INDEX = "SHA256SUMS", "run.json", "params.yml", "junit.xml", "index.html"
COUNTS = {"passed": "pass", "failed": "fail", "errors": "error", "skipped": "skipped", "waived": "waived"}
INTERRUPTED = 130  # the exit code after Ctrl-C, by the convention of shells: 128 + SIGINT
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
# The keys of run.json that the runner knows; the others follow. Of `steps`, the keys of STEP; of `versions`, `runner`.
GIVEN = (
    "user", "host", "env", "command", "started", "finished", "seconds", "commit", "dirty", "params", "versions",
    "requirements_lock_sha256", "steps", "renderer", "redacted_pages", "time_stamp",
)  # fmt: skip
STEP = ("step", "title", "verdict", "started", "seconds", "error")
DRAWN = (INDEX, *oscal.FILES)  # they follow from the templates and from controls.yml too
MAKERS = (
    "bundle",
    "record",
    "templates",
    "probes/reporting",
    "render.py",
    "redact",
    "steps/overview.py",
    "diagnose/bypasses.py",
)
PACKAGES = ("jinja2", "markupsafe", "nbconvert", "nbformat", "mistune", "pygments", "beautifulsoup4", "nh3", "bleach")

Events = dict[str, list[dict]]  # the events of each step, by its name


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


def judged(events: list[dict]) -> str:
    """Return the verdict that a step's checks make, if nothing else ended the step."""
    kinds = {event["verdict"] for event in events if event["event"] in ("check", "response")}
    return verdicts.worst([verdicts.PASS, *(kinds & set(verdicts.RED))])


def given(run: dict) -> dict:
    """Return the part of a complete run.json that only the runner knows, as `complete` takes it."""
    kept = {key: value for key, value in run.items() if key in GIVEN or (key == "exit_code" and value == INTERRUPTED)}
    steps = [{key: value for key, value in row.items() if key in STEP} for row in run["steps"]]
    return {**kept, "versions": run["versions"]["runner"], "steps": steps}


def complete(run: dict, events: Events) -> dict:
    """Return run.json without `run` and `previous`: what the runner knows, with all that follows from the events."""
    steps = [{**row, **count(events[row["step"]])} for row in run["steps"]]
    facts = [event for recorded in events.values() for event in recorded if event["event"] == "fact"]
    facts.sort(key=lambda fact: fact["at"])  # steps run at once: the last fact need not be the last step's
    last = {fact["key"]: fact["value"] for fact in facts}
    whole = verdicts.worst(row["verdict"] for row in steps)
    if run.get("exit_code") == INTERRUPTED:
        whole = verdicts.ERROR
    return {
        **run,
        "versions": {
            "runner": run["versions"],
            "cluster": {key: value for key, value in last.items() if key not in (*IDENTITY, *LISTS, *MAPS, STANDING)},
        },
        "cluster": {key: last[key] for key in IDENTITY if key in last},
        **{key: _joined(facts, key) for key in LISTS},
        **{key: _merged(facts, key) for key in MAPS},
        STANDING: last.get(STANDING, {}),
        "steps": steps,
        "totals": {key: sum(row[key] for row in steps) for key in ("checks", *COUNTS, *ACTIONS)},
        "verdict": whole,
        "exit_code": run.get("exit_code") or verdicts.EXIT_CODES[whole],
    }


def files(run: dict, events: Events, names: list[str], drawn: bool = True) -> dict[str, str]:
    """Return the content of each file that follows, by name.

    Args:
        run: the content of run.json.
        events: the events of each step.
        names: the bundle's files, which index.html lists.
        drawn: whether to make the files DRAWN too.
    """
    tables = {name: _rows(events, kind, columns.split()) for name, (kind, columns) in TABLES.items()}
    made = {}
    for name, rows in tables.items():
        columns = ["step", "at", *TABLES[name][1].split()]
        made[name] = spreadsheet.text(columns, ([row[column] for column in columns] for row in rows))
    made[RUN] = json.dumps(run, indent=2, ensure_ascii=False) + "\n"
    made[PARAMS] = yaml.safe_dump(run["params"], sort_keys=False, allow_unicode=True)
    made[JUNIT] = junit.document(_cases(tables), f"{run['env']} {run['started']}")
    if drawn:
        made |= oscal.documents(run, tables)
        made[INDEX] = index_page.index(run, tables, sorted({*names, *made} - {INDEX, provenance.KEY_FILE}))
    return made


@cache
def renderer() -> str:
    """Return the SHA-256 of all that decides how the pages look: templates, the code around them, the packages."""
    home = Path(__file__).parents[1]
    places = [path for name in MAKERS for path in ([home / name] if "." in name else (home / name).rglob("*.*"))]
    found = hashlib.sha256()
    for path in sorted(path for path in places if path.suffix != ".pyc" and path.is_file()):
        found.update(f"{path.relative_to(home)} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    found.update("".join(f"{name} {_version(name)}\n" for name in PACKAGES).encode())
    return found.hexdigest()


def _joined(facts: list[dict], key: str) -> list[str]:
    values = [fact["value"] for fact in facts if fact["key"] == key]
    flat = [part for value in values for part in (value if isinstance(value, list) else [value])]
    return list(dict.fromkeys(flat))


def _merged(facts: list[dict], key: str) -> dict[str, str]:
    return {name: value for fact in facts if fact["key"] == key for name, value in fact["value"].items()}


def _rows(events: Events, kind: str, columns: list[str]) -> list[dict]:
    return [
        {"step": step, "at": event["at"], **{column: event.get(column, "") for column in columns}}
        for step, recorded in events.items()
        for event in recorded
        if event["event"] == kind
    ]


def _cases(tables: dict[str, list[dict]]) -> Iterator[junit.TestCase]:
    """Yield a case for each check and each response; the steps are the suites."""
    for row in tables["checks.csv"]:
        yield _case(row, "check", row["name"], row["actual"], row["reason"])
    for row in tables["responses.csv"]:
        request = row["title"] or f"{row['request']}, {row['caller']}, {row['token']}"
        name = f"{row['probe']} {request}".strip()
        yield _case(row, row["figure"], name, row["got"], row["note"] or row["reason"])


def _case(row: dict, kind: object, name: object, got: object, reason: object) -> junit.TestCase:
    message = f"expected {row['expected']}, got {got}" if row["verdict"] in verdicts.RED else str(reason)
    about = (row["step"], f"{row['step']}.{kind}", str(name), float(row["seconds"] or 0))
    return junit.TestCase(*about, row["verdict"], message, str(reason))


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
