"""The authorizer's engines get the same matrix as the mesh, as data; without an image only the mesh decides."""

import json
from types import SimpleNamespace

import pytest

from lib.istio import extension_providers
from lib.roles import application, comparison, engines, matrix, people
from lib.roles.matrix import NO_ROLE, NO_TOKEN
from tests.support.little_cluster import Served, new_run, no_file_is_left  # noqa: F401

STATED = matrix.read(application.MATRIX)
KEYS = [{"kid": "b", "kty": "RSA"}, {"kid": "a", "kty": "RSA"}]


def data(stated=STATED):
    return engines.data(stated, "https://sso.example/realms/istio", "istio", KEYS)


def may(rows, claim, cell):
    """What the rows say about a cell: a reading of the data that is neither Rego nor CEL."""
    for row in rows.get(cell.method, []):
        if cell.path == row["path"] or (row["path"][-1] == "*" and cell.path.startswith(row["path"][:-1])):
            held = [] if cell.caller in (NO_ROLE, NO_TOKEN) else [claim.value(cell.caller)]
            if row["who"] == "anybody" or (row["who"] == "user" and cell.caller != NO_TOKEN):
                return True
            return row["by"] == claim.name and bool(set(held) & set(row["values"]))
    return False


@pytest.mark.parametrize("claim", people.CLAIMS, ids=lambda claim: claim.name)
def test_the_data_says_what_the_matrix_says(claim):
    rows = data()["rows"]
    assert [
        cell for cell in application.of_claim(STATED, claim).cells() if may(rows, claim, cell) is not cell.may
    ] == []


def test_each_guarded_workload_has_a_policy_named_after_it():
    files = engines.policy_files(data())
    names = {name.partition(".")[0] for name in files if name != "data.json"}
    assert names == {*engines.CUSTOM, *engines.VERIFIED}
    assert json.loads(files["data.json"])["jwks"]["keys"] == [KEYS[1], KEYS[0]]
    assert "${" not in "".join(files.values())


def test_only_the_policy_of_the_trap_believes_an_unverified_token():
    files = engines.policy_files(data())
    decoding = {name for name, text in files.items() if "io.jwt.decode(" in text}
    assert decoding == {f"{engines.DECODE}.rego", f"{engines.RULE}.rego"}
    assert "io.jwt.decode_verify(" in files["roles-opa.rego"]


def test_cel_reads_each_claim_step_by_step():
    text = engines.policy_files(data())["roles-cel.cel"]
    assert '"client": claims[?"resource_access"][?"roles-app"][?"roles"].orValue([])' in text
    assert '"dotted": claims[?"my-app.user-roles"].orValue([])' in text


@pytest.mark.parametrize(("image", "left"), [("a/b:1", ["mesh", "cel"]), (None, ["mesh"])])
def test_without_an_image_the_mesh_decides_alone_and_the_record_says_why(image, left):
    skipped = []
    run = SimpleNamespace(
        params=SimpleNamespace(role_engines=["mesh", "cel"], authorizer_image=image),
        skip=lambda name, expected, why: skipped.append((name, why)),
        recent=lambda: "unchanged",
    )
    assert engines.chosen(run) == left
    if not image:
        assert engines.apply(run, STATED) == "unchanged"
        assert skipped == [("the matrix under the engine cel", engines.WITHOUT)]


def test_the_manifest_and_the_provider_name_the_same_service():
    run = new_run(Served(), authorizer_image="authorizer:1")
    (service,) = [one for one in engines.authorizer(run, {}) if one["kind"] == "Service"]
    (provider,) = [one for one in extension_providers.PROVIDERS if one["name"] == extension_providers.AUTHORIZER]
    metadata, (port,) = service["metadata"], service["spec"]["ports"]
    host = f"{metadata['name']}.{metadata['namespace']}.svc.cluster.local"
    settings = provider["envoyExtAuthzGrpc"]
    assert (settings["service"], settings["port"]) == (host, port["port"])


def test_a_decision_is_found_by_its_workload():
    lines = [
        "starting",
        json.dumps({"workload": "spiffe://cluster.local/ns/roles/sa/roles-opa", "cpu_microseconds": 1}),
        json.dumps({"workload": "spiffe://cluster.local/ns/roles/sa/roles-cel", "cpu_microseconds": 2}),
    ]
    cluster = SimpleNamespace(
        pod=lambda labels, namespace: {"metadata": {"name": "p"}}, logs=lambda *_: "\n".join(lines)
    )
    found = comparison.decisions(SimpleNamespace(cluster=cluster), "roles-cel", 0.0)
    assert [one["cpu_microseconds"] for one in found] == [2]
