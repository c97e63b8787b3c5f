"""A run as OSCAL assessment results: its checks as observations, and of each control whether it is satisfied.

The same run gives the same bytes: identifiers are UUIDs of names (RFC 9562, version 5), times are the run's own. Model:
OSCAL 1.2 assessment-results. The mapping of checks to controls, with its reasons, is controls.yml.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from uuid import UUID, uuid5

import yaml

from lib.verdicts import ERROR, FAIL, PASS, WAIVED

FILE, VERSION = "assessment-results.json", "1.2.1"
MAPPING = Path(__file__).with_name("controls.yml")
NAMES = UUID("5d3c3a52-6f0e-5f7b-9a55-6b8f6f1f0c11")  # of all identifiers of this project
OPEN = (FAIL, WAIVED)  # what speaks against a control
TABLES = {"checks.csv": "name", "responses.csv": "title"}


@cache
def controls() -> dict[str, dict]:
    """Return the mapping: by control id its title, why, steps (numbers) and families (of probes)."""
    return yaml.safe_load(MAPPING.read_text(encoding="utf-8"))


def mapped(step: str, probe: str = "") -> list[str]:
    """Return the ids of the controls that a check of this step, or this probe, speaks for."""
    if probe:
        return [name for name, one in controls().items() if probe[0] in one.get("families", ())]
    return [name for name, one in controls().items() if step[:2] in one.get("steps", ())]


def document(run: Mapping, tables: Mapping[str, list[dict]]) -> str:
    """Return the assessment results of a run (run.json's content, and the bundle's tables by file name) as JSON.

    A control is satisfied where something of it was tested, all of that passed, and nothing of it broke. It is not
    satisfied where a check failed, waived or not. Where neither can be said there is no finding.
    """
    rows = [_row(file, row) for file in TABLES for row in tables[file]]
    name = lambda *parts: str(uuid5(NAMES, "/".join((run["run"], run["started"], *parts))))  # noqa: E731
    seen = {control: [row for row in rows if control in row["controls"]] for control in controls()}
    seen = {control: found for control, found in seen.items() if found}
    observations = [one for control, found in seen.items() for one in _observations(control, found, run, name)]
    findings = [one for control, found in seen.items() if (one := _finding(control, found, name))]
    result = {
        "uuid": name("result"),
        "title": f"Run {run['run']} of {run['env']}",
        "description": "{passed} of {checks} checks passed; the verdict is ".format(**run["totals"]) + run["verdict"],
        "start": run["started"],
        "end": run["finished"],
        "reviewed-controls": {"control-selections": [{"include-controls": _ids(seen or controls())}]},
        "observations": observations,
        "findings": findings,
    }
    known = ("observations", "findings")
    document = {
        "uuid": name("document"),
        "metadata": {
            "title": "End-user authentication with Istio and Keycloak: what a run of the runbook found",
            "last-modified": run["finished"],
            "version": run["run"],
            "oscal-version": VERSION,
        },
        "import-ap": {"href": f"#{name('plan')}"},
        "results": [{key: value for key, value in result.items() if value or key not in known}],
        "back-matter": {"resources": [_plan(run, name("plan"))]},
    }
    return json.dumps({"assessment-results": document}, indent=1, ensure_ascii=False) + "\n"


def _row(file: str, row: Mapping) -> dict:
    probe = row.get("probe") or ""
    title = row[TABLES[file]] or f"{row.get('request')}, {row.get('caller')}, {row.get('token')}"
    place = row.get("figure") or row["step"]
    label = f"{place}: {f'{probe} ' if probe else ''}{title}"
    got = row["actual"] if file == "checks.csv" else row["got"]
    told = f"expected {row['expected']}, got {got or 'nothing'}"
    why = row.get("note") or row.get("reason") or ""
    about = {"file": file, "label": label, "told": f"{told}; {why}" if why else told, "verdict": row["verdict"]}
    group = f"probes of family {probe[0]}, {place}" if probe else f"step {row['step']}"
    return {**about, "at": row["at"], "group": group, "step": row["step"], "controls": mapped(row["step"], probe)}


def _observations(control: str, rows: list[dict], run: Mapping, name) -> list[dict]:
    """One for each group of checks, and one for each check of it that failed, broke or was waived."""
    groups: dict[str, list[dict]] = {}
    for row in rows:
        groups.setdefault(row["group"], []).append(row)
    whole = [_observation(control, group, _counted(found), found[-1], name) for group, found in groups.items()]
    single = [
        _observation(control, f"{row['label']} ({row['verdict']}, {number})", row["told"], row, name)
        for number, row in enumerate(rows)
        if row["verdict"] in (*OPEN, ERROR)
    ]
    return whole + single


def _observation(control: str, title: str, text: str, row: Mapping, name) -> dict:
    return {
        "uuid": name(control, title),
        "title": f"{control.upper()}: {title}",
        "description": text,
        "methods": ["TEST"],
        "relevant-evidence": [
            {"href": row["file"], "description": "the rows of the record"},
            {"href": f"html/{row['step']}.html", "description": "the executed notebook"},
        ],
        "collected": row["at"],
    }


def _finding(control: str, rows: list[dict], name) -> dict | None:
    found = Counter(row["verdict"] for row in rows)
    against = [row for row in rows if row["verdict"] in OPEN]
    if not against and (found[ERROR] or not found[PASS]):
        return None
    about = controls()[control]
    waived = [f"{row['label']}: {row['told']}" for row in against if row["verdict"] == WAIVED]
    groups = dict.fromkeys(row["group"] for row in rows)
    single = [f"{row['label']} ({row['verdict']}, {number})" for number, row in enumerate(rows) if row in against]
    return {
        "uuid": name("finding", control),
        "title": f"{control.upper()} {about['title']}",
        "description": f"{about['why']} {_counted(rows)}",
        "target": {
            "type": "objective-id",
            "target-id": f"{control}_obj",
            "status": {"state": "not-satisfied" if against else "satisfied"},
        },
        "related-observations": [{"observation-uuid": name(control, title)} for title in (*groups, *single)],
        **({"remarks": "\n\n".join(waived)} if waived else {}),
    }


def _counted(rows: Iterable[Mapping]) -> str:
    found = Counter(row["verdict"] for row in rows)
    return f"{found.total()} checks: {', '.join(f'{count} {verdict}' for verdict, count in sorted(found.items()))}."


def _ids(found: Iterable[str]) -> list[dict]:
    return [{"control-id": control} for control in found]


def _plan(run: Mapping, uuid: str) -> dict:
    return {
        "uuid": uuid,
        "title": "The plan: the runbook's notebooks and their tables of probes",
        "description": f"notebooks/ and lib/probes/tables/ at commit {run['commit'] or '(none)'}"
        + (", with changes that are not in it." if run["dirty"] else "."),
        "rlinks": [{"href": "run.json", "media-type": "application/json"}],
    }
