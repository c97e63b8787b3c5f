"""A run as three OSCAL documents that refer to each other: assessment plan, component definition, assessment results.

A run always gives the same bytes. Source: OSCAL 1.2.1.
"""

from __future__ import annotations

import json
from uuid import UUID, uuid5

from lib.bundle.oscal import plan, results
from lib.bundle.oscal.risks import Uuid, prop

FILES = (plan.PLAN, plan.COMPONENTS, results.RESULTS)
VERSION = "1.2.1"  # of OSCAL
SPACE = UUID("6f0c4c53-6d1b-5b0e-9c55-1a2f1b7f9d10")  # the namespace of the UUIDs (RFC 9562, version 5)


def documents(run: dict, tables: dict[str, list[dict]]) -> dict[str, str]:
    """Return the content of FILES: `run` is the content of run.json, `tables` are the bundle's rows by file name."""
    uuid = _uuids(run)
    made = {
        plan.PLAN: {"assessment-plan": plan.plan(run, _metadata(run, uuid, "the plan of a run"), uuid)},
        plan.COMPONENTS: {
            "component-definition": plan.components(run, _metadata(run, uuid, "the workload of a run"), uuid)
        },
        results.RESULTS: {"assessment-results": results.results(run, tables, _metadata(run, uuid, "a run"), uuid)},
    }
    return {name: json.dumps(content, indent=1, ensure_ascii=False) + "\n" for name, content in made.items()}


def _uuids(run: dict) -> Uuid:
    identity = [run[key] for key in ("env", "started", "finished", "commit", "user", "host")]
    space = uuid5(SPACE, json.dumps(identity))
    return lambda name: str(uuid5(space, name))


def _metadata(run: dict, uuid: Uuid, what: str) -> dict:
    return {
        "title": f"End-user authentication with Istio and Keycloak: {what} on {run['env']}",
        "last-modified": run["finished"],
        "version": run["started"],
        "oscal-version": VERSION,
        "props": [prop("commit", run["commit"] or "none"), prop("dirty", str(run["dirty"]).lower())],
        "roles": [{"id": "assessor", "title": "Who ran the checks"}],
        "parties": [{"uuid": uuid("assessor"), "type": "person", "name": f"{run['user']} on {run['host']}"}],
        "responsible-parties": [{"role-id": "assessor", "party-uuids": [uuid("assessor")]}],
    }
