"""EKS by boto3 and its own waiters: states that follow fake nodes, and the refusals of EKS."""

import base64

import pytest
from botocore.exceptions import WaiterError

from tests.support import account
from tests.support.eks_world import VERSION, FakeNode


def test_a_clusters_life(world, refusal):
    world.hold = True
    made = world.cluster(tags={"Project": "test"})
    assert made["status"] == "CREATING" and "endpoint" not in made and made["certificateAuthority"] == {}
    eks = world.client("eks")
    assert refusal(eks.delete_cluster, name="runbook")[:2] == (409, "ResourceInUseException")
    world.nodes["runbook"].go.set()
    world.until("cluster_active")
    cluster = eks.describe_cluster(name="runbook")["cluster"]
    assert cluster["endpoint"] == FakeNode.endpoint
    assert base64.b64decode(cluster["certificateAuthority"]["data"]) == FakeNode.ca_pem
    assert (cluster["version"], cluster["health"], cluster["tags"]) == (VERSION, {"issues": []}, {"Project": "test"})
    assert cluster["accessConfig"]["authenticationMode"] == "API"
    assert cluster["kubernetesNetworkConfig"] == {"serviceIpv4Cidr": "10.100.0.0/16", "ipFamily": "ipv4"}
    assert cluster["resourcesVpcConfig"]["endpointPublicAccess"] is True and cluster["identity"]["oidc"]["issuer"]
    group_id = cluster["resourcesVpcConfig"]["clusterSecurityGroupId"]
    ec2 = world.client("ec2")
    (group,) = ec2.describe_security_groups(GroupIds=[group_id])["SecurityGroups"]
    (rule,) = group["IpPermissions"]  # EKS's group lets its own members in everywhere
    assert (rule["IpProtocol"], rule["UserIdGroupPairs"][0]["GroupId"]) == ("-1", group_id)
    eks.delete_cluster(name="runbook")
    world.until("cluster_deleted")
    assert refusal(ec2.describe_security_groups, GroupIds=[group_id])[1] == "InvalidGroup.NotFound"
    assert world.nodes["runbook"].done == [("start",), ("stop",)]
    world.cluster()


def test_a_repeated_call_creates_nothing_new(world, refusal):
    first, node = world.cluster(clientRequestToken="a"), world.nodes["runbook"]
    again = world.cluster(clientRequestToken="a")
    assert again["arn"] == first["arn"] and world.nodes["runbook"] is node
    code, error = refusal(world.cluster, clientRequestToken="a", tags={"Project": "other"})[:2]
    assert (code, error) == (400, "InvalidParameterException")
    assert refusal(world.cluster, clientRequestToken="b")[1] == "ResourceInUseException"
    world.until("cluster_active")
    group = world.group(clientRequestToken="c")
    assert world.group(clientRequestToken="c")["nodegroupArn"] == group["nodegroupArn"]
    assert refusal(world.group, clientRequestToken="c", labels={"a": "b"})[1] == "InvalidParameterException"
    assert refusal(world.group, clientRequestToken="d")[1] == "ResourceInUseException"
    world.until("nodegroup_active")
    assert [done[0] for done in node.done] == ["start", "join"]


def test_a_node_groups_life(world, refusal):
    world.active()
    node = world.nodes["runbook"]
    node.go.clear()
    made = world.group()
    eks, named = world.client("eks"), {"clusterName": "runbook", "nodegroupName": "nodes"}
    assert (made["status"], made["version"]) == ("CREATING", VERSION)
    assert refusal(eks.delete_nodegroup, **named)[1] == "ResourceInUseException"
    node.go.set()
    world.until("nodegroup_active")
    assert refusal(world.group)[1] == "ResourceInUseException"
    assert refusal(eks.delete_cluster, name="runbook")[:2] == (409, "ResourceInUseException")
    node.go.clear()
    assert eks.delete_nodegroup(**named)["nodegroup"]["status"] == "DELETING"
    assert eks.delete_nodegroup(**named)["nodegroup"]["status"] == "DELETING"
    assert refusal(eks.delete_cluster, name="runbook")[1] == "ResourceInUseException"
    node.go.set()
    world.until("nodegroup_deleted")
    eks.delete_cluster(name="runbook")
    world.until("cluster_deleted")
    assert node.done == [("start",), ("join", "nodes", 2), ("leave", "nodes"), ("stop",)]
    assert len(node.threads) == 1  # the kernel ends a node with the thread that started it


def test_a_control_plane_that_does_not_start(world):
    world.errors["start"] = "expected kube-apiserver to run, got exit code 1; see its log"
    world.cluster()
    with pytest.raises(WaiterError):
        world.until("cluster_active")
    cluster = world.client("eks").describe_cluster(name="runbook")["cluster"]
    assert (cluster["status"], cluster["health"]["issues"][0]["message"]) == ("FAILED", world.errors["start"])
    assert any(world.errors["start"] in line for line in world.lines)
    assert world.shown()[0]["issues"] == [world.errors["start"]]
    world.client("eks").delete_cluster(name="runbook")
    world.until("cluster_deleted")


def test_a_node_group_that_does_not_start_or_stop(world):
    world.errors.update(join="expected the node Ready", leave="expected it gone")
    world.active()
    world.group()
    with pytest.raises(WaiterError):
        world.until("nodegroup_active")
    eks, named = world.client("eks"), {"clusterName": "runbook", "nodegroupName": "nodes"}
    group = eks.describe_nodegroup(**named)["nodegroup"]
    assert (group["status"], group["health"]["issues"][0]["message"]) == ("CREATE_FAILED", "expected the node Ready")
    eks.delete_nodegroup(**named)
    with pytest.raises(WaiterError):
        world.until("nodegroup_deleted")
    assert eks.describe_nodegroup(**named)["nodegroup"]["status"] == "DELETE_FAILED"


def test_clusters_side_by_side(world):
    for name in ("one", "two"):
        world.cluster(name)
    for name in ("one", "two"):
        world.until("cluster_active", name)
    world.client("eks").delete_cluster(name="one")
    world.until("cluster_deleted", "one")
    assert world.client("eks").list_clusters()["clusters"] == ["two"]
    assert ("stop",) not in world.nodes["two"].done


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        ({"version": "1.19"}, "unsupported Kubernetes version 1.19; there is 1.36."),
        ({"roleArn": "arn:aws:iam::123456789012:role/none"}, "could not be assumed because it does not exist"),
        ({"resourcesVpcConfig": {"subnetIds": ["subnet-1", "subnet-2"]}}, "'subnet-1' does not exist"),
        ({"kubernetesNetworkConfig": {"serviceIpv4Cidr": "172.20.0.0/16"}}, "10.100.0.0/16"),
    ],
)
def test_invalid_clusters(world, refusal, stated, message):
    status, code, said = refusal(world.cluster, **stated)
    assert (status, code) == (400, "InvalidParameterException") and message in said
    assert not world.nodes


def test_more_invalid_clusters(world, refusal):
    world.active()
    eks = world.client("eks")
    assert refusal(world.cluster)[:2] == (409, "ResourceInUseException")
    assert "ec2.amazonaws.com" in refusal(world.group, nodeRole=world.roles["cluster"])[2]
    one_zone = {"subnetIds": world.subnets()[:1]}
    assert "two different AZs" in refusal(world.cluster, name="x", resourcesVpcConfig=one_zone)[2]
    assert "trusted entity" in refusal(world.cluster, name="x", roleArn=world.role("node", "ec2.amazonaws.com"))[2]
    held = world.session.get_credentials()
    elsewhere = account.session(held.access_key, held.secret_key, region_name="eu-west-1")
    assert "us-east-1" in refusal(world.cluster, name="x", session=elsewhere)[2]
    assert "unsupported" in refusal(eks.update_cluster_version, name="runbook", version="1.37")[2]
    assert refusal(eks.update_cluster_version, name="runbook", version=VERSION)[1] == "InvalidParameterException"
    profile = {
        "fargateProfileName": "f",
        "podExecutionRoleArn": world.roles["cluster"],
        "selectors": [{"namespace": "x"}],
    }
    assert refusal(eks.create_fargate_profile, clusterName="runbook", **profile)[1] == "InvalidRequestException"


@pytest.mark.parametrize(
    ("call", "named"),
    [
        ("describe_cluster", {"name": "none"}),
        ("delete_cluster", {"name": "none"}),
        ("list_nodegroups", {"clusterName": "none"}),
        ("describe_nodegroup", {"clusterName": "none", "nodegroupName": "x"}),
        ("delete_nodegroup", {"clusterName": "none", "nodegroupName": "x"}),
    ],
)
def test_a_missing_cluster(world, refusal, call, named):
    assert refusal(getattr(world.client("eks"), call), **named)[:2] == (404, "ResourceNotFoundException")


def test_every_resource_with_an_arn_has_tags(world, refusal):
    world.active(tags={"a": "b"})
    group, eks = world.group(), world.client("eks")
    addon = eks.create_addon(clusterName="runbook", addonName="coredns")["addon"]
    admin = eks.list_access_entries(clusterName="runbook")["accessEntries"][0]
    entry = eks.describe_access_entry(clusterName="runbook", principalArn=admin)["accessEntry"]
    cluster = eks.describe_cluster(name="runbook")["cluster"]
    for arn in (cluster["arn"], group["nodegroupArn"], addon["addonArn"], entry["accessEntryArn"]):
        eks.tag_resource(resourceArn=arn, tags={"c": "d", "e": "f"})
        eks.untag_resource(resourceArn=arn, tagKeys=["none", "c"])
        said = eks.list_tags_for_resource(resourceArn=arn)["tags"]
        assert said["e"] == "f" and "c" not in said
    assert eks.describe_cluster(name="runbook")["cluster"]["tags"] == {"a": "b", "e": "f"}
    assert refusal(eks.list_tags_for_resource, resourceArn=f"{cluster['arn']}x")[:2] == (
        404,
        "ResourceNotFoundException",
    )
    world.until("nodegroup_active")


def test_anybody_can_read_the_status(world):
    assert world.shown() == []
    world.active()
    world.group()
    world.until("nodegroup_active")
    assert world.shown() == [
        {
            "name": "runbook",
            "status": "ACTIVE",
            "version": VERSION,
            "endpoint": FakeNode.endpoint,
            "issues": [],
            "nodeGroups": [{"name": "nodes", "status": "ACTIVE", "issues": []}],
            "processes": {"etcd": {"pid": 1}},
        }
    ]
