"""The OSCAL assessment results of a run: what its checks say about the controls of NIST SP 800-53.

There is an observation for each line of evidence in controls.yml that selects rows, with counts, and an observation for
each row that did not pass. There is a finding for each control that can be judged. lib.bundle.oscal.risks makes the
risks. Source: OSCAL 1.2.1, assessment-results model.
"""

from __future__ import annotations

from lib.bundle.controls import Control, EvidenceLine, load
from lib.bundle.oscal import plan, risks
from lib.bundle.oscal.risks import Risk, Uuid, prop, unless_empty
from lib.record import row as record_row

RESULTS = "assessment-results.json"
SINGLE = 500  # observations of rows that did not pass, at most; the tables have every row

Lines = list[tuple[EvidenceLine, list[dict]]]  # a control's lines of evidence, each with its rows


def results(run: dict, tables: dict[str, list[dict]], metadata: dict, uuid: Uuid) -> dict:
    """Return the assessment results of a run.

    Args:
        run: the content of run.json.
        tables: the bundle's rows by file name.
        metadata: the metadata of the document.
        uuid: returns the UUID of a name.
    """
    return {
        "uuid": uuid("assessment-results"),
        "metadata": metadata,
        "import-ap": {"href": plan.PLAN},
        "results": [_result(run, tables, uuid)],
        "back-matter": {"resources": [plan.catalogue(uuid)]},
    }


def judgement(lines: Lines) -> str:
    """Return satisfied, not-satisfied, or "" if the evidence is not enough to judge a control.

    A failed or waived row makes the control not-satisfied. Otherwise an error, or a line of evidence without a passed
    row, leaves the control without judgement.
    """
    counts = [record_row.counts(rows) for _, rows in lines]
    if any("fail" in count or "waived" in count for count in counts):
        return "not-satisfied"
    return "satisfied" if all("pass" in count and "error" not in count for count in counts) else ""


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
        **unless_empty("observations", [*groups, *single.values()]),
        **unless_empty("risks", [risk.content for risk in known]),
        **unless_empty("findings", findings),
        **({"remarks": f"{left} more rows did not pass; the tables have every row."} if left else {}),
    }


def _steps(run: dict) -> str:
    other = [f"{row['step']} ({row['verdict']})" for row in run["steps"] if row["verdict"] != "pass"]
    return f"Steps that did not pass: {', '.join(other)}" if other else f"All {len(run['steps'])} steps passed"


def _reviewed(with_evidence: list[Control]) -> dict:
    description = "Controls of NIST SP 800-53 rev. 5. The checks of this run are evidence of a part of each control."
    if not with_evidence:
        description = "No check of this run is evidence of a control. A complete run has evidence of these controls."
    return plan.selected(description, with_evidence or load())


def _group(control: Control, line: EvidenceLine, rows: list[dict], uuid: Uuid) -> dict:
    tables = [table for table in ("checks.csv", "responses.csv") if any(row["table"] == table for row in rows)]
    steps = dict.fromkeys(row["step"] for row in rows)
    return {
        "uuid": uuid(f"{control.id} {line.what}"),
        "title": f"{control.name}: {line.what}",
        "description": f"{record_row.summary(rows)}.",
        "props": [prop(name, count) for name, count in record_row.counts(rows).items()],
        "methods": ["TEST"],
        "types": ["control-objective"],
        "origins": [
            {
                "actors": [{"type": "party", "actor-uuid": uuid("assessor")}],
                "related-tasks": [{"task-uuid": uuid(f"task {control.id}")}],
            }
        ],
        "subjects": [{"subject-uuid": uuid("component"), "type": "component"}],
        "collected": max(row["at"] for row in rows),
        "relevant-evidence": [
            *({"href": table, "description": f"the rows: {plan.selection(line, table)}"} for table in tables),
            *({"href": f"html/{step}.html", "description": f"{step} as it ran"} for step in steps),
        ],
    }


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
        **unless_empty("props", plan.indicators(control)),
        "links": [{"href": f"{plan.COMPONENTS}#{uuid(f'implemented {control.id}')}", "rel": "implementation"}],
        "target": {
            "type": "statement-id",
            "target-id": f"{control.id}_smt",
            "status": {**status, **({"remarks": f"{'. '.join(remarks)}."} if remarks else {})},
        },
        "related-observations": [{"observation-uuid": one} for one in observations],
        **unless_empty("related-risks", [{"risk-uuid": risk["uuid"]} for risk in related]),
    }
