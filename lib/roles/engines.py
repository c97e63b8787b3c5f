"""Engines beside the mesh's own policies: an authorizer that decides by Rego (OPA) or CEL, by the same matrix."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import pandas as pd

from lib.istio.extension_providers import AUTHORIZER
from lib.names import ROLES
from lib.params import ROOT
from lib.roles import application, people
from lib.roles.matrix import NO_ROLE, NO_TOKEN, Matrix, Row
from lib.roles.policies import Claim
from lib.run import Run
from lib.steps import endpoints

POLICIES = ROOT / "notebooks" / "roles" / "policies"
WORKLOADS = {"mesh": application.NAME, "opa": "roles-opa", "cel": "roles-cel"}
DECODE, RULE = "roles-decode", "roles-rule"  # a policy that only decodes: alone, and with a rule of the mesh behind it
CUSTOM = (WORKLOADS["opa"], DECODE, RULE)  # workloads that the authorizer guards before Envoy's JWT filter
VERIFIED = (WORKLOADS["cel"], RULE)  # workloads whose sidecar verifies tokens
WITHOUT = "the params name no authorizer_image (docs/roles.md): the mesh decides alone"


def chosen(run: Run) -> list[str]:
    """Return the engines that decide: those of the params, without the authorizer's if the params name no image."""
    return [one for one in run.params.role_engines if one == "mesh" or run.params.authorizer_image]


def authorizers(run: Run) -> list[str]:
    """Return the chosen engines that an authorizer runs."""
    return [one for one in chosen(run) if one != "mesh"]


def apply(run: Run, found: Matrix) -> pd.DataFrame:
    """Apply the authorizer with the policies, and the workloads that it guards; wait until they are ready."""
    for engine in run.params.role_engines:
        if engine not in chosen(run):
            run.skip(f"the matrix under the engine {engine}", "every cell", WITHOUT)
    if not authorizers(run):
        return run.recent()
    applied = run.apply(objects(run, found))
    for name in (AUTHORIZER, *CUSTOM, *VERIFIED):
        application.wait(run, name)
    return applied


def objects(run: Run, found: Matrix) -> list[dict]:
    """Return the authorizer, its policies as a ConfigMap, and the guarded workloads."""
    tokens = {"issuer": endpoints.issuer(run), "jwks_uri": endpoints.jwks_uri(run)}
    made = authorizer(run, files(run, found))
    for name in dict.fromkeys((*CUSTOM, *VERIFIED)):
        made += application.workload(run, name)
    for name in CUSTOM:
        made += custom(run, name)
    for name in VERIFIED:
        made += run.load("roles/application.yaml", name=name, **tokens)
    made += run.load("roles/after-jwt.yaml", name=WORKLOADS["cel"])
    return made + run.load("roles/principal.yaml", name=RULE, issuer=tokens["issuer"])


def authorizer(run: Run, files: Mapping[str, str]) -> list[dict]:
    """Return the authorizer with these files."""
    metadata = {"name": AUTHORIZER, "namespace": ROLES}
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": dict(files)}
    return authorizer_of(run, config, ROLES)


def authorizer_of(run: Run, files: dict, callers: str) -> list[dict]:
    """Return an authorizer with its files. Other files have another digest, which starts the authorizer again.

    Args:
        run: The step.
        files: A ConfigMap or a Secret. The authorizer has its name and namespace.
        callers: The namespace whose workloads may ask.
    """
    name, home = files["metadata"]["name"], files["metadata"]["namespace"]
    volume = {"ConfigMap": f"configMap: {{name: {name}}}", "Secret": f"secret: {{secretName: {name}}}"}[files["kind"]]
    digest = hashlib.sha256(json.dumps(files["data"]).encode()).hexdigest()[:16]
    values = {"name": name, "home": home, "callers": callers, "files": volume, "digest": digest}
    return [files, *run.load("roles/authorizer.yaml", **values)]


def custom(run: Run, name: str, provider: str = AUTHORIZER) -> list[dict]:
    """Return the policy that sends a workload's requests to an external authorizer."""
    return run.load("roles/custom.yaml", name=name, provider=provider)


def files(run: Run, found: Matrix) -> dict[str, str]:
    """Return the authorizer's files for this mesh, with the keys that the realm publishes now."""
    return policy_files(data(found, endpoints.issuer(run), run.params.client_id, endpoints.published_keys(run)))


def data(found: Matrix, issuer: str, audience: str, keys: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what the policies read: the matrix as rows for each claim, and what a token must have.

    Args:
        found: The matrix.
        issuer: The issuer of the tokens that count.
        audience: The audience of the tokens that count.
        keys: The issuer's public keys, as JWKs.
    """
    rows: dict[str, list[dict]] = {}
    for claim in people.CLAIMS:
        for row in application.of_claim(found, claim).rows:
            rows.setdefault(row.method, []).append(_row(row, claim))
    return {
        "rows": rows,
        "issuer": issuer,
        "audience": audience,
        "jwks": {"keys": sorted(keys, key=lambda key: key["kid"])},
    }


def policy_files(data: Mapping[str, Any]) -> dict[str, str]:
    """Return the authorizer's files by name: data.json, and each policy named after the workload that it is for."""
    texts = {file.name: file.read_text() for file in sorted(POLICIES.iterdir())}
    texts[f"{RULE}.rego"] = texts[f"{DECODE}.rego"]
    cel = f"{WORKLOADS['cel']}.cel"
    texts[cel] = texts[cel].replace("${held}", _held())
    return {"data.json": json.dumps(data, indent=1, sort_keys=True), **texts}


def _row(row: Row, claim: Claim) -> dict[str, Any]:
    who = "anybody" if NO_TOKEN in row.allowed else "user" if NO_ROLE in row.allowed else "role"
    values = [claim.value(role) for role in row.allowed] if who == "role" else []
    return {"path": row.path, "who": who, "values": values, "by": claim.name, "claim": claim.path, "key": claim.key}


def _held() -> str:
    """Return a CEL map from a claim's name to the roles there: CEL cannot walk a path that data names."""
    places = {claim.name: "".join(f"[?{json.dumps(part)}]" for part in claim.path) for claim in people.CLAIMS}
    return "{" + ", ".join(f'"{name}": claims{place}.orValue([])' for name, place in places.items()) + "}"
