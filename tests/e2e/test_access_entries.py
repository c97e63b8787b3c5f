"""A second identity of the account, on a real cluster: 401 without an access entry, with one just its rights."""

from __future__ import annotations

import sys

import pytest

from lib import names, params
from lib.aws import access_entries, clusters, kubeconfig, session
from lib.errors import ClusterError
from lib.kubernetes import cluster as kubernetes_cluster
from lib.params.eks import AccessEntry
from lib.polling import until

pytestmark = pytest.mark.sandbox
NAME = "second"
SOON = {"deadline": 20, "pause": 1}  # the API server believes for 10 s what the webhook said of a token or a right

BOUND = {"deadline": 12, "pause": 0.5}  # the API server's 10 s, and the time of a request


@pytest.fixture
def second(first, tmp_path):
    """A user of the sandbox's account: its ARN, and the cluster as it is let in there."""
    here = params.load("dev")
    iam = client(here, "iam")
    arn = iam.create_user(UserName=NAME)["User"]["Arn"]
    key = iam.create_access_key(UserName=NAME)["AccessKey"]
    credentials = tmp_path / "credentials"
    secret = f"aws_access_key_id = {key['AccessKeyId']}\naws_secret_access_key = {key['SecretAccessKey']}\n"
    credentials.write_text(f"[{NAME}]\n{secret}")
    found = clusters.find_cluster(client(here, "eks"), here.cluster_name)
    kubeconfig.write_kubeconfig(
        tmp_path / "config", found["name"], found["endpoint"], found["certificateAuthority"]["data"],
        python=sys.executable, root=params.ROOT, region=here.region, endpoint_url=here.aws_endpoint_url, profile=NAME,
        credentials_file=str(credentials),
    )  # fmt: skip
    yield arn, found, lambda: kubernetes_cluster.Cluster.from_kubeconfig(tmp_path / "config")
    access_entries.ensure_entries(client(here, "eks"), found, [], names.tags(found["name"]), lambda *_: None)
    iam.delete_access_key(UserName=NAME, AccessKeyId=key["AccessKeyId"])
    iam.delete_user(UserName=NAME)


def test_a_second_user_can_do_what_the_entry_says_and_no_more(second):
    arn, found, cluster = second
    assert "401" in refused(lambda: cluster().items("v1", "Pod", "kube-system"))
    give(found, AccessEntry(principal_arn=arn, policy="AmazonEKSViewPolicy", scope=["kube-system"]))
    assert until(lambda: cluster().items("v1", "Pod", "kube-system"), **SOON).held
    config_map = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x", "namespace": "kube-system"}}
    for forbidden in (
        lambda: cluster().items("v1", "Pod", "default"),
        lambda: cluster().items("v1", "Secret", "kube-system"),
        lambda: cluster().apply(config_map),
    ):
        assert "403" in refused(forbidden)
    give(found, AccessEntry(principal_arn=arn, policy="AmazonEKSEditPolicy", scope=["kube-system"]))
    assert until(lambda: cluster().apply(config_map) == "created", **SOON).held
    assert cluster().delete("v1", "ConfigMap", "x", "kube-system") == "deleted"
    give(found)
    assert until(lambda: "401" in refused(lambda: cluster().items("v1", "Pod", "kube-system")), **SOON).held


def test_removed_access_ends_within_its_bound_also_for_a_token_that_is_in_use(second):
    """A policy's rights and a group's rights, by RBAC; docs/sandbox.md has the bound."""
    arn, found, cluster = second
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"}
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "roleRef": role,
        "metadata": {"name": "viewers", "namespace": "kube-system"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "viewers"}],
    }  # fmt: skip
    kubernetes_cluster.Cluster.from_kubeconfig(params.load("dev").kubeconfig).apply(binding)
    for rights in ({"groups": ["viewers"]}, {"policy": "AmazonEKSViewPolicy", "scope": ["kube-system"]}):
        give(found, AccessEntry(principal_arn=arn, **rights))
        assert until(lambda: cluster().items("v1", "Pod", "kube-system"), **SOON).held
        used = cluster()  # one token
        assert used.items("v1", "Pod", "kube-system")
        give(found)
        assert until(lambda used=used: refused(lambda: used.items("v1", "Pod", "kube-system")), **BOUND).held


def give(found: dict, *entries: AccessEntry) -> None:
    here = params.load("dev")
    access_entries.ensure_entries(client(here, "eks"), found, entries, names.tags(found["name"]), lambda *_: None)


def refused(ask) -> str:
    """Return what the API server refuses it with, "" where it does not."""
    try:
        ask()
    except ClusterError as told:
        return str(told)
    return ""


def client(here: params.Params, service: str):
    return session.client(
        session.session(here.region, here.aws_profile, here.aws_credentials_file), service, here.aws_endpoint_url
    )
