"""`make fleet` on real clusters: pods with an identity of their own, a hole that is named, a round that goes on.

The first cluster of the sandbox runs the Job and is a member. FLEET_CLUSTERS=3 makes two more clusters in place of one.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import boto3
import pytest
import yaml
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError

from lib import params
from lib.crypto import jwt
from lib.fleet import callers
from lib.kubernetes import manifests
from lib.names import CALLERS
from lib.names import WATCH as SPACE
from lib.polling import wait
from lib.record.events import Record
from lib.run import Run
from lib.watch import standing
from sandbox.build.runbook_image import NAME as IMAGE
from sandbox.build.runbook_image import SOURCE
from sandbox.commands import image
from tests.e2e.test_image import NEVER
from tests.support import members, pod_role, rights
from tests.support.runbook import ROOT, kubectl, python
from tests.support.unguarded import permissive, unguarded

pytestmark = pytest.mark.sandbox
MORE = [f"fleet-{number}" for number in range(2, int(os.environ.get("FLEET_CLUSTERS", "2")) + 1)]
HOLE = MORE[0]  # the cluster whose policy goes
FLEET, GONE, BUCKET = "here", "gone", "fleet-proofs"
MEMBER = [*manifests.load(SOURCE / "fleet-member.yaml"), *manifests.load(SOURCE / "fleet-callers.yaml")]
# The API server checks it without a line in its log
UNLOGGED = ("runbook-fleet-callers/runbook-callers", "create", "", "pods/exec", "")
RIGHTS = (  # docs/fleet.md has them
    {"Action": "eks:DescribeCluster", "Resource": "*"},
    {"Action": ["s3:PutObject", "s3:GetObject"], "Resource": f"arn:aws:s3:::{BUCKET}/proofs/*"},
    {"Action": "s3:GetBucketObjectLockConfiguration", "Resource": f"arn:aws:s3:::{BUCKET}"},
)


def run_of(env: str) -> Run:
    return Run("fleet", params.load(env), Record())


@pytest.fixture(scope="module")
def fleet(first, tmp_path_factory):
    """The clusters with what docs/fleet.md asks for, the account's role and bucket, and the params of the fleet."""
    for name in MORE:
        members.make(name)
    image.make(print)
    runs = {name: run_of(name) for name in ("dev", *MORE)}
    here = runs["dev"]
    here.aws("s3").create_bucket(Bucket=BUCKET)
    with pod_role.pod_role(here, "fleet", f"{SPACE}:fleet", *RIGHTS) as role:
        for run in runs.values():
            standing.put(run, IMAGE, NEVER, 3)
            run.apply(MEMBER)
            about = {"clusterName": run.params.cluster_name, "principalArn": role}
            run.aws("eks").create_access_entry(**about, kubernetesGroups=["runbook-fleet"])
        file = tmp_path_factory.mktemp("fleet") / "fleet.yml"
        clusters = [{"name": name, "eks": run.params.cluster_name} for name, run in runs.items()]
        clusters = [{**one, "region": here.params.region} for one in [*clusters, {"name": GONE, "eks": GONE}]]
        about = {"name": FLEET, "control": "dev", "bucket": f"s3://{BUCKET}/proofs", "role_arn": role, "parallelism": 1}
        about |= {"aws_endpoint_url": pod_role.ENDPOINT, "clusters": clusters, "retries": 0}
        about |= {"callers_image": here.params.sleep_image}
        file.write_text(yaml.safe_dump(about))
        yield SimpleNamespace(runs=runs, file=file, role=role, s3=here.aws("s3"))
    shutil.rmtree(image.FOLDER)
    shutil.rmtree(ROOT / "outputs" / "fleet", ignore_errors=True)
    standing.take_away(here)
    for one in MEMBER:
        here.delete(one)
    here.aws("eks").delete_access_entry(clusterName=here.params.cluster_name, principalArn=role)
    for name in MORE:
        members.remove(name)


def words(command: str, fleet, round: str) -> list[str]:
    more = ["--image", IMAGE] if command == "put" else []
    return ["-m", "lib.fleet", command, "--fleet", str(fleet.file), "--round", round, *more]


def rows(round: str) -> dict[str, dict]:
    content = json.loads((ROOT / "outputs" / "fleet" / FLEET / f"{round}.json").read_text())
    return {one["name"]: one for one in content["clusters"]}


def bundles(fleet, round: str) -> dict[str, str]:
    """The ETag of each bundle of a round by its cluster."""
    found = fleet.s3.list_objects_v2(Bucket=BUCKET, Prefix=f"proofs/{FLEET}/{round}/").get("Contents", [])
    return {one["Key"].rpartition("/")[2].removesuffix(".zip"): one["ETag"] for one in found}


def inside(fleet, name: str) -> list[dict]:
    """The callers' pods that are in a cluster."""
    return fleet.runs[name].cluster.items("v1", "Pod", CALLERS)


def kill_index(number: int) -> None:
    """End the process of an index as the kernel does when memory is short: it gets no time to clean up."""
    labels = f"job-name=fleet-{FLEET},batch.kubernetes.io/job-completion-index={number}"
    found = json.loads(kubectl("-n", SPACE, "get", "pods", "-l", labels, "-o", "json"))
    mounts = f"/pods/{found['items'][0]['metadata']['uid']}/"
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it may have ended by now
            command = (process / "cmdline").read_bytes().split(b"\0")
            if {b"lib.fleet", b"index"} <= {*command} and mounts in (process / "mountinfo").read_text():
                os.kill(int(process.name), signal.SIGKILL)


def test_a_round_that_is_killed_goes_on_and_does_only_what_is_missing(fleet):
    command = [sys.executable, *words("put", fleet, "r1")]
    with subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}) as begun:
        kept = wait("a first bundle", lambda: bundles(fleet, "r1"), deadline=180)
        begun.send_signal(signal.SIGKILL)
    wait("callers in the next cluster", lambda: inside(fleet, HOLE), deadline=120)
    kill_index(1)
    kubectl("-n", SPACE, "delete", "job", f"fleet-{FLEET}", "--now")
    kept, left = bundles(fleet, "r1"), inside(fleet, HOLE)
    assert {one["spec"]["activeDeadlineSeconds"] for one in left} == {callers.LIFETIME}
    assert 0 < len(kept) < len(fleet.runs)
    assert python(*words("put", fleet, "r1")).returncode == 1  # one cluster is gone
    found = rows("r1")
    assert {name: one["state"] for name, one in found.items()} == {**dict.fromkeys(fleet.runs, "proved"), GONE: "late"}
    assert f"no EKS cluster {GONE}" in found[GONE]["note"]
    assert bundles(fleet, "r1").keys() == fleet.runs.keys() and kept.items() <= bundles(fleet, "r1").items()
    job = json.loads(kubectl("-n", SPACE, "get", "job", f"fleet-{FLEET}", "-o", "json"))
    assert job["spec"]["completions"] == len(fleet.runs) + 1 - len(kept)
    wait("no callers", lambda: not any(inside(fleet, name) for name in fleet.runs), deadline=30)


def test_callers_are_evidence_of_the_controls_between_services(fleet):
    proved = {name for name, proof in rows("r1")["dev"]["proofs"]["controls"].items() if proof["lines"]}
    assert {"ia-9", "sc-8", "ac-4"} <= proved
    page = (ROOT / "outputs" / "fleet" / FLEET / "index.html").read_text()
    assert [re.search(rf">{name}<br><span[^>]*>([^<]*)<", page)[1] for name in ("IA-9", "SC-8", "AC-4")] == [
        "2 of 6", "1 of 6", "1 of 6",
    ]  # fmt: skip


def test_the_callers_namespace_takes_no_pod_that_could_own_a_node(fleet):
    cluster, pod = fleet.runs[HOLE].cluster, callers.pod("sleep", "x", "other")
    assert cluster.try_apply(pod) == ""
    (container,) = pod["spec"]["containers"]
    for word, change in {
        "ends by itself": {"activeDeadlineSeconds": 3600},
        "apart from its node": {"hostPID": True},
        "volumes of a sidecar": {"volumes": [{"name": "x", "hostPath": {"path": "/"}}]},
        "the capabilities of istio-init": {"containers": [{**container, "securityContext": {"privileged": True}}]},
    }.items():
        assert word in cluster.try_apply({**pod, "spec": {**pod["spec"], **change}})


def test_a_hole_in_a_cluster_is_named_and_is_the_change_since_the_round_before(fleet):
    with unguarded(fleet.runs[HOLE]), permissive(fleet.runs["dev"]):
        done = python(*words("put", fleet, "r2"))
    assert done.returncode == 1
    found = rows("r2")
    expected = {**dict.fromkeys(fleet.runs, "proved"), HOLE: "red", "dev": "red", GONE: "late"}
    assert {name: one["state"] for name, one in found.items()} == expected
    red = {id for proof in found[HOLE]["proofs"]["controls"].values() for id in proof["red"]}
    assert "A01" in red and f"{HOLE}: proved is now red" in done.stdout
    inner = {name: {*proof["red"]} for name, proof in found["dev"]["proofs"]["controls"].items() if proof["red"]}
    assert inner["sc-8"] >= {"G01a", "G01b", "G02"} and "G02" in inner["ac-4"] and "ia-2" not in inner
    wait("no callers", lambda: not any(inside(fleet, name) for name in fleet.runs), deadline=30)
    page = (ROOT / "outputs" / "fleet" / FLEET / "index.html").read_text()
    assert page.index(f">{HOLE}<") < page.index(">dev<") and "A01" in page  # the worst comes first


def test_the_pods_rights_in_the_clusters_are_those_of_their_calls(fleet):
    for name, run in fleet.runs.items():
        events = rights.calls(
            run.params.cluster_name, fleet.role.replace(":iam:", ":sts:").replace(":role/", ":assumed-role/")
        )
        assert (name, {one["annotations"]["authorization.k8s.io/decision"] for one in events}) == (name, {"allow"})
        assert rights.used(events) == rights.stated(MEMBER) - {UNLOGGED}


def test_sts_takes_the_fleets_token_of_this_cluster_alone(fleet):
    """Real tokens of the API servers; tests/sandbox/iam/test_web_identity.py has each wrong part of one."""
    here = fleet.runs["dev"].params
    where = {"region_name": here.region, "endpoint_url": here.aws_endpoint_url}
    sts = boto3.client("sts", **where, config=Config(signature_version=UNSIGNED))

    def answer(token: str) -> str:
        try:
            made = sts.assume_role_with_web_identity(RoleArn=fleet.role, RoleSessionName="s1", WebIdentityToken=token)
            return made["AssumedRoleUser"]["Arn"].rpartition(":")[2]
        except ClientError as error:
            return error.response["Error"]["Code"]

    def token(env: str = "dev", account: str = "fleet", audience: str = pod_role.AUDIENCE) -> str:
        kubeconfig = str(params.load(env).kubeconfig)
        return kubectl(
            "--kubeconfig", kubeconfig, "-n", SPACE, "create", "token", account, f"--audience={audience}"
        ).strip()

    assert answer(token()) == "assumed-role/fleet/s1"
    assert answer(jwt.tampered(token())) == "InvalidIdentityToken"
    assert answer(token(audience="https://kubernetes.default.svc")) == "InvalidIdentityToken"
    assert answer(token(account="watch")) == "AccessDenied"
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "fleet", "namespace": SPACE}}
    fleet.runs[HOLE].apply([account])
    assert answer(token(HOLE)) == "InvalidIdentityToken"
