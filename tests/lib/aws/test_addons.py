"""Add-ons: created once, updated if they differ, waited for; an unknown version is refused before any write."""

import json

import pytest
from moto import mock_aws
from pydantic import ValidationError

from lib import names, params
from lib.aws import addons, iam_roles
from lib.aws import clusters as aws_clusters
from lib.errors import AwsError, TimedOut
from lib.params.eks import AddOn
from lib.steps import cluster as steps_cluster
from tests.support import account, whole_eks
from tests.support.stated import REAL

TAGS = names.tags("demo")
STORAGE = {"defaultStorageClass": {"enabled": True}}


@pytest.fixture
def session():
    with whole_eks.account() as made:
        yield made


@pytest.fixture
def there(session):
    return cluster(session)


def cluster(session):
    role = iam_roles.ensure_role(account.client(session, "iam"), "demo-cluster", "eks.amazonaws.com", [], TAGS)[0][
        "Arn"
    ]
    subnets = [one["SubnetId"] for one in account.client(session, "ec2").describe_subnets()["Subnets"][:2]]
    aws_clusters.ensure_cluster(account.client(session, "eks"), "demo", "1.36", role, subnets, TAGS)
    return aws_clusters.find_cluster(account.client(session, "eks"), "demo")


def ensure(session, there, name, wanted="default", tags=TAGS, **more):
    given = AddOn(**wanted) if isinstance(wanted, dict) else AddOn(version=wanted)
    return addons.ensure_addon(account.client(session, "eks"), there, name, given, tags, 5, **more)


def test_an_add_ons_life(session, there):
    found, action = ensure(session, there, "coredns")
    assert (found["addonName"], action) == ("coredns", "created") and TAGS.items() <= found["tags"].items()
    assert ensure(session, there, "coredns")[1] == "unchanged"
    assert ensure(session, there, "coredns", "latest")[1] == "unchanged"
    assert ensure(session, there, "coredns", found["addonVersion"])[1] == "unchanged"
    assert addons.wait_addon_active(account.client(session, "eks"), "demo", "coredns", 5)["status"] == "ACTIVE"


def test_another_configuration_is_an_update_that_is_waited_for(session, there):
    ensure(session, there, "aws-ebs-csi-driver")
    found, action = ensure(session, there, "aws-ebs-csi-driver", {"configuration": STORAGE})
    assert action == "changed" and json.loads(found["configurationValues"]) == STORAGE
    assert ensure(session, there, "aws-ebs-csi-driver", {"configuration": STORAGE})[1] == "unchanged"
    assert ensure(session, there, "aws-ebs-csi-driver")[1] == "changed"  # and away again
    assert ensure(session, there, "aws-ebs-csi-driver")[1] == "unchanged"


def test_another_role_of_its_pods_is_an_update_too(session, there):
    made = [
        iam_roles.ensure_role(account.client(session, "iam"), name, iam_roles.POD_IDENTITY, [], TAGS)[0]
        for name in ("one", "other")
    ]
    one, other = (role["Arn"] for role in made)
    assert ensure(session, there, addons.EBS_CSI_DRIVER, role_arn=one)[1] == "created"
    assert ensure(session, there, addons.EBS_CSI_DRIVER, role_arn=one)[1] == "unchanged"
    assert ensure(session, there, addons.EBS_CSI_DRIVER, role_arn=other)[1] == "changed"
    service = account.client(session, "eks")
    (made,) = service.list_pod_identity_associations(clusterName="demo")["associations"]
    about = {"clusterName": "demo", "associationId": made["associationId"]}
    assert service.describe_pod_identity_association(**about)["association"]["roleArn"] == other
    assert ensure(session, there, addons.EBS_CSI_DRIVER, role_arn=other)[1] == "unchanged"
    assert ensure(session, there, addons.EBS_CSI_DRIVER)[1] == "unchanged"  # whose role is not the runbook's to say


def test_a_failed_update_says_what_to_do(session, there):
    cue = {**TAGS, "eks-sandbox/update": "ConfigurationConflict"}
    ensure(session, there, "aws-ebs-csi-driver", tags=cue)
    with pytest.raises(
        AwsError, match="add-on aws-ebs-csi-driver to be Successful, got Failed: ConfigurationConflict: .*by hand"
    ):
        ensure(session, there, "aws-ebs-csi-driver", {"configuration": STORAGE})


@pytest.mark.parametrize(
    ("health", "error", "words"),
    [
        ("CREATE_FAILED AccessDenied", AwsError, "got CREATE_FAILED .AccessDenied: .*the node role needs"),
        (
            "DEGRADED InsufficientNumberOfReplicas",
            TimedOut,
            "got .DEGRADED InsufficientNumberOfReplicas: .*pods do not run",
        ),
    ],
)
def test_health_issues_of_an_add_on_are_in_the_error(session, there, health, error, words):
    ensure(session, there, "coredns", tags={**TAGS, "eks-sandbox/health": health})
    with pytest.raises(error, match=words):
        addons.wait_addon_active(account.client(session, "eks"), "demo", "coredns", 1, pause=0.01)


def test_an_unknown_version_or_setting_is_refused_with_the_choices(session, there):
    with pytest.raises(
        AwsError, match=r"add-on coredns in a version for Kubernetes 1.36 \(v.*\), got v0.0.1; choose one"
    ):
        ensure(session, there, "coredns", "v0.0.1")
    with pytest.raises(AwsError, match="to have the add-on kube-proxy for Kubernetes 1.35, got no version of it"):
        ensure(session, {**there, "version": "1.35"}, "kube-proxy")
    with pytest.raises(AwsError, match="got InvalidParameterException: .*the sandbox has none for vpc-cni"):
        ensure(session, there, "vpc-cni", {"configuration": {"enableNetworkPolicy": "true"}})


def test_an_add_on_of_somebody_else_is_let_alone(session, there):
    ensure(session, there, "coredns", tags={"Project": "other"})
    with pytest.raises(AwsError, match="add-on coredns: expected the tags .*this runbook did not create it"):
        ensure(session, there, "coredns")


def test_an_endpoint_without_add_ons_is_a_clear_error():
    with mock_aws():
        session = account.session()
        there = cluster(session)
        with pytest.raises(AwsError, match="EKS's add-ons .for coredns., got one that does not know them"):
            ensure(session, there, "coredns")
        assert addons.find_addon(account.client(session, "eks"), "demo", "coredns") is None


def test_step_01_makes_them_with_the_drivers_role_and_does_so_once(session):
    wanted = {name: "default" for name in ("vpc-cni", "coredns", "kube-proxy", "eks-pod-identity-agent")}
    wanted["aws-ebs-csi-driver"] = {"configuration": STORAGE}
    run = whole_eks.step(session, "made-up", addons=wanted)
    steps_cluster.ensure(run)
    made = {row["name"]: row["action"] for row in run.changes if row["kind"] in ("add-on", "role")}
    assert set(made.values()) == {"created"} and {*wanted, "demo-ebs-csi"} <= made.keys()
    service = account.client(session, "eks")
    (pods,) = service.list_pod_identity_associations(clusterName="demo")["associations"]
    assert (pods["namespace"], pods["serviceAccount"]) == ("kube-system", "ebs-csi-controller-sa")
    role = iam_roles.find_role(account.client(session, "iam"), "demo-ebs-csi")
    (statement,) = role["AssumeRolePolicyDocument"]["Statement"]
    assert statement["Principal"] == {"Service": "pods.eks.amazonaws.com"} and "sts:TagSession" in statement["Action"]
    table = steps_cluster.addon_table(run).set_index("add-on")
    assert set(table["status"]) == {"ACTIVE"} and "no EBS" in table.loc["aws-ebs-csi-driver", "made by"]
    before = len(run.changes)
    steps_cluster.ensure(run)
    assert {row["action"] for row in run.changes[before:]} == {"unchanged"}


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"aws-ebs-csi-driver": "default"}, "gets its role by eks-pod-identity-agent; add that too"),
        ({"core-dns": "default"}, "addons.core-dns"),
        ({"coredns": "newest"}, "addons.coredns.version"),
    ],
)
def test_add_ons_that_cannot_be(wrong, words):
    with pytest.raises(ValidationError, match=words):
        params.Params(env="made-up", **REAL, addons=wrong)
