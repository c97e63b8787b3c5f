"""The runbook on the sandbox: green, unchanged the second time, red when it should be, and nothing left."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from cryptography import x509

from lib import names, params
from lib.aws import clusters, kubeconfig, node_groups
from lib.aws import session as aws_session
from lib.errors import ClusterError
from lib.kubernetes import cluster
from lib.probes import model
from lib.runner import order
from tests.support import browser
from tests.support.runbook import ROOT, kubectl, python, rows, run
from tools import bench

pytestmark = pytest.mark.sandbox


def test_first_run_is_green_and_whole(first):
    steps = {path.name for path in order.numbered(ROOT / "notebooks")}
    assert {path.name for path in (first / "notebooks").glob("*.ipynb")} == steps and len(steps) == 16
    about = json.loads((first / "run.json").read_text())
    assert about["verdict"] == "pass" and about["exit_code"] == 0
    assert all(step["seconds"] > 0 for step in about["steps"])
    assert python("-m", "lib", "verify", str(first)).returncode == 0


def test_what_envoy_and_the_api_hold_is_kept_and_every_control_is_satisfied(first):
    kept = [thing for path in first.glob("objects/*.yaml") for thing in yaml.safe_load_all(path.read_text())]
    kinds = {thing["kind"] for thing in kept}
    assert {"RequestAuthentication", "AuthorizationPolicy", "PeerAuthentication", "Gateway"} <= kinds
    assert "Secret" not in kinds and all("uid" in thing["metadata"] for thing in kept)
    for name in ("12-httpbin-figure-1", "12-httpbin-hardened", "12-hardened-gateway", "10-ingressgateway"):
        listeners = (first / "mesh" / f"{name}.listeners.json").read_text()
        assert "jwt_authn" in listeners or name == "10-ingressgateway"
        chain = x509.load_pem_x509_certificates((first / "mesh" / f"{name}.certificates.pem").read_bytes())
        assert len(chain) >= 3 and "PRIVATE" not in listeners
    assert all(x509.load_pem_x509_certificates(file.read_bytes()) for file in first.glob("mesh/*.pem"))  # and the CA's
    (result,) = json.loads((first / "assessment-results.json").read_text())["assessment-results"]["results"]
    states = {one["target"]["target-id"]: one["target"]["status"]["state"] for one in result["findings"]}
    assert len(states) == 9 and set(states.values()) == {"satisfied"}
    assert all(value.startswith("sha256:") for value in json.loads((first / "run.json").read_text())["images"].values())


def test_its_pages_open_in_a_browser_and_are_accessible(first, tmp_path):
    with browser.chromium(tmp_path) as driver:
        for path in (first / "index.html", first / "html" / "12-figure-1.html"):
            driver.get(path.as_uri())
            assert browser.asked_for(driver) == [path.as_uri()] and browser.complaints(driver) == []
            assert browser.violations(driver) == []
            assert browser.shoot(driver, f"run-{path.stem}").stat().st_size > 50_000
        before, answered, after = driver.find_elements("css selector", "svg.built")  # what stood twice, and the answers
        about = json.loads((first / "run.json").read_text())
        assert about["addresses"]["issuer"] in answered.text and "route" in before.text
        assert {one.get_attribute("role") for one in (before, answered, after)} == {"img"}
        assert about["standing"]["may"]["httpbin-figure-1"]["sleep"] == "no token needed"
        assert about["standing"]["may"]["httpbin"]["sleep"] == "a token"


def test_figure_1_is_reached_beside_figure_2(first):
    asked = [row for row in rows(first, "responses.csv") if row["figure"].startswith("figure") and not row["probe"]]
    got = {(row["figure"], row["caller"], row["token"]): int(row["got"]) for row in asked}
    assert got["figure-2", "sleep", "none"] == 403 and got["figure-1", "sleep", "none"] == 200
    assert got["figure-1", "user", "none"] == 403 and got["figure-1", "user", "valid"] == 200
    assert got["figure-1", "visitor", "valid"] == 403 and got["figure-1", "outsider", "valid"] == 0


def test_every_probe_was_sent_to_every_profile_and_has_its_row(first):
    found = [row for row in rows(first, "responses.csv") if row["probe"]]
    asked = {(row["probe"], row["figure"]) for row in found}
    catalogue = [*model.load(), *model.load(model.ROLES), *model.load(model.LOGIN)]
    wanted = {(one.id, one.world) for one in catalogue if one.world}
    wanted |= {(one.id, profile) for one in catalogue if not one.world for profile in model.PROFILES}
    assert asked == wanted and len({row["probe"] for row in found}) >= 180
    assert not [row for row in found if row["verdict"] == "skipped" and not row["note"]]
    assert {row["verdict"] for row in found} == {"pass"}  # not one without a baseline either
    assert {row["hop"] for row in found} >= {"gateway", "sidecar", "application"}


def test_no_secret_is_in_the_bundle(first):
    import base64

    kept = [one for one in json.loads(kubectl("get", "secrets", "-A", "-o", "json"))["items"] if "data" in one]
    values = [value for secret in kept for key, value in secret["data"].items() if "name" not in key]
    secrets = [base64.b64decode(value).decode() for value in values]
    secrets = [one for one in secrets if len(one) > 12 and not one.startswith("-----BEGIN CERTIFICATE")]
    assert len([one for one in secrets if "PRIVATE KEY" in one]) >= 5 and len(secrets) > 10
    text = "".join(path.read_text(errors="replace") for path in first.rglob("*") if path.is_file())
    assert not [secret for secret in secrets if secret in text]
    assert not re.search(r"eyJ[\w-]+\.", text)  # the letters alone may stand in a certificate


def test_kubectl_works_with_the_kubeconfig_alone(first):
    assert "httpbin-figure-1" in kubectl("get", "deployments", "-n", "foo", "-o", "name")


def test_second_run_changes_nothing_and_asks_little(first):
    before, earlier = versions(), bench.requests()
    code, bundle = run(RUNBOOK_AT_ONCE="2")
    assert code == 0
    asked, sessions = (now - then for now, then in zip(bench.requests(), earlier, strict=True))
    assert 0 < asked < 4000 and 0 < sessions < 80  # 2,430 and 56, the stack's own requests of 4 min included
    assert {row["action"] for row in rows(bundle, "changes.csv")} == {"unchanged"}
    assert versions() == before


def versions() -> dict[str, str]:
    kinds = "requestauthentications,authorizationpolicies,peerauthentications,gateways.gateway.networking.k8s.io"
    kinds += ",httproutes,secrets,services,configmaps,serviceaccounts"
    found = json.loads(kubectl("get", kinds, "-A", "-o", "json"))["items"]
    mine = [thing for thing in found if thing["metadata"]["namespace"] in ("foo", "keycloak", names.ISTIO_INGRESS)]
    return {thing["metadata"]["uid"]: thing["metadata"]["resourceVersion"] for thing in mine}


@pytest.fixture
def existing():
    """An environment that knows nothing of the sandbox but its images: what a kubeconfig from elsewhere would be."""
    name, stated = "existing-here", yaml.safe_load((ROOT / "params" / "dev.yml").read_text())
    kept = {key: value for key, value in stated.items() if not key.startswith(("aws_", "cluster_", "region", "node_"))}
    file = ROOT / "params" / f"{name}.yml"
    file.write_text(yaml.safe_dump({**kept, "env": name, "cluster_source": "existing"}))
    yield name
    file.unlink()
    shutil.rmtree(ROOT / "outputs" / name)


def test_an_existing_cluster_is_met_by_a_kubeconfig_alone(first, existing):
    """No AWS, no CA key of the mesh's: the same answers, and nothing changed."""
    done = python("-m", "lib", "run", "--env", existing, limit=600, KUBECONFIG=str(ROOT / ".kube" / "dev"))
    assert done.returncode == 0
    (bundle,) = (ROOT / "outputs" / existing).iterdir()
    assert {row["action"] for row in rows(bundle, "changes.csv")} == {"unchanged"}
    left = {row["probe"]: row["note"] for row in rows(bundle, "responses.csv") if row["verdict"] == "skipped"}
    assert left and all("CA" in why for why in left.values())


def test_a_notebook_runs_by_hand(first, tmp_path):
    words = ["notebooks/11-testing.ipynb", str(tmp_path / "x.ipynb"), "-f", "params/dev.yml", "--no-progress-bar"]
    assert python("-m", "papermill", *words).returncode == 0


def test_a_killed_run_goes_on(first):
    command = [sys.executable, "-m", "lib", "run", "--env", "dev"]
    started = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True)
    started.stdout.readline()
    started.kill()
    started.wait()
    assert run("--only", "05")[0] == 0


def test_a_deleted_policy_turns_the_run_red_and_seals_the_bundle(first):
    kubectl("delete", "authorizationpolicy", "httpbin", "-n", "foo")
    short = python("-m", "lib", "run", "--env", "dev", "--only", "11", limit=600)
    bundle = ROOT / re.search(r"(outputs/dev/\S+)/index.html", short.stdout).group(1)
    assert short.returncode == 1
    answers = [row for row in rows(bundle, "responses.csv") if row["passed"] == "False"]
    red = {(row["caller"], row["token"]) for row in answers}
    assert red >= {("user", "none"), ("sleep", "none"), ("visitor", "none")}
    told = [row["note"] for row in answers if not row["probe"] and row["caller"] == "user"]
    assert told and all("why: a RequestAuthentication alone" in note and "change: add an" in note for note in told)
    assert "why: a RequestAuthentication alone" in short.stdout
    waited = [float(row["seconds"]) for row in rows(bundle, "checks.csv") if row["passed"] == "False"]
    assert waited and max(waited) < params.load("dev").answer_deadline / 2  # as its policies demand
    assert python("-m", "lib", "verify", str(bundle)).returncode == 0
    code, healed = run("--from", "10")
    assert code == 0
    assert [row["name"] for row in rows(healed, "changes.csv") if row["action"] == "created"] == ["httpbin"]


def test_a_second_cluster_beside_the_first(first, tmp_path):
    """Another name, another link, another CA; the first goes on undisturbed, and the second leaves nothing."""
    here, group = params.load("dev", {"cluster_name": "second"}), "nodes"
    session = aws_session.session(here.region, here.aws_profile, here.aws_credentials_file)
    service = aws_session.client(session, "eks", here.aws_endpoint_url)
    known = service.describe_cluster(name="runbook")["cluster"]
    role, subnets = known["roleArn"], known["resourcesVpcConfig"]["subnetIds"]
    tags, known_group = names.tags("second"), service.list_nodegroups(clusterName="runbook")["nodegroups"][0]
    node_role = service.describe_nodegroup(clusterName="runbook", nodegroupName=known_group)["nodegroup"]["nodeRole"]
    try:
        level = {"eks-sandbox/pod-security": "baseline"}
        clusters.ensure_cluster(service, "second", here.kubernetes_version, role, subnets, {**tags, **level})
        made = clusters.wait_cluster_active(service, "second", 60)
        node_groups.ensure_node_group(
            service, "second", group, node_role, subnets, node_groups.NodeGroupConfig(["m5.large"], 1), tags
        )
        clusters.wait_node_group_active(service, "second", group, 60)
        assert made["endpoint"].rsplit(".", 1)[0] != known["endpoint"].rsplit(".", 1)[0]  # a /24 of its own
        assert made["certificateAuthority"] != known["certificateAuthority"]
        second = cluster_of(made, here, tmp_path)
        assert [node["metadata"]["name"] for node in second.items("v1", "Node")]
        assert not second.find("v1", "Namespace", "foo")
        root = second.try_apply(pod(here.sleep_image, {"privileged": True}))
        assert 'violates PodSecurity "baseline:latest"' in root and second.try_apply(pod(here.sleep_image, {})) == ""
        with pytest.raises(ClusterError, match="401"):  # a token of the one is none of the other's
            cluster_of({**made, "name": "runbook"}, here, tmp_path).version()
    finally:
        clusters.delete_node_group(service, "second", group, tags)
        clusters.wait_node_group_gone(service, "second", group, 60)
        clusters.delete_cluster(service, "second", tags)
        clusters.wait_cluster_gone(service, "second", 60)
    assert service.list_clusters()["clusters"] == ["runbook"]
    assert "httpbin" in kubectl("get", "pods", "-n", "foo")


def pod(image: str, security: dict) -> dict:
    container = {"name": "c", "image": image, "securityContext": security}
    place = {"name": "x", "namespace": "default"}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": place, "spec": {"containers": [container]}}


def cluster_of(described: dict, here: params.Params, folder: Path) -> cluster.Cluster:
    options = {"region": here.region, "profile": here.aws_profile, "credentials_file": here.aws_credentials_file}
    options |= {"python": sys.executable, "root": ROOT, "endpoint_url": here.aws_endpoint_url}
    authority = described["certificateAuthority"]["data"]
    path = folder / described["name"]
    kubeconfig.write_kubeconfig(path, described["name"], described["endpoint"], authority, **options)
    return cluster.Cluster.from_kubeconfig(path)


def test_strangers_are_refused(first):
    import ssl
    import urllib.error
    import urllib.request

    config = json.loads(kubectl("config", "view", "--raw", "-o", "json"))["clusters"][0]["cluster"]
    import base64

    trust = ssl.create_default_context(cadata=base64.b64decode(config["certificate-authority-data"]).decode())
    for token in ("", "k8s-aws-v1.bm90LWEtdXJs"):
        asked = urllib.request.Request(
            f"{config['server']}/api/v1/namespaces", headers={"Authorization": f"Bearer {token}"}
        )
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(asked, context=trust, timeout=10)
        assert refused.value.code in (401, 403)
