"""The image in the cluster: `why`, the probes and a watch as Jobs, with just the rights of the calls that were made."""

from __future__ import annotations

import base64
import copy
import os
import re
import shutil

import pytest
import yaml
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from lib import params
from lib.bundle import archive, signing_key, verify
from lib.kubernetes import manifests
from lib.names import WATCH as SPACE
from lib.polling import wait
from lib.record.events import Record
from lib.run import Run
from lib.steps import endpoints, tokens
from lib.watch import prove, standing
from sandbox.build import istioctl_image
from sandbox.build.runbook_image import NAME, SOURCE
from sandbox.commands import image
from tests.support import pod_role, rights
from tests.support.unguarded import unguarded

pytestmark = pytest.mark.sandbox
ACCESS = manifests.load(SOURCE / "access.yaml")
WATCH = manifests.load(SOURCE / "watch.yaml", image="", schedule="", hours="")
RUN = manifests.load(SOURCE / "run.yaml", image=NAME, istioctl=istioctl_image.NAME)
VERIFY = manifests.load(SOURCE / "verify.yaml", image=NAME)
STEP = os.environ.get("RUN_STEP", "02")  # of the notebooks that a pod runs; RUN_STEP= is all of them, in minutes
# Params of EKS or of this machine
EKS = ("cluster_name", "region", "kubernetes_version", "node_count", "istioctl", "gateway_api_crds")
HOST = "httpbin.example"
BUCKET = "pod-records"
TO_S3 = (  # docs/image.md has these rights
    {"Action": ["s3:PutObject", "s3:GetObject"], "Resource": f"arn:aws:s3:::{BUCKET}/runs/*"},
    {"Action": "s3:GetBucketObjectLockConfiguration", "Resource": f"arn:aws:s3:::{BUCKET}"},
)
HOURS, NEVER = 3, "0 0 29 2 *"  # the age of a stale proof; a schedule whose day is far
DEADLINE = 90  # seconds for a Job: both take about 10 on an idle machine


@pytest.fixture(scope="module")
def run(first):
    """A cluster that has the image, and the objects that docs/image.md makes for its Jobs."""
    image.make(print)
    made = Run("image", params.load("dev"), Record())
    token = base64.b64encode(tokens.user_token(made).encode()).decode()
    authority = {"existing-ca.pem": made.params.authority_file.read_text()}
    own = [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "authority"}, "data": authority},
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "token"}, "data": {"token": token}},
    ]
    for one in own:
        one["metadata"]["namespace"] = SPACE
    for one, _ in made.cluster.apply_all([*ACCESS, *own]):
        print(one["kind"], one["metadata"]["name"])
    yield made
    shutil.rmtree(image.FOLDER)
    for one in ACCESS:
        made.delete(one)


@pytest.fixture(scope="module")
def ended(run) -> dict[str, tuple[int, str]]:
    """The exit code and the output of both Jobs, which run at the same time."""
    values = {"image": NAME, "url": f"{endpoints.ingress_url(run)}/headers", "host": HOST}
    jobs = manifests.load(SOURCE / "jobs.yaml", **values, issuer=endpoints.issuer(run))
    for _ in run.cluster.apply_all(jobs):
        pass
    return {job["metadata"]["name"]: outcome(run, job["metadata"]["name"]) for job in jobs}


def outcome(run, job: str, deadline: float = DEADLINE) -> tuple[int, str]:
    def exit_code() -> int | None:
        (pod,) = run.cluster.items("v1", "Pod", SPACE, f"job-name={job}") or [{"status": {}}]
        for one in pod["status"].get("containerStatuses", []):
            if ended := one["state"].get("terminated"):
                return ended["exitCode"]
        return None

    code = wait(f"the end of the Job {job}", exit_code, lambda value: value is not None, deadline=deadline)
    (pod,) = run.cluster.items("v1", "Pod", SPACE, f"job-name={job}")
    text = run.cluster.logs(pod["metadata"]["name"], SPACE, "runbook", 600)
    print(text)
    return code, text


def test_why_explains_a_refusal_from_within_the_cluster(ended):
    code, text = ended["why"]
    assert code == 0
    assert text.startswith("the sidecar of foo/httpbin: 403")
    assert "access log, sidecar: 403" in text


def test_the_probes_are_green_and_need_no_right(ended):
    code, text = ended["probes"]
    assert code == 0
    asked = re.search(r"(\d+) as expected, 0 red", text)
    assert asked and int(asked[1]) > 50


@pytest.fixture(scope="module")
def watched(run) -> list[dict]:
    """The table of a watch that was put there twice, and whose schedule has come once."""
    standing.put(run, NAME, "* * * * *", HOURS)
    standing.report(run, HOURS)
    wait("the schedule's own run", lambda: len(prove.read(run.cluster).runs) > 1, deadline=60 + DEADLINE)
    standing.put(run, NAME, NEVER, HOURS)
    rows, _, files = standing.report(run, HOURS)
    yield rows
    for file in files:
        file.unlink()


def test_a_watch_proves_the_controls_by_itself(run, watched):
    assert {row["state"] for row in watched} == {"proved"}
    assert {"IA-2", "AC-3"} <= {row["control"] for row in watched}
    assert "the table of runs" in (standing.OUTPUTS / "dev" / "index.html").read_text().lower()


def test_a_hole_is_red_and_an_event_and_is_proved_again_without_it(run, watched):
    with unguarded(run):
        holed = standing.run_now(run).controls
    assert all("A01" in holed[control].red for control in ("ia-2", "ac-3"))
    assert not any(proof.red for proof in standing.run_now(run).controls.values())
    told = [one for one in run.cluster.items("v1", "Event", SPACE) if one["reason"] == "ProofChanged"]
    assert [one["type"] for one in sorted(told, key=lambda one: one["firstTimestamp"])] == ["Warning", "Normal"]
    assert all("A01" in one["message"] for one in told)


def test_the_rights_are_those_of_the_calls_that_were_made(run, ended, watched):
    events = [one for name in ("why", "watch") for one in calls(run, name)]
    assert {one["annotations"]["authorization.k8s.io/decision"] for one in events} == {"allow"}
    assert rights.used(events) == rights.stated([*ACCESS, *WATCH])
    assert calls(run, "why") and calls(run, "watch")


def calls(run, account: str) -> list[dict]:
    return rights.calls(run.params.cluster_name, f"system:serviceaccount:{SPACE}:{account}")


@pytest.fixture(scope="module")
def ran(run):
    """The exit codes and the outputs of a run of notebooks in a pod, and of a pod that verifies the record; the signer.

    The run also uploads its record to S3, with the role of its service account.
    """
    stated = yaml.safe_load((params.ROOT / "params" / "dev.yml").read_text())
    own = {key: value for key, value in stated.items() if key not in EKS and not key.startswith("aws_")}
    own |= {"env": "existing", "cluster_source": "existing"}
    key = signing_key.new_pem()
    signer = load_pem_private_key(key.encode(), None).public_key()
    objects = [
        {"kind": "ConfigMap", "metadata": {"name": "params"}, "data": {"existing.yml": yaml.safe_dump(own)}},
        {"kind": "Secret", "metadata": {"name": "run-signer"}, "stringData": {"signing-key.pem": key}},
        {"kind": "ConfigMap", "metadata": {"name": "signer"}, "data": {"public.pem": signing_key.pem(signer)}},
    ]
    for one in objects:
        one |= {"apiVersion": "v1", "metadata": {**one["metadata"], "namespace": SPACE}}
    things = copy.deepcopy(RUN)
    (job,) = [one for one in things if one["kind"] == "Job"]
    pod = job["spec"]["template"]["spec"]
    pod["containers"][0]["args"] += [f"--to=s3://{BUCKET}/runs", *(["--only", STEP] if STEP else [])]
    run.aws("s3").create_bucket(Bucket=BUCKET)
    with pod_role.pod_role(run, "records", f"{SPACE}:run", *TO_S3) as role:
        pod_role.add_identity(pod, role, run.params.region)
        for _ in run.cluster.apply_all([*objects, *things]):
            pass
        results = [outcome(run, "run", 1200)]
        for _ in run.cluster.apply_all(VERIFY):
            pass
        yield [*results, outcome(run, "verify"), signer]
    for one in RUN:
        if one["kind"] != "Namespace":
            run.delete(one)


def test_a_pod_runs_notebooks_of_its_cluster_and_another_verifies_the_record(run, ran):
    (code, text), (verified, said), _ = ran
    assert (code, verified) == (0, 0) and "pass after" in text and "verifies" in said


def test_the_pod_has_uploaded_its_record_and_the_signer_vouches_for_it(run, ran, tmp_path):
    (_, text), _, signer = ran
    (found,) = run.aws("s3").list_objects_v2(Bucket=BUCKET)["Contents"]
    assert f"s3://{BUCKET}/{found['Key']}, not locked" in text
    run.aws("s3").download_file(BUCKET, found["Key"], str(tmp_path / "bundle.zip"))
    folder = archive.unpack(tmp_path / "bundle.zip", tmp_path)
    assert verify.verify(folder, [signer], alone=True).problems == []


def test_no_call_of_a_run_is_refused_and_each_is_by_a_stated_right(run, ran):
    """A whole run on an empty cluster needs each of them: docs/image.md says how that was measured."""
    events = calls(run, "run")
    assert {one["annotations"]["authorization.k8s.io/decision"] for one in events} == {"allow"}
    assert not rights.beyond(events, RUN)
