"""Holes, made on purpose in a sound mesh: the probes see each and name it, from within and pointed at it from outside.

The mesh is met by the road of ENV=existing: a kubeconfig, and nothing of the environment that made it.
"""

from __future__ import annotations

import csv
import shlex
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from lib import params
from lib.istio import policies
from lib.names import PROBES, STRANGERS
from lib.polling import wait
from lib.probes import model, workloads
from lib.probes.targets import this_mesh
from lib.record.events import Record
from lib.run import Run
from lib.steps import endpoints, tokens
from tests.support.runbook import ROOT, python
from tests.support.unguarded import permit_plain_text

pytestmark = pytest.mark.sandbox

NAME, SYSTEM = "httpbin", "istio-system"
WATCHED = ("A01", "A02", "A03", "A04", "A05", "D13a", "D17", "G01", "G26", "G27", "G28", "G29")
OTHERS = "other-rules"  # a field manager: the runbook's own applies leave its labels alone
PATIENCE = 60  # seconds until a hole, or its mending, is seen by all


@dataclass(frozen=True)
class Hole:
    """How it is made, the probes that must turn red with what they get then, and those that one sees from outside."""

    make: Callable[[Run], None]
    red: dict[str, str]
    outside: set[str]


def own(run: Run, *files: str) -> list[dict]:
    names = {"name": NAME, "issuer": endpoints.issuer(run), "jwks_uri": endpoints.jwks_uri(run)}
    return [thing for file in files for thing in run.load(f"{file}.yaml", **names)]


def delete(run: Run, file: str) -> None:
    run.delete(own(run, file)[0])


def drop_the_audience(run: Run) -> None:
    (authentication,) = own(run, "request-authentication")
    del authentication["spec"]["jwtRules"][0]["audiences"]
    run.apply([authentication])


def allow_all(run: Run) -> None:
    (policy,) = own(run, "figure-2")
    metadata = {**policy["metadata"], "name": "everybody"}
    run.apply([{**policy, "metadata": metadata, "spec": {"action": "ALLOW", "rules": [{}]}}])


def exclude_the_port(run: Run) -> None:
    things = own(run, "httpbin")
    deployment = next(thing for thing in things if thing["kind"] == "Deployment")
    notes = {"traffic.sidecar.istio.io/excludeInboundPorts": "8080"}
    deployment["spec"]["template"]["metadata"]["annotations"] = notes
    run.apply(things)
    rolled_out(run)


def mistype_the_selector(run: Run) -> None:
    (policy,) = own(run, "figure-2")
    policy["spec"]["selector"]["matchLabels"]["app"] = "htpbin"
    run.apply([policy])


def mend(run: Run) -> None:
    (policy,) = own(run, "figure-2")
    run.delete({**policy, "metadata": {**policy["metadata"], "name": "everybody"}})
    run.apply(own(run, "peer-authentication", "request-authentication", "figure-2", "httpbin"))
    rolled_out(run)


def rolled_out(run: Run) -> None:
    run.cluster.wait_rolled_out("Deployment", NAME, run.params.namespace, PATIENCE)


ANYBODY = {"A01": "200 app", "A03": "200 app", "A05": "200 app", "G29": "200 app, 401 J18, 200 app"}
PLAIN_TEXT = {
    "G01a": "403 R",
    "G01b": "403 R",
    "G01c": "401 J18",
    "G26a": "403 R",
    "G27": "403 R",
    "G28a": "403 R, 403 R",
}
AROUND = {"G01a": "200 app", "G01b": "200 app", "G26b": "200 app", "G27": "200 app", "G28a": "200 app, 200 app"}
HOLES = {
    "the audience dropped": Hole(drop_the_audience, {"D13a": "200 app", "D17a": "200 app"}, {"D13a"}),
    "PERMISSIVE": Hole(permit_plain_text, PLAIN_TEXT, set()),
    "no AuthorizationPolicy": Hole(lambda run: delete(run, "figure-2"), ANYBODY, {"A01"}),
    "no RequestAuthentication": Hole(
        lambda run: delete(run, "request-authentication"),
        {"A02": "403 R", "A03b": "403 R", "A04": "403 R", "D13a": "403 R", "G29": "403 R, 403 R, 403 R"},
        {"A02", "D13a"},
    ),
    "ALLOW for all": Hole(allow_all, ANYBODY, {"A01"}),
    "the port excluded": Hole(exclude_the_port, {**AROUND, "A02": "503 upstream"}, {"A02"}),
    "a mistyped selector": Hole(mistype_the_selector, ANYBODY, {"A01"}),
}


@pytest.fixture
def here(first, monkeypatch) -> Run:
    monkeypatch.setenv("KUBECONFIG", str(ROOT / ".kube" / "dev"))
    mine = params.load("dev").model_dump().items()
    about = {key: value for key, value in mine if key.endswith(("_image", "_tag")) or key == "gateway_api"}
    return Run("11-testing", params.load("existing", about), Record())


@pytest.mark.parametrize("name", HOLES)
def test_a_hole_is_seen_from_within_and_from_outside(here, name, tmp_path):
    hole = HOLES[name]
    probes = [probe for probe in model.load() if not probe.world and probe.id.startswith(WATCHED)]
    red = lambda: {one.id: one.got for one in this_mesh.ask(here, "figure-2", probes=probes) if one.verdict == "fail"}  # noqa: E731
    try:
        hole.make(here)
        named = lambda: {id: got for id, got in red().items() if id in hole.red}  # noqa: E731
        wait(f"{hole.red} seen", named, lambda got: got == hole.red, deadline=PATIENCE)
        assert {id for id in pointed(here, tmp_path) if id in hole.red} == hole.outside
    finally:
        mend(here)
        wait(f"{name} mended", red, lambda got: not got, deadline=PATIENCE)


@pytest.mark.parametrize("name", ["typo", "no-gateway"])
def test_a_policy_without_effect_that_finds_its_workload_is_seen(here, name):
    """E11 is green while neither policy protects anything; each alone turns it red once it selects the workload."""
    (probe,) = [one for one in model.load() if one.id == "E11"]
    live = here.cluster.get(policies.API, policies.RULES, name, PROBES)
    policy = {**live, "metadata": {"name": name, "namespace": PROBES}}
    got = lambda: this_mesh.ask(here, "typo", probes=[probe])[0].got  # noqa: E731
    kept = {key: value for key, value in live["spec"].items() if key != "targetRefs"}
    try:
        here.apply([{**policy, "spec": {**kept, "selector": {"matchLabels": {"app": "typo"}}}}])
        wait("E11 refused", got, lambda text: text == "403 R", deadline=PATIENCE)
    finally:
        here.apply([policy])
        wait("E11 mended", got, lambda text: text == "200 app", deadline=PATIENCE)


@contextmanager
def forbidding(run: Run):
    """Forbid pods with hostNetwork and node ports, as Pod Security and a quota do; delete the pod with hostNetwork."""
    place = {"name": workloads.NODE, "namespace": STRANGERS}
    node = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": place}
    label = {"pod-security.kubernetes.io/enforce": "baseline"}
    home = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": STRANGERS}}
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "no-node-ports", "namespace": run.params.namespace},
    }
    try:
        run.cluster.apply({**home, "metadata": {**home["metadata"], "labels": label}}, OTHERS)
        run.apply([{**quota, "spec": {"hard": {"services.nodeports": "0"}}}])
        run.delete(node)
        pods = lambda: run.cluster.items("v1", "Pod", STRANGERS, "app=node")  # noqa: E731
        wait("no pod with hostNetwork", pods, lambda found: not found, deadline=PATIENCE)
        yield
    finally:
        run.cluster.apply(home, OTHERS)
        run.delete(quota)


def test_a_cluster_that_forbids_hostnetwork_and_node_ports_is_not_red(here):
    probes = [one for one in model.load() if one.id in ("G26a", "G27", "G28a")]
    with forbidding(here):
        workloads.ensure(here)
        assert not here.cluster.find("apps/v1", "Deployment", workloads.NODE, STRANGERS)
        found = {one.id: (one.verdict, one.note) for one in this_mesh.ask(here, "figure-2", probes=probes)}
    why = {name: note for name, (verdict, note) in found.items() if verdict == "skipped"}
    assert 'violates PodSecurity "baseline:latest"' in why["G26a"] and "host namespaces" in why["G27"]
    assert "exceeded quota: no-node-ports" in why["G28a"]
    workloads.ensure(here)
    workloads.wait(here)
    assert {one.verdict for one in this_mesh.ask(here, "figure-2", probes=probes)} == {"pass"}


def test_a_sound_mesh_is_sound_from_outside(here, tmp_path):
    assert pointed(here, tmp_path) == set()


def pointed(here: Run, folder) -> set[str]:
    """Return the ids of the probes that are red for who knows only the mesh's address, its issuer and a user."""
    found = folder / "found.csv"

    def command(client: str) -> str:
        file = folder / f"token-{client}"
        file.write_text(tokens.user_token(here, client))
        return shlex.join(["cat", str(file)])

    words = [
        "--url",
        f"{endpoints.ingress_url(here)}/headers",
        "--host",
        f"{NAME}.example",
        "--issuer",
        endpoints.issuer(here),
    ]
    words += ["--audience", here.params.client_id, "--token-command", command("")]
    words += ["--ca", str(ROOT / ".kube" / "dev-ca.pem")]
    words += ["--token", f"no audience={command('no-audience')}", "--families", ",".join(WATCHED), "--rate", "100"]
    done = python("-m", "lib.probes", *words, "--csv", str(found), limit=120)
    with found.open() as file:
        red = {row["id"] for row in csv.DictReader(file) if row["verdict"] == "fail"}
    assert done.returncode == bool(red)
    return red
