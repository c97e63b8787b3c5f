"""A run as OSCAL assessment results: what its checks say about the controls of NIST SP 800-53.

There is an observation for each line of evidence in controls.yml that selects rows, with counts, and an observation for
each row that did not pass. There is a finding for each control that can be judged. lib.bundle.risks makes the risks.
A run always gives the same bytes. Source: OSCAL 1.2.1, assessment-results model.
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
SPACE = UUID("6f0c4c53-6d1b-5b0e-9c55-1a2f1b7f9d10")  # the namespace of the UUIDs (RFC 9562, version 5)
SINGLE = 500  # observations of rows that did not pass, at most; the tables have every row

Lines = list[tuple[Evidence, list[dict]]]  # a control's lines of evidence, each with its rows


def document(run: dict, tables: dict[str, list[dict]]) -> str:
    """Return assessment-results.json: `run` is the content of run.json, `tables` are the bundle's rows by file name."""
    uuid = _uuids(run)
    content = {
        "uuid": uuid("assessment-results"),
        "metadata": _metadata(run, uuid),
        "import-ap": {"href": f"#{uuid('plan')}"},
        "results": [_result(run, tables, uuid)],
        "back-matter": {"resources": _resources(run, uuid)},
    }
    return json.dumps({"assessment-results": content}, indent=1, ensure_ascii=False) + "\n"


def judgement(lines: Lines) -> str:
    """Return satisfied, not-satisfied, or "" if the evidence is not enough to judge a control.

    A failed or waived row makes the control not-satisfied. Otherwise an error, or a line of evidence without a passed
    row, leaves the control without judgement.
    """
    counts = [record_row.counts(rows) for _, rows in lines]
    if any("fail" in count or "waived" in count for count in counts):
        return "not-satisfied"
    return "satisfied" if all("pass" in count and "error" not in count for count in counts) else ""


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
    controls = [
        (control, [(line, [row for row in rows if line.covers(row)]) for line in control.evidence])
        for control in load()
    ]
    bad = [(number, row) for number, row in enumerate(rows) if record_row.verdict(row) != "pass"]
    single = {id(row): _single(row, uuid(f"row {number}")) for number, row in bad[:SINGLE]}
    groups = [_group(control, line, some, uuid) for control, lines in controls for line, some in lines if some]
    known = risks.waivers(rows, uuid) + risks.weaknesses(rows, uuid)
    findings = [_finding(control, lines, single, known, uuid) for control, lines in controls if judgement(lines)]
    left = len(bad) - len(single)
    return {
        "uuid": uuid("result"),
        "title": f"{run['env']}, {run['started']}: {run['verdict']}",
        "description": f"{record_row.summary(rows)}. {_steps(run)}.",
        "start": run["started"],
        "end": run["finished"],
        "reviewed-controls": _reviewed([control for control, lines in controls if any(some for _, some in lines)]),
        **_unless_empty("observations", [*groups, *single.values()]),
        **_unless_empty("risks", [risk.content for risk in known]),
        **_unless_empty("findings", findings),
        **({"remarks": f"{left} more rows did not pass; the tables have every row."} if left else {}),
    }


def _steps(run: dict) -> str:
    other = [f"{row['step']} ({row['verdict']})" for row in run["steps"] if row["verdict"] != "pass"]
    return f"Steps that did not pass: {', '.join(other)}" if other else f"All {len(run['steps'])} steps passed"


def _reviewed(with_evidence: list[Control]) -> dict:
    description = "Controls of NIST SP 800-53 rev. 5. The checks of this run are evidence of a part of each control."
    if not with_evidence:
        description = "No check of this run is evidence of a control. A complete run has evidence of these controls."
    chosen = [{"control-id": control.id} for control in with_evidence or load()]
    return {"control-selections": [{"description": description, "include-controls": chosen}]}


def _group(control: Control, line: Evidence, rows: list[dict], uuid: Uuid) -> dict:
    tables = [table for table in ("checks.csv", "responses.csv") if any(row["table"] == table for row in rows)]
    steps = dict.fromkeys(row["step"] for row in rows)
    return {
        "uuid": uuid(f"{control.id} {line.what}"),
        "title": f"{control.name}: {line.what}",
        "description": f"{record_row.summary(rows)}.",
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
    """Return the conditions that select an observation's rows."""
    kinds = ("steps", "words") if table == "checks.csv" else ("probes", "figures", "callers", "tokens")
    return "; ".join(f"{kind} {', '.join(getattr(line, kind))}" for kind in kinds if getattr(line, kind))


def _single(row: dict, uuid: str) -> dict:
    got, reason = row["actual"] if "name" in row else row["got"], record_row.why(row)
    return {
        "uuid": uuid,
        "title": f"{record_row.verdict(row)}: {record_row.name(row)}",
        "description": f"Expected {row['expected']}, got {got or 'nothing'}{f'; {reason}' if reason else ''}.",
        "props": [prop("verdict", record_row.verdict(row))],
        "methods": ["TEST"],
        "types": ["finding"],
        "collected": row["at"],
        "relevant-evidence": [{"href": row["table"], "description": f"the row of {row['step']} at {row['at']}"}],
    }


def _finding(control: Control, lines: Lines, single: dict[int, dict], known: list[Risk], uuid: Uuid) -> dict:
    rows = list({id(row): row for _, some in lines for row in some}.values())
    state, related = judgement(lines), [risk.content for risk in known if risk.concerns(rows)]
    unknown = [f"{count} {name}" for name, count in record_row.counts(rows).items() if name in ("error", "skipped")]
    waived = [risk["title"] for risk in related if risk["status"] == "deviation-approved"]
    remarks = [*waived, *([f"Not judged: {', '.join(unknown)}"] if unknown else [])]
    groups = [uuid(f"{control.id} {line.what}") for line, some in lines if some]
    observations = [*groups, *(single[id(row)]["uuid"] for row in rows if id(row) in single)]
    status = {"state": state, "reason": "fail" if state == "not-satisfied" else "other" if unknown else "pass"}
    return {
        "uuid": uuid(f"finding {control.id}"),
        "title": f"{control.name} {control.title}: {state}",
        "description": f"{' '.join(control.why.split())} {record_row.summary(rows)}.",
        "target": {
            "type": "statement-id",
            "target-id": f"{control.id}_smt",
            "status": {**status, **({"remarks": f"{'. '.join(remarks)}."} if remarks else {})},
        },
        "related-observations": [{"observation-uuid": one} for one in observations],
        **_unless_empty("related-risks", [{"risk-uuid": risk["uuid"]} for risk in related]),
    }


def _resources(run: dict, uuid: Uuid) -> list[dict]:
    ran = [row["step"] for row in run["steps"] if row["verdict"] != "not run"]
    at = f"commit {run['commit']}{', with changes that are not in it' if run['dirty'] else ''}"
    return [
        {
            "uuid": uuid("plan"),
            "title": "The plan: the notebooks",
            "description": f"The notebooks at {at} hold every request and its expected answer. "
            "lib/bundle/controls.yml maps them to controls. The links lead to the copies that this run executed.",
            **_unless_empty("rlinks", [{"href": f"notebooks/{step}.ipynb"} for step in ran]),
        },
        {
            "uuid": uuid("catalogue"),
            "title": "The catalogue of controls",
            "citation": {"text": "NIST SP 800-53 rev. 5, Security and Privacy Controls, doi:10.6028/NIST.SP.800-53r5"},
        },
    ]


def _unless_empty(name: str, values: list) -> dict[str, list]:
    """Return the list by its name, or nothing if it is empty: OSCAL allows no empty list."""
    return {name: values} if values else {}
