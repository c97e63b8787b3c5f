"""The OSCAL documents beside a run's assessment results: the assessment plan, and the component definition.

The plan has an activity for each line of evidence in controls.yml, and a task for each control. The component
definition says how the workload implements each control.
Source: OSCAL 1.2.1, assessment-plan and component-definition models.
"""

from __future__ import annotations

from collections.abc import Iterable

from lib.bundle.controls import Control, EvidenceLine, load
from lib.bundle.oscal.risks import Uuid, prop, unless_empty

PLAN, COMPONENTS = "assessment-plan.json", "component-definition.json"
COMPONENT = {
    "type": "service",
    "title": "A workload behind Istio with Keycloak as issuer",
    "description": "An application whose gateway and sidecars authenticate end users by Keycloak's tokens and services "
    "by mutual TLS, and authorize each request.",
}


def plan(run: dict, metadata: dict, uuid: Uuid) -> dict:
    """Return the assessment plan of a run: `run` is the content of run.json, `metadata` that of the document."""
    subjects = {"type": "component", "include-subjects": [{"subject-uuid": uuid("component"), "type": "component"}]}
    return {
        "uuid": uuid("assessment-plan"),
        "metadata": metadata,
        "import-ssp": {"href": f"#{uuid('system')}"},
        "local-definitions": {
            "components": [{"uuid": uuid("component"), **COMPONENT, "status": {"state": "operational"}}],
            "activities": [_activity(control, line, uuid) for control in load() for line in control.evidence],
        },
        "reviewed-controls": selected("Controls of NIST SP 800-53 rev. 5, each in part.", load()),
        "assessment-subjects": [subjects],
        "tasks": [_task(control, subjects, uuid) for control in load()],
        "back-matter": {"resources": [_system(uuid), _notebooks(run, uuid), catalogue(uuid)]},
    }


def components(run: dict, metadata: dict, uuid: Uuid) -> dict:
    """Return the component definition of a run's workload; the arguments are those of `plan`."""
    versions = [f"{name} {value}" for name, value in run["versions"]["cluster"].items() if f"{name}{value}".strip()]
    implementation = {
        "uuid": uuid("implementation"),
        "source": f"#{uuid('catalogue')}",
        "description": "How the workload implements a part of each control. The assessment plan has the checks of it.",
        "links": [{"href": PLAN, "rel": "assessment-plan"}],
        "implemented-requirements": [_implemented(control, uuid) for control in load()],
    }
    component = {
        "uuid": uuid("component"),
        **COMPONENT,
        **unless_empty("props", [prop("version", one) for one in versions]),
        "control-implementations": [implementation],
    }
    return {
        "uuid": uuid("component-definition"),
        "metadata": metadata,
        "components": [component],
        "back-matter": {"resources": [catalogue(uuid), _indicators(uuid)]},
    }


def indicators(control: Control) -> list[dict[str, str]]:
    """Return a property for each of FedRAMP's Key Security Indicators that lists the control."""
    return [prop("fedramp-20x-ksi", number) for number in control.ksi]


def selected(description: str, controls: Iterable[Control]) -> dict:
    """Return OSCAL's selection of controls."""
    chosen = [{"control-id": control.id} for control in controls]
    return {"control-selections": [{"description": description, "include-controls": chosen}]}


def selection(line: EvidenceLine, table: str) -> str:
    """Return the conditions with which a line of evidence selects rows of a table, "" if it selects none."""
    kinds = ("steps", "words") if table == "checks.csv" else ("probes", "figures", "callers", "tokens")
    return "; ".join(f"{kind} {', '.join(getattr(line, kind))}" for kind in kinds if getattr(line, kind))


def catalogue(uuid: Uuid) -> dict:
    """Return the resource that is the catalogue of controls."""
    return {
        "uuid": uuid("catalogue"),
        "title": "The catalogue of controls",
        "citation": {"text": "NIST SP 800-53 rev. 5, Security and Privacy Controls, doi:10.6028/NIST.SP.800-53r5"},
    }


def _activity(control: Control, line: EvidenceLine, uuid: Uuid) -> dict:
    rows = {table: selection(line, table) for table in ("checks.csv", "responses.csv")}
    where = " and ".join(f"of {table}, the rows with {words}" for table, words in rows.items() if words)
    return {
        "uuid": uuid(f"activity {control.id} {line.what}"),
        "title": f"{control.name}: {line.what}",
        "description": f"The notebooks send the requests and compare each answer. The results are, {where}.",
        "related-controls": selected(f"The evidence is of a part of {control.name}.", [control]),
    }


def _task(control: Control, subjects: dict, uuid: Uuid) -> dict:
    activities = [uuid(f"activity {control.id} {line.what}") for line in control.evidence]
    return {
        "uuid": uuid(f"task {control.id}"),
        "type": "action",
        "title": f"{control.name} {control.title}",
        "description": "It is satisfied if a row of each activity passed and no row failed, broke or was waived.",
        "associated-activities": [{"activity-uuid": one, "subjects": [subjects]} for one in activities],
    }


def _implemented(control: Control, uuid: Uuid) -> dict:
    return {
        "uuid": uuid(f"implemented {control.id}"),
        "control-id": control.id,
        "description": " ".join(control.why.split()),
        **unless_empty("props", indicators(control)),
        "links": [{"href": f"{PLAN}#{uuid(f'task {control.id}')}", "rel": "assessment-task"}],
    }


def _system(uuid: Uuid) -> dict:
    return {
        "uuid": uuid("system"),
        "title": "The system: no security plan, its component definition",
        "description": "A run knows a workload and its mesh, not the whole system. The system's owner has its plan.",
        "rlinks": [{"href": COMPONENTS}],
    }


def _notebooks(run: dict, uuid: Uuid) -> dict:
    ran = [row["step"] for row in run["steps"] if row["verdict"] != "not run"]
    at = f"commit {run['commit']}{', with changes that are not in it' if run['dirty'] else ''}"
    return {
        "uuid": uuid("plan"),
        "title": "The plan: the notebooks",
        "description": f"The notebooks at {at} hold every request and its expected answer. "
        "lib/bundle/controls.yml maps them to controls. The links lead to the copies that this run executed.",
        **unless_empty("rlinks", [{"href": f"notebooks/{step}.ipynb"} for step in ran]),
    }


def _indicators(uuid: Uuid) -> dict:
    return {
        "uuid": uuid("indicators"),
        "title": "FedRAMP's Key Security Indicators",
        "description": "A property fedramp-20x-ksi names an indicator for which FedRAMP lists the control. "
        "The checks are evidence of the control's part, not of the whole indicator.",
        "citation": {"text": "FedRAMP Consolidated Rules 2026.07.14.01, github.com/FedRAMP/rules, KSI"},
    }
