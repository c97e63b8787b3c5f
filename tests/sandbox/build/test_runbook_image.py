"""The runbook's image: the Dockerfile says what the builder does, and its Jobs have no right that they do not need."""

import re

import pytest

from lib.kubernetes import manifests
from lib.watch import standing
from sandbox.build import debian_layers, runbook_image
from sandbox.build.runbook_image import ENV, LOCKED, NAME, OWN, PLACE, SITE, SOURCE, USER, UV, WRITABLE
from sandbox.paths import VERSIONS
from tests.support import rights

NAMES = {"image": "image", "url": "https://gateway/headers", "host": "httpbin.example", "issuer": "https://issuer"}
DOCKERFILE = re.sub(r"\s*\\\n\s*", " ", (SOURCE / "Dockerfile").read_text())
ACCESS = manifests.load(SOURCE / "access.yaml")
WATCH = manifests.load(SOURCE / "watch.yaml", image="image", schedule="0 * * * *", hours="3")
CRON_JOBS = [one["spec"]["jobTemplate"] | {"metadata": one["metadata"]} for one in WATCH if one["kind"] == "CronJob"]
RUN = manifests.load(SOURCE / "run.yaml", image="image", istioctl="istioctl")
RUN_JOBS = [one for one in [*RUN, *manifests.load(SOURCE / "verify.yaml", image="image")] if one["kind"] == "Job"]
SIZES = dict.fromkeys(("completions", "parallelism", "retries", "deadline", "whole"), "1")
FLEET = manifests.load(SOURCE / "fleet.yaml", image="image", name="x", role_arn="arn", region="us-east-1", **SIZES)
FLEET_JOBS = [one for one in FLEET if one["kind"] == "Job"]
JOBS = [*manifests.load(SOURCE / "jobs.yaml", **NAMES), *CRON_JOBS, *RUN_JOBS, *FLEET_JOBS]


def lines(word: str) -> list[str]:
    return [line.removeprefix(f"{word} ") for line in DOCKERFILE.splitlines() if line.startswith(f"{word} ")]


def test_the_dockerfile_installs_the_same_packages():
    assert lines("FROM")[0].startswith(f"debian:{VERSIONS['debian']['codename']}")
    assert f" {debian_layers.BASE.replace(',', ' ')} {runbook_image.DEBIAN} &&" in lines("RUN")[0]
    (uv,) = [line for line in lines("RUN") if "uv pip install" in line]
    assert f"uv pip install --link-mode copy {' '.join((*UV, *LOCKED))} --target {SITE} &&" in uv
    assert "--require-hashes" in LOCKED


def test_the_dockerfile_copies_the_same_files_and_sets_the_same_user_and_environment():
    last = DOCKERFILE.rpartition("\nFROM ")[2]
    copied = re.findall(rf"^COPY (\S+) {PLACE}/(\S+)$", last, re.M)
    assert sorted(copied) == sorted([*((name, name) for name in OWN), ("image/entrypoint.sh", "entrypoint")])
    assert f"USER {USER}\n" in last and f'ENTRYPOINT ["{PLACE}/entrypoint"]' in last
    assert " ".join(ENV) in lines("ENV") and "RUNBOOK_COMMIT=$COMMIT" in lines("ENV")
    assert f"/usr/lib/python3 /usr/lib/python3.11 {SITE} {PLACE} &&" in last
    folders = " ".join(f"{PLACE}/{name}" for name in WRITABLE)
    assert f"install -d -o {USER.replace(':', ' -g ')} {folders}" in last


def test_a_change_of_the_lock_or_of_the_script_moves_the_parts_key():
    made_of = runbook_image.inputs()
    for file in (SOURCE / "finish.sh", runbook_image.PROJECT / "requirements.lock"):
        assert file.read_text() in made_of


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job["metadata"]["name"])
def test_a_job_is_not_root_and_cannot_write_its_root_file_system(job):
    pod = job["spec"]["template"]["spec"]
    user, _, group = USER.partition(":")
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["runAsUser"] == int(user) == int(group)
    for container in [*pod.get("initContainers", []), *pod["containers"]]:
        own = container["securityContext"]
        assert own["readOnlyRootFilesystem"] and not own["allowPrivilegeEscalation"]
        assert own["capabilities"] == {"drop": ["ALL"]}
        assert not any("eyJ" in word for word in container.get("command", container.get("args")))
    assert pod["automountServiceAccountToken"] == (pod.get("serviceAccountName") not in (None, "fleet"))


def test_a_pod_ends_by_a_deadline_of_its_own_or_of_its_job():
    for job in JOBS:
        assert {"activeDeadlineSeconds"} & {*job["spec"], *job["spec"]["template"]["spec"]}, job["metadata"]["name"]
    (fleet,), (watch,) = FLEET_JOBS, CRON_JOBS
    assert fleet["spec"]["template"]["spec"]["activeDeadlineSeconds"] == 1, "an index that hangs ends alone"
    assert watch["spec"]["activeDeadlineSeconds"] == standing.DEADLINE


def test_a_run_may_do_what_its_rules_list_and_has_no_wildcard():
    (binding,) = [one for one in RUN if "roleRef" in one]
    (role,) = [one for one in RUN if "rules" in one]
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    assert not [rule for rule in role["rules"] if "*" in str(rule) or "nonResourceURLs" in rule]


def test_make_watch_takes_the_image_of_make_image():
    assert f"--image $(or $(IMAGE),{NAME})" in (runbook_image.PROJECT / "Makefile").read_text()


def test_a_watch_may_keep_its_own_proofs_and_nothing_else():
    (rules,) = [one["rules"] for one in WATCH if one["kind"] == "Role"]
    assert [(rule["resources"], rule.get("resourceNames"), rule["verbs"]) for rule in rules] == [
        (["configmaps"], ["proofs"], ["get", "patch"]),
        (["events"], None, ["create"]),
    ]
    assert not [one for one in WATCH if one["kind"] in ("ClusterRole", "ClusterRoleBinding")]


def test_a_fleet_reads_the_two_objects_of_a_watch_and_nothing_else():
    member = manifests.load(SOURCE / "fleet-member.yaml")
    (role,) = [one for one in member if "rules" in one]
    assert (role["kind"], role["metadata"]["namespace"]) == ("Role", "runbook")
    assert [(rule["resources"], rule["resourceNames"], rule["verbs"]) for rule in role["rules"]] == [
        (["configmaps"], ["mesh"], ["get"]),
        (["secrets"], ["user"], ["get"]),
    ]
    assert {one["kind"] for one in FLEET} == {"ServiceAccount", "Job"}, "no right in the control cluster"


def test_a_rule_for_all_names_is_another_right_than_the_calls_need():
    member = manifests.load(SOURCE / "fleet-member.yaml")
    calls = [rbac_call("configmaps", "mesh"), rbac_call("secrets", "user")]
    assert rights.used(calls) == rights.stated(member) and not rights.beyond(calls, member)
    role, binding = member
    wide = [{**role, "rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}]}, binding]
    assert not rights.used(calls) & rights.stated(wide)
    assert {one[3:] for one in rights.beyond(calls, wide)} == {("configmaps", "mesh")}
    named = rbac_call("pods/log", "web-1")
    assert {one[-1] for one in rights.used([named, {**rbac_call("pods", ""), "verb": "list"}])} == {""}


def rbac_call(resource: str, name: str) -> dict:
    """An event of the audit log as the API server writes it."""
    kind, _, part = resource.partition("/")
    reason = 'RBAC: allowed by RoleBinding "runbook-fleet/runbook" of Role "runbook-fleet" to Group "runbook-fleet"'
    what = {"resource": kind, "namespace": "runbook", "name": name, "apiVersion": "v1"}
    what |= {"subresource": part} if part else {}
    return {"verb": "get", "objectRef": what, "annotations": {"authorization.k8s.io/reason": reason}}


def test_the_rights_read_and_nothing_else_and_no_secret():
    rules = [rule for one in ACCESS if one["kind"] in ("ClusterRole", "Role") for rule in one["rules"]]
    assert {verb for rule in rules for verb in rule["verbs"]} <= {"get", "list"}
    resources = {resource for rule in rules for resource in rule["resources"]}
    assert not resources & {"*", "secrets", "pods/exec", "pods/portforward", "pods/proxy", "services/proxy"}
    named = {rule["resources"][0]: rule.get("resourceNames") for rule in rules if "get" in rule["verbs"]}
    assert named == {"configmaps": ["istio"], "deployments": ["istiod"], "pods/log": None}
    everywhere = [one for one in ACCESS if one["kind"] == "ClusterRoleBinding"]
    assert [one["roleRef"]["name"] for one in everywhere] == ["runbook-why"]
