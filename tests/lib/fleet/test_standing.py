"""The fleet's params, its Job, and why an index left no bundle, as the Job and its pods say."""

from pathlib import Path

import pytest
import yaml

from lib import params
from lib.errors import ParamsError, RunbookError
from lib.fleet import contexts, model, standing
from lib.kubernetes import kubectl
from lib.names import WATCH
from lib.params import ROOT
from lib.watch.standing import NoImage
from tests.support.little_cluster import Cluster
from tests.support.stub_fleet import a_round

EXAMPLE = yaml.safe_load((ROOT / "params" / "fleet.yml").read_text())
SPACE = {"name": "fleet-demo", "namespace": WATCH}


def fleet(**changed):
    return model.Fleet(**{**EXAMPLE, "name": "demo", **changed})


class Run:
    """A run whose cluster is in memory."""

    def __init__(self, cluster):
        self.cluster = cluster

    def apply(self, objects):
        for one in objects:
            self.cluster.apply(one)

    def delete(self, one):
        self.cluster.kept.pop((one["kind"], WATCH, one["metadata"]["name"]), None)


def test_the_example_is_valid():
    assert model.load(ROOT / "params" / "fleet.yml").clusters[1].role_arn


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"clusters": EXAMPLE["clusters"] * 2}, "expected each name in clusters once, got shop again; rename it"),
        ({"by_tag": {"a": "b"}}, "expected by_tag and regions together, got one of them; add the other"),
        ({"clusters": []}, "expected clusters or by_tag, got neither; list the clusters"),
        ({"accounts": [EXAMPLE["role_arn"]]}, "expected by_tag with accounts, got none; add it, or give each cluster"),
        ({"bucket": "proofs"}, "'proofs' is no S3 address. Write it as s3://bucket/prefix."),
        ({"deadline": 900}, "expected for deadline: Input should be less than or equal to 840; got 900; change it"),
        ({"retry": 2}, "expected only known keys, got retry; did you mean retries?"),
        ({"role_arn": "arn:aws:iam::1:user/x"}, "expected for role_arn"),
    ],
)
def test_a_mistake_in_the_params_is_a_sentence(tmp_path, changed, words):
    file = tmp_path / "fleet.yml"
    file.write_text(yaml.safe_dump({**EXAMPLE, **changed}))
    with pytest.raises(ParamsError, match=r"fleet\.yml: ") as caught:
        model.load(file)
    assert words in str(caught.value)


def test_a_file_that_is_not_there_is_a_sentence(tmp_path):
    with pytest.raises(ParamsError, match="There is no fleet in .*Name a file"):
        model.load(tmp_path / "none.yml")
    with pytest.raises(ParamsError) as caught:
        params.load("fleets")
    assert "fleet," not in str(caught.value), "it is no environment"


def kubeconfig(file, **args):
    """A kubeconfig whose contexts have users with these commands."""
    users = [{"name": name, "user": {"exec": {"command": "aws", **command}}} for name, command in args.items()]
    found = [{"name": f"{name}-admin", "context": {"cluster": name, "user": name}} for name in args]
    file.write_text(yaml.safe_dump({"users": users, "contexts": found}))
    return file


def by_context(tmp_path, *clusters):
    (tmp_path / "fleet.yml").write_text(yaml.safe_dump({**EXAMPLE, "clusters": clusters}))
    files = [tmp_path / "none", tmp_path / "one", tmp_path / "two"]
    kubeconfig(files[1], shop={"args": ["--region", "eu-west-1", "eks", "get-token", "--cluster-name", "shop-eks"]})
    variable = {"name": "AWS_REGION", "value": "us-east-2"}
    more = {"shop": {"args": ["-i", "other"]}, "bank": {"args": ["token", "-i", "bank-eks"], "env": [variable]}}
    own = {"args": ["-m", "lib", "token", "--cluster=runbook", "--region=us-east-1"]}
    kubeconfig(files[2], **more, dev=own, kind={"args": None})
    return model.load(tmp_path / "fleet.yml", files).clusters


def test_a_context_is_resolved_to_a_cluster_of_eks_by_its_command(tmp_path):
    names = ("shop", "bank", "dev")
    role = EXAMPLE["clusters"][1]["role_arn"]
    found = by_context(tmp_path, *({"name": name, "context": f"{name}-admin", "role_arn": role} for name in names))
    assert [(one.name, one.eks, one.region) for one in found] == [
        ("shop", "shop-eks", "eu-west-1"),
        ("bank", "bank-eks", "us-east-2"),
        ("dev", "runbook", "us-east-1"),
    ]
    assert {one.role_arn for one in found} == {role}


@pytest.mark.parametrize(
    ("cluster", "words"),
    [
        ({"context": "gone"}, "expected the context gone in the kubeconfig, got none"),
        ({"context": "kind-admin"}, "in the context kind-admin, got another user; write eks and region"),
        ({"context": "shop-admin", "eks": "x"}, "expected context, or eks and region, got both in shop-admin"),
    ],
)
def test_a_context_that_names_no_cluster_of_eks_is_a_sentence(tmp_path, cluster, words):
    with pytest.raises(ParamsError) as caught:
        by_context(tmp_path, {"name": "x", **cluster})
    assert words in str(caught.value)


@pytest.mark.parametrize("text", ["{", "- a", "contexts: [{}]", "users: [3]"])
def test_a_damaged_kubeconfig_is_a_sentence(tmp_path, text):
    (tmp_path / "config").write_text(text)
    with pytest.raises(ParamsError, match="expected a kubeconfig in .*/config, got .*; correct it"):
        contexts.resolved([{"name": "x", "context": "a"}], [tmp_path / "config"])


def test_the_contexts_are_those_of_kubectl():
    assert kubectl.kubeconfigs({"KUBECONFIG": "/a:/b"}) == [Path("/a"), Path("/b")]
    assert kubectl.kubeconfigs({}) == [Path.home() / ".kube" / "config"]


class Eks:
    """EKS of a region, with clusters and their tags."""

    def __init__(self, **tags):
        self.tags = tags

    def can_paginate(self, call):
        return False

    def list_clusters(self):
        return {"clusters": [*self.tags]}

    def describe_cluster(self, name):
        return {"cluster": {"tags": self.tags[name]}}


def test_clusters_are_found_by_their_tags():
    of_us = Eks(one={"Mesh": "istio", "a": "b"}, two={}, x=None)  # x is listed, and so not described
    regions = {"us-east-1": of_us, "eu-west-1": Eks(one={"Mesh": "istio"})}
    one = fleet(by_tag={"Mesh": "istio"}, regions=[*regions], clusters=[EXAMPLE["clusters"][0] | {"eks": "x"}])
    found = model.members(one, lambda region, role: regions[region])
    assert [(one.name, one.eks, one.region) for one in found] == [
        ("eu-west-1-one", "one", "eu-west-1"),
        ("shop", "x", "us-east-1"),
        ("us-east-1-one", "one", "us-east-1"),
    ]
    with pytest.raises(ParamsError, match="found none"):
        model.members(fleet(by_tag={"no": "x"}, regions=["us-east-1"], clusters=[]), lambda *_: Eks(two={}))


def test_clusters_are_found_by_their_tags_in_other_accounts_too():
    bank, tag = EXAMPLE["clusters"][1], {"Mesh": "istio"}  # listed, with a role of that account
    role = bank["role_arn"].replace("role/", "role/other-")
    accounts = {None: Eks(one=tag), role: Eks(**{"one": tag, "two": {}, bank["eks"]: None})}
    one = fleet(by_tag=tag, regions=[bank["region"]], accounts=[role], clusters=[bank])
    found = model.members(one, lambda region, role: accounts[role])
    account = role.split(":")[4]
    assert [(one.name, one.eks, one.role_arn) for one in found] == [
        (f"{account}-eu-west-1-one", "one", role),
        ("bank", bank["eks"], bank["role_arn"]),
        ("eu-west-1-one", "one", None),
    ]


def test_the_job_has_an_index_for_each_cluster_and_no_right_and_no_secret():
    one = a_round("s3://proofs/x", "one", "two", "three")
    account, job, config = standing.objects(
        fleet(parallelism=2, aws_endpoint_url="https://aws.example"), one, "image:1"
    )
    spec, pod = job["spec"], job["spec"]["template"]["spec"]
    assert (spec["completions"], spec["parallelism"], spec["backoffLimitPerIndex"]) == (3, 2, 1)
    assert spec["activeDeadlineSeconds"] == 2 * 2 * (300 + standing.START)
    assert pod["activeDeadlineSeconds"] == 300
    assert spec["podFailurePolicy"]["rules"] == [
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
    ], "an evicted pod is no try"
    assert model.Round.model_validate_json(config["data"]["fleet.json"]) == one
    assert account["metadata"]["annotations"] == {"eks.amazonaws.com/role-arn": EXAMPLE["role_arn"]}
    assert not account["automountServiceAccountToken"] and not pod["automountServiceAccountToken"]
    (container,) = pod["containers"]
    values = {one["name"]: one["value"] for one in container["env"]}
    assert (values["AWS_REGION"], values["AWS_ENDPOINT_URL"]) == ("us-east-1", "https://aws.example")
    assert values["AWS_CA_BUNDLE"] == values["AWS_WEB_IDENTITY_TOKEN_FILE"].replace("/token", "/ca.crt")
    assert not {name for name in values if "KEY" in name and name != "RUNBOOK_SIGNING_KEY"}
    assert container["securityContext"]["readOnlyRootFilesystem"] and pod["securityContext"]["runAsNonRoot"]


def job(completed="", conditions=(), failed=""):
    status = {"completedIndexes": completed, "failedIndexes": failed}
    made = [{"type": kind, "status": "True", "reason": reason} for kind, reason in conditions]
    return {"kind": "Job", "metadata": SPACE, "status": {**status, "conditions": made}}


def pod(index, at=1, **status):
    notes = {standing.INDEX: str(index)}
    metadata = {"name": f"{index}-{at}", "namespace": WATCH, "annotations": notes, "creationTimestamp": str(at)}
    return {"kind": "Pod", "metadata": metadata, "status": status}


def state(**kind):
    return {"containerStatuses": [{"image": "image:1", "state": kind}]}


def control(job, *pods, names=("one", "two", "three")):
    cluster = Cluster()
    config = {"data": {"fleet.json": a_round("s3://proofs/x", *names).model_dump_json()}}
    for each in (job, {"kind": "ConfigMap", "metadata": SPACE, **config}, *pods):
        cluster.apply(each)
    return cluster


def died(reason, message="", code=1):
    return state(terminated={"reason": reason, "message": message, "exitCode": code})


@pytest.mark.parametrize(
    ("pods", "reason"),
    [
        ([pod(0, **died("OOMKilled", code=137))], "OOMKilled"),
        ([pod(0, **died("Error", "a\nThere is no EKS cluster x.\n", 2))], "There is no EKS cluster x."),
        ([pod(0, **died("Error", "", 3))], "it ended with exit code 3"),
        (
            [pod(0, reason="Evicted", message="The node was low on memory.", **died("Error"))],
            "Evicted: The node was low",
        ),
        ([pod(0, reason="DeadlineExceeded", message="Pod was active")], "DeadlineExceeded: Pod was active"),
        ([pod(0, 1, **died("OOMKilled")), pod(0, 2, **died("Error", "S3 is full."))], "S3 is full."),
        ([pod(0, conditions=[{"status": "False", "message": "0/1 nodes are available"}])], "0/1 nodes are available"),
        ([pod(0, **state(waiting={"reason": "CreateContainerError"}))], "CreateContainerError"),
        ([pod(0, **state(running={}))], "its pod still runs"),
        ([pod(0, **died("Error", "\x1b[31m<b>", 2))], "\\x1b[31m<b>"),
        ([], "it has not been started"),
    ],
)
def test_each_end_of_a_pod_is_a_reason(pods, reason):
    found = standing.reasons(control(job("1-2"), *pods), "demo", "2026-01-02")
    assert {name: text[: len(reason)] for name, text in found.items()} == {"one": reason}


def test_an_index_without_a_pod_has_the_jobs_reason():
    gone = control(job("", [("Failed", "FailedIndexes")], "0-2"))
    assert {*standing.reasons(gone, "demo", "2026-01-02").values()} == {"its pod is gone"}
    late = control(job("", [("Failed", "DeadlineExceeded")]))
    assert {*standing.reasons(late, "demo", "2026-01-02").values()} == {"the Job's time was over"}
    assert standing.reasons(gone, "demo", "2026-01-09") == {}, "the Job is of another round"
    assert standing.reasons(Cluster(), "demo", "2026-01-02") == {}


def test_indexes_are_read_as_kubernetes_writes_them():
    assert standing.numbers("1,3-5,7") == {1, 3, 4, 5, 7} and standing.numbers("") == set()


def test_a_job_that_runs_is_joined_and_one_that_ended_is_replaced():
    one, running, ended = a_round("s3://proofs/x", "one"), control(job()), control(job("0", [("Complete", "")]))
    before = dict(running.kept)
    standing.start(Run(running), fleet(), one, "image:1")
    assert running.kept == before
    with pytest.raises(
        RunbookError, match="The fleet demo still runs, in round 2026-01-02. Wait for its end, or delete"
    ):
        standing.start(Run(running), fleet(), one.model_copy(update={"round": "2026-01-03"}), "image:1")
    standing.start(Run(ended), fleet(), one, "image:1")
    assert ended.kept["Job", WATCH, "fleet-demo"]["spec"]["completions"] == 1


def test_an_image_that_no_node_gets_ends_the_wait():
    waits = state(waiting={"reason": "ImagePullBackOff", "message": "not found"})
    cluster = control(job() | {"spec": {"activeDeadlineSeconds": 5}}, pod(0, **waits))
    with pytest.raises(NoImage, match="cannot get the image image:1: not found"):
        standing.wait_end(cluster, "demo")
    standing.wait_end(control(job("0", [("Complete", "")]) | {"spec": {"activeDeadlineSeconds": 5}}), "demo")
