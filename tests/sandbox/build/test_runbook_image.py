"""The runbook's image: the Dockerfile says what the builder does, and its Jobs have no right that they do not need."""

import re

import pytest

from lib.kubernetes import manifests
from sandbox.build import debian_layers, runbook_image
from sandbox.build.runbook_image import ENV, LOCKED, NAME, OWN, PLACE, SITE, SOURCE, USER, UV, WRITABLE
from sandbox.paths import VERSIONS

NAMES = {"image": "image", "url": "https://gateway/headers", "host": "httpbin.example", "issuer": "https://issuer"}
DOCKERFILE = re.sub(r"\s*\\\n\s*", " ", (SOURCE / "Dockerfile").read_text())
ACCESS = manifests.load(SOURCE / "access.yaml")
WATCH = manifests.load(SOURCE / "watch.yaml", image="image", schedule="0 * * * *", hours="3")
CRON_JOBS = [one["spec"]["jobTemplate"] | {"metadata": one["metadata"]} for one in WATCH if one["kind"] == "CronJob"]
RUN = manifests.load(SOURCE / "run.yaml", image="image", istioctl="istioctl")
RUN_JOBS = [one for one in [*RUN, *manifests.load(SOURCE / "verify.yaml", image="image")] if one["kind"] == "Job"]
JOBS = [*manifests.load(SOURCE / "jobs.yaml", **NAMES), *CRON_JOBS, *RUN_JOBS]


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
    assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["runAsUser"] == int(user) == int(group)
    for container in [*pod.get("initContainers", []), *pod["containers"]]:
        own = container["securityContext"]
        assert own["readOnlyRootFilesystem"] and not own["allowPrivilegeEscalation"]
        assert own["capabilities"] == {"drop": ["ALL"]}
        assert not any("eyJ" in word for word in container.get("command", container.get("args")))
    assert pod["automountServiceAccountToken"] == ("serviceAccountName" in pod)


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


def test_the_rights_read_and_nothing_else_and_no_secret():
    rules = [rule for one in ACCESS if one["kind"] in ("ClusterRole", "Role") for rule in one["rules"]]
    assert {verb for rule in rules for verb in rule["verbs"]} <= {"get", "list"}
    resources = {resource for rule in rules for resource in rule["resources"]}
    assert not resources & {"*", "secrets", "pods/exec", "pods/portforward", "pods/proxy", "services/proxy"}
    everywhere = [one for one in ACCESS if one["kind"] == "ClusterRoleBinding"]
    assert [one["roleRef"]["name"] for one in everywhere] == ["runbook-why"]
