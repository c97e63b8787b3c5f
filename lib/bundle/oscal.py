"""A run as an OSCAL assessment-results file: what its checks say of controls, for those who read controls, not meshes.

Observations: one for each line of evidence in controls.yml that found rows, with counts, and one for each row that did
not pass. Findings: one for each control that can be judged. Risks: see lib.risks. The same run gives the same bytes.
"""

from __future__ import annotations

import json
from uuid import UUID, uuid5

from lib.bundle import risks
from lib.bundle.controls import Control, Evidence, load
from lib.bundle.risks import Risk, Uuid, prop
from lib.record import row as record_row

FILE = "assessment-results.json"
VERSION = "1.2.1"  # of OSCAL
SPACE = UUID("6f0c4c53-6d1b-5b0e-9c55-1a2f1b7f9d10")  # in which a run's identity makes its UUIDs
SINGLE = 500  # rows that did not pass and are told one by one; with more all is broken, and the tables have it

Found = list[tuple[Evidence, list[dict]]]


def document(run: dict, tables: dict[str, list[dict]]) -> str:
    """Return assessment-results.json of a run: run.json's content, and the bundle's tables by file name."""
    uuid = _uuids(run)
    content = {
        "uuid": uuid("assessment-results"),
        "metadata": _metadata(run, uuid),
        "import-ap": {"href": f"#{uuid('plan')}"},
        "results": [_result(run, tables, uuid)],
        "back-matter": {"resources": _resources(run, uuid)},
    }
    return json.dumps({"assessment-results": content}, indent=1, ensure_ascii=False) + "\n"


def judged(found: Found) -> str:
    """Return what the rows of a control's lines of evidence say: satisfied, not-satisfied, or "" for too little.

    What failed or was waived is not satisfied. An error leaves the control without a judgement, and so does a line of
    evidence of which nothing passed.
    """
    lines = [record_row.counts(rows) for _, rows in found]
    if any("fail" in line or "waived" in line for line in lines):
        return "not-satisfied"
    return "satisfied" if all("pass" in line and "error" not in line for line in lines) else ""


def _uuids(run: dict) -> Uuid:
    identity = [run[key] for key in ("env", "started", "finished", "commit", "user", "host")]
    space = uuid5(SPACE, json.dumps(identity))
    return lambda name: str(uuid5(space, name))


def _metadata(run: dict, uuid: Uuid) -> dict:
    return {
        "title": f"End-user authentication with Istio and Keycloak: a run on {run['env']}",
        "last-modified": run["finished"],
        "version": run["started"],
        "oscal-version": VERSION,
        "props": [prop("commit", run["commit"] or "none"), prop("dirty", str(run["dirty"]).lower())],
        "roles": [{"id": "assessor", "title": "Who ran the checks"}],
        "parties": [{"uuid": uuid("assessor"), "type": "person", "name": f"{run['user']} on {run['host']}"}],
        "responsible-parties": [{"role-id": "assessor", "party-uuids": [uuid("assessor")]}],
    }


def _result(run: dict, tables: dict[str, list[dict]], uuid: Uuid) -> dict:
    rows = [{**row, "table": name} for name in ("checks.csv", "responses.csv") for row in tables[name]]
    controls = [(one, [(line, [row for row in rows if line.covers(row)]) for line in one.evidence]) for one in load()]
    bad = [(number, row) for number, row in enumerate(rows) if record_row.verdict(row) != "pass"]
    single = {id(row): _single(row, uuid(f"row {number}")) for number, row in bad[:SINGLE]}
    groups = [_group(one, line, some, uuid) for one, found in controls for line, some in found if some]
    known = risks.waivers(rows, uuid) + risks.weaknesses(rows, uuid)
    findings = [_finding(one, found, single, known, uuid) for one, found in controls if judged(found)]
    left = len(bad) - len(single)
    return {
        "uuid": uuid("result"),
        "title": f"{run['env']}, {run['started']}: {run['verdict']}",
        "description": f"{record_row.told(rows)}. {_steps(run)}.",
        "start": run["started"],
        "end": run["finished"],
        "reviewed-controls": _reviewed([one for one, found in controls if any(some for _, some in found)]),
        **_unless_empty("observations", [*groups, *single.values()]),
        **_unless_empty("risks", [risk.content for risk in known]),
        **_unless_empty("findings", findings),
        **({"remarks": f"{left} more rows did not pass; the tables have them all."} if left else {}),
    }


def _steps(run: dict) -> str:
    other = [f"{row['step']} ({row['verdict']})" for row in run["steps"] if row["verdict"] != "pass"]
    return f"Steps that did not pass: {', '.join(other)}" if other else f"All {len(run['steps'])} steps passed"


def _reviewed(touched: list[Control]) -> dict:
    said = "Controls of NIST SP 800-53 rev. 5; the checks of this run are evidence of a part of each."
    if not touched:
        said = "No check of this run is evidence of a control; these are the controls that others would be of."
    chosen = [{"control-id": control.id} for control in touched or load()]
    return {"control-selections": [{"description": said, "include-controls": chosen}]}


def _group(control: Control, line: Evidence, rows: list[dict], uuid: Uuid) -> dict:
    tables = [table for table in ("checks.csv", "responses.csv") if any(row["table"] == table for row in rows)]
    steps = dict.fromkeys(row["step"] for row in rows)
    return {
        "uuid": uuid(f"{control.id} {line.what}"),
        "title": f"{control.name}: {line.what}",
        "description": f"{record_row.told(rows)}.",
        "props": [prop(name, count) for name, count in record_row.counts(rows).items()],
        "methods": ["TEST"],
        "types": ["control-objective"],
        "collected": max(row["at"] for row in rows),
        "relevant-evidence": [
            *({"href": table, "description": f"the rows: {_selection(line, table)}"} for table in tables),
            *({"href": f"html/{step}.html", "description": f"{step} as it ran"} for step in steps),
        ],
    }


def _selection(line: Evidence, table: str) -> str:
    """Return how an observation's rows are found again."""
    kinds = ("steps", "words") if table == "checks.csv" else ("probes", "figures", "callers", "tokens")
    return "; ".join(f"{kind} {', '.join(getattr(line, kind))}" for kind in kinds if getattr(line, kind))


def _single(row: dict, uuid: str) -> dict:
    got, why = row["actual"] if "name" in row else row["got"], record_row.why(row)
    return {
        "uuid": uuid,
        "title": f"{record_row.verdict(row)}: {record_row.name(row)}",
        "description": f"Expected {row['expected']}, got {got or 'nothing'}{f'; {why}' if why else ''}.",
        "props": [prop("verdict", record_row.verdict(row))],
        "methods": ["TEST"],
        "types": ["finding"],
        "collected": row["at"],
        "relevant-evidence": [{"href": row["table"], "description": f"the row of {row['step']} at {row['at']}"}],
    }


def _finding(control: Control, found: Found, single: dict[int, dict], known: list[Risk], uuid: Uuid) -> dict:
    rows = list({id(row): row for _, some in found for row in some}.values())
    state, mine = judged(found), [risk.content for risk in known if risk.touches(rows)]
    unknown = [f"{count} {name}" for name, count in record_row.counts(rows).items() if name in ("error", "skipped")]
    waived = [risk["title"] for risk in mine if risk["status"] == "deviation-approved"]
    said = [*waived, *([f"Not judged: {', '.join(unknown)}"] if unknown else [])]
    groups = [uuid(f"{control.id} {line.what}") for line, some in found if some]
    seen = [*groups, *(single[id(row)]["uuid"] for row in rows if id(row) in single)]
    status = {"state": state, "reason": "fail" if state == "not-satisfied" else "other" if unknown else "pass"}
    return {
        "uuid": uuid(f"finding {control.id}"),
        "title": f"{control.name} {control.title}: {state}",
        "description": f"{' '.join(control.why.split())} {record_row.told(rows)}.",
        "target": {
            "type": "statement-id",
            "target-id": f"{control.id}_smt",
            "status": {**status, **({"remarks": f"{'. '.join(said)}."} if said else {})},
        },
        "related-observations": [{"observation-uuid": one} for one in seen],
        **_unless_empty("related-risks", [{"risk-uuid": risk["uuid"]} for risk in mine]),
    }


def _resources(run: dict, uuid: Uuid) -> list[dict]:
    ran = [row["step"] for row in run["steps"] if row["verdict"] != "not run"]
    at = f"commit {run['commit']}{', with changes that are not in it' if run['dirty'] else ''}"
    return [
        {
            "uuid": uuid("plan"),
            "title": "The plan: the notebooks",
            "description": f"What is asked, and what must come back, is in the notebooks at {at}; "
            "lib/bundle/controls.yml maps it to controls. These are the copies that this run executed.",
            **_unless_empty("rlinks", [{"href": f"notebooks/{step}.ipynb"} for step in ran]),
        },
        {
            "uuid": uuid("catalogue"),
            "title": "The catalogue of controls",
            "citation": {"text": "NIST SP 800-53 rev. 5, Security and Privacy Controls, doi:10.6028/NIST.SP.800-53r5"},
        },
    ]


def _unless_empty(name: str, values: list) -> dict[str, list]:
    """OSCAL knows no empty lists."""
    return {name: values} if values else {}
