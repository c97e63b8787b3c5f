"""The image in the cluster: `why` and the probes as Jobs, with just the rights of the calls that were made."""

from __future__ import annotations

import base64
import json
import re
import shutil

import pytest

from lib import params
from lib.kubernetes import manifests
from lib.polling import wait
from lib.record.events import Record
from lib.run import Run
from lib.steps import endpoints, tokens
from sandbox.build.runbook_image import NAME, SOURCE
from sandbox.commands import image
from sandbox.paths import LOGS

pytestmark = pytest.mark.sandbox
ACCESS = manifests.load(SOURCE / "access.yaml")
SPACE, HOST = "runbook", "httpbin.example"
DEADLINE = 90  # seconds for a Job: both take about 10 on an idle machine
GRANTED = re.compile(r'allowed by (?:Cluster)?RoleBinding "([^"]+)"')


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


def outcome(run, job: str) -> tuple[int, str]:
    def exit_code() -> int | None:
        (pod,) = run.cluster.items("v1", "Pod", SPACE, f"job-name={job}") or [{"status": {}}]
        for one in pod["status"].get("containerStatuses", []):
            if ended := one["state"].get("terminated"):
                return ended["exitCode"]
        return None

    code = wait(f"the end of the Job {job}", exit_code, lambda value: value is not None, deadline=DEADLINE)
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


def test_the_rights_are_those_of_the_calls_that_were_made(run, ended):
    log = LOGS / run.params.cluster_name / "kube-apiserver.log"
    lines = [line for line in log.read_text().splitlines() if line.startswith('{"kind":"Event"')]
    events = [json.loads(line) for line in lines]
    calls = [one for one in events if one["user"]["username"] == f"system:serviceaccount:{SPACE}:why"]
    assert {one["annotations"]["authorization.k8s.io/decision"] for one in calls} == {"allow"}
    assert {call for one in calls if (call := right(one))} == stated()
    assert {one["user"]["username"] for one in events} == {f"system:serviceaccount:{SPACE}:why"}


def right(event: dict) -> tuple[str, str, str, str] | None:
    """Return what gave the right to a call, its verb, group and resource; None for those of everybody."""
    found = GRANTED.search(event["annotations"]["authorization.k8s.io/reason"])
    if not found or found[1].startswith("system:"):
        return None
    what = event["objectRef"]
    kind = "/".join(filter(None, (what["resource"], what.get("subresource"))))
    return found[1], event["verb"], what.get("apiGroup", ""), kind


def stated() -> set[tuple[str, str, str, str]]:
    """Return the rights in access.yaml, in the same form."""
    rules = {(one["kind"], one["metadata"]["name"]): one["rules"] for one in ACCESS if "rules" in one}
    return {
        ("/".join(filter(None, (one["metadata"]["name"], one["metadata"].get("namespace")))), verb, group, kind)
        for one in ACCESS
        if "roleRef" in one
        for rule in rules[one["roleRef"]["kind"], one["roleRef"]["name"]]
        for group in rule["apiGroups"]
        for kind in rule["resources"]
        for verb in rule["verbs"]
    }
