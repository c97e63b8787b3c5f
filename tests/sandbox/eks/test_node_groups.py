"""Node groups by boto3: labels and taints that reach the node, the launch template, updates one at a time."""

import pytest

NAMED = {"clusterName": "runbook", "nodegroupName": "nodes"}


@pytest.fixture
def template(world):
    ec2 = world.client("ec2")
    made = ec2.create_launch_template(LaunchTemplateName="nodes-start", LaunchTemplateData={"EbsOptimized": True})
    yield {"name": "nodes-start", "version": "1"}
    ec2.delete_launch_template(LaunchTemplateId=made["LaunchTemplate"]["LaunchTemplateId"])


def test_labels_and_taints_reach_the_node(world):
    node = world.active()
    taint = {"key": "only", "value": "x", "effect": "NO_SCHEDULE"}
    world.group(labels={"a": "b"}, taints=[taint])
    world.until("nodegroup_active")
    assert node.done[-1] == ("set_labels_and_taints", {"a": "b"}, [taint])
    changes = {"labels": {"addOrUpdateLabels": {"c": "d"}, "removeLabels": ["a"]}, "taints": {"removeTaints": [taint]}}
    update = world.client("eks").update_nodegroup_config(**NAMED, **changes)["update"]
    assert (update["type"], update["status"]) == ("ConfigUpdate", "Successful")
    assert node.done[-1] == ("set_labels_and_taints", {"c": "d"}, [])
    said = world.client("eks").describe_update(name="runbook", updateId=update["id"], nodegroupName="nodes")["update"]
    assert {one["type"] for one in said["params"]} == {"Labels", "Taints"}


def test_a_launch_template_has_the_disk_and_only_its_version_changes(world, refusal, template):
    world.active()
    made = world.group(launchTemplate=template)
    assert "diskSize" not in made and made["launchTemplate"]["name"] == "nodes-start" and made["launchTemplate"]["id"]
    world.until("nodegroup_active")
    eks, ec2 = world.client("eks"), world.client("ec2")
    ec2.create_launch_template_version(LaunchTemplateName="nodes-start", LaunchTemplateData={"EbsOptimized": False})
    for wrong in ({"name": "nodes-start", "version": "9"}, {"name": "other", "version": "1"}):
        assert refusal(eks.update_nodegroup_version, **NAMED, launchTemplate=wrong)[1] == "InvalidParameterException"
    update = eks.update_nodegroup_version(**NAMED, launchTemplate={"name": "nodes-start", "version": "2"})["update"]
    assert (update["type"], update["status"]) == ("VersionUpdate", "Successful")
    assert eks.describe_nodegroup(**NAMED)["nodegroup"]["launchTemplate"]["version"] == "2"


def test_invalid_node_groups(world, refusal, template):
    world.active()
    assert refusal(world.group, launchTemplate={"name": "none", "version": "1"})[1] == "InvalidParameterException"
    assert refusal(world.group, launchTemplate=template, diskSize=30)[1] == "InvalidParameterException"
    assert refusal(world.group, version="1.30")[1] == "InvalidParameterException"
    world.group()
    eks = world.client("eks")
    world.until("nodegroup_active")
    assert refusal(eks.update_nodegroup_version, **NAMED, launchTemplate=template)[1] == "InvalidRequestException"
    assert refusal(eks.update_nodegroup_version, **NAMED, version="1.37")[1] == "InvalidParameterException"
    scaling = {"minSize": 3, "maxSize": 1}
    assert refusal(eks.update_nodegroup_config, **NAMED, scalingConfig=scaling)[1] == "InvalidParameterException"


def test_a_forced_failure_of_an_update_changes_nothing(world):
    world.active()
    world.group(tags={"eks-sandbox/update": "PodEvictionFailure"})
    world.until("nodegroup_active")
    eks = world.client("eks")
    update = eks.update_nodegroup_config(**NAMED, scalingConfig={"maxSize": 5})["update"]
    assert (update["status"], update["errors"][0]["errorCode"]) == ("Failed", "PodEvictionFailure")
    group = eks.describe_nodegroup(**NAMED)["nodegroup"]
    assert (group["status"], group["scalingConfig"]["maxSize"]) == ("ACTIVE", 2)
    assert eks.list_updates(name="runbook", nodegroupName="nodes")["updateIds"] == [update["id"]]


def test_a_node_group_is_degraded_by_a_tag_and_recovers(world):
    world.active()
    arn = world.group()["nodegroupArn"]
    world.until("nodegroup_active")
    eks = world.client("eks")
    eks.tag_resource(resourceArn=arn, tags={"eks-sandbox/health": "DEGRADED AsgInstanceLaunchFailures"})
    found = eks.describe_nodegroup(**NAMED)["nodegroup"]
    assert (found["status"], found["health"]["issues"][0]["code"]) == ("DEGRADED", "AsgInstanceLaunchFailures")
    eks.untag_resource(resourceArn=arn, tagKeys=["eks-sandbox/health"])
    found = eks.describe_nodegroup(**NAMED)["nodegroup"]
    assert (found["status"], found["health"]["issues"]) == ("ACTIVE", [])
