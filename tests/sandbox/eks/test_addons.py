"""Add-ons and pod identities by boto3: add-ons report what the node runs, and other ones are refused."""

import json

import pytest
from botocore.exceptions import WaiterError

from sandbox.eks.addons_api import ADDONS
from tests.support.eks_world import QUICK

POLICY = {"Effect": "Allow", "Principal": {"Service": "pods.eks.amazonaws.com"}}


def named(addon="coredns"):
    return {"clusterName": "runbook", "addonName": addon}


def pod_role(world, name="pods", actions=("sts:AssumeRole", "sts:TagSession")):
    document = json.dumps({"Version": "2012-10-17", "Statement": [{**POLICY, "Action": list(actions)}]})
    if name not in world.roles:
        made = world.client("iam").create_role(RoleName=name, AssumeRolePolicyDocument=document)
        world.roles[name] = made["Role"]["Arn"]
    return world.roles[name]


def test_available_add_ons(world):
    eks = world.client("eks")
    found = {one["addonName"]: one for one in eks.describe_addon_versions(kubernetesVersion="1.36")["addons"]}
    assert found.keys() == ADDONS.keys() and all(one["publisher"].startswith("eks-sandbox: ") for one in found.values())
    (version,) = found["kube-proxy"]["addonVersions"]
    assert version["addonVersion"].startswith("v1.36.") and version["compatibilities"][0]["defaultVersion"]
    assert eks.describe_addon_versions(kubernetesVersion="1.30")["addons"] == []


def test_an_add_ons_life(world, refusal):
    world.active()
    eks = world.client("eks")
    made = eks.create_addon(**named(), tags={"a": "b"})["addon"]
    assert made["addonVersion"] == f"v{ADDONS['coredns'][1]}-sandbox.1" and made["tags"] == {"a": "b"}
    eks.get_waiter("addon_active").wait(**named(), WaiterConfig=QUICK)
    assert refusal(eks.create_addon, **named())[:2] == (409, "ResourceInUseException")
    update = eks.update_addon(**named(), configurationValues="{}")["update"]
    assert (update["type"], update["status"]) == ("AddonUpdate", "Successful")
    said = eks.describe_update(name="runbook", updateId=update["id"], addonName="coredns")["update"]
    assert said["params"] == [{"type": "ConfigurationValues", "value": "{}"}]
    assert refusal(eks.describe_update, name="runbook", updateId=update["id"])[0] == 404  # it is not the cluster's
    assert refusal(eks.delete_addon, **named())[1] == "InvalidRequestException"
    eks.delete_addon(**named(), preserve=True)
    assert eks.list_addons(clusterName="runbook")["addons"] == []
    assert refusal(eks.describe_addon, **named())[:2] == (404, "ResourceNotFoundException")


def test_an_add_on_is_degraded_until_its_pods_run(world):
    world.active()
    world.errors["coredns"] = "no pods"
    eks = world.client("eks")
    eks.create_addon(**named())
    addon = eks.describe_addon(**named())["addon"]
    assert (addon["status"], addon["health"]["issues"][0]["code"]) == ("DEGRADED", "InsufficientNumberOfReplicas")
    with pytest.raises(WaiterError):
        eks.get_waiter("addon_active").wait(**named(), WaiterConfig={"Delay": 0.01, "MaxAttempts": 2})
    world.errors.clear()
    assert eks.describe_addon(**named())["addon"]["status"] == "ACTIVE"


@pytest.mark.parametrize(
    ("stated", "words"),
    [
        ({"addonName": "aws-efs-csi-driver"}, "not supported in 1.36"),
        ({"addonVersion": "v1.11.4-eksbuild.2"}, "Addon version specified is not supported: expected v"),
        ({"configurationValues": '{"replicaCount": 3}'}, "the sandbox has none for coredns"),
        ({"configurationValues": "nonsense"}, "the sandbox has none for coredns"),
    ],
)
def test_an_unavailable_add_on_is_refused(world, refusal, stated, words):
    world.active()
    status, code, said = refusal(world.client("eks").create_addon, **{**named(), **stated})
    assert (status, code) == (400, "InvalidParameterException") and words in said


def test_no_add_on_before_the_cluster_is_active(world, refusal):
    world.hold = True
    world.cluster()
    assert refusal(world.client("eks").create_addon, **named())[1] == "InvalidRequestException"


def test_an_add_ons_pod_identity_is_deleted_with_it(world, refusal):
    world.active()
    eks, role = world.client("eks"), pod_role(world)
    asked = [{"serviceAccount": "ebs-csi-controller-sa", "roleArn": role}]
    addon = eks.create_addon(**named("aws-ebs-csi-driver"), podIdentityAssociations=asked)["addon"]
    (one,) = eks.list_pod_identity_associations(clusterName="runbook")["associations"]
    assert addon["podIdentityAssociations"] == [one["associationArn"]] and one["ownerArn"] == addon["addonArn"]
    key = {"clusterName": "runbook", "associationId": one["associationId"]}
    assert refusal(eks.delete_pod_identity_association, **key)[1] == "InvalidParameterException"
    eks.delete_addon(**named("aws-ebs-csi-driver"))
    assert eks.list_pod_identity_associations(clusterName="runbook")["associations"] == []


def test_a_pod_identitys_life(world, refusal):
    world.active()
    eks, role = world.client("eks"), pod_role(world)
    stated = {"clusterName": "runbook", "namespace": "foo", "serviceAccount": "sleep", "roleArn": role}
    made = eks.create_pod_identity_association(**stated, tags={"a": "b"})["association"]
    key = {"clusterName": "runbook", "associationId": made["associationId"]}
    assert eks.describe_pod_identity_association(**key)["association"]["tags"] == {"a": "b"}
    assert refusal(eks.create_pod_identity_association, **stated)[1] == "ResourceInUseException"
    for wrong in (world.roles["cluster"], pod_role(world, "half", ["sts:AssumeRole"])):
        assert "must let pods.eks" in refusal(eks.update_pod_identity_association, **key, roleArn=wrong)[2]
    assert eks.list_pod_identity_associations(clusterName="runbook", namespace="bar")["associations"] == []
    assert eks.list_pod_identity_associations(clusterName="runbook", namespace="foo")["associations"]
    eks.delete_pod_identity_association(**key)
    assert refusal(eks.describe_pod_identity_association, **key)[0] == 404
