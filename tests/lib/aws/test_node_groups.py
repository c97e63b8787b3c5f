"""Nodes: what they start from, and which of what they are may change; each update is waited for."""

import pytest
from pydantic import ValidationError

from lib import names, params
from lib.aws import clusters as aws_clusters
from lib.aws import launch_template
from lib.aws import session as aws_session
from lib.aws import tags as aws_tags
from lib.errors import AwsError
from lib.steps import cluster
from tests.support import whole_eks
from tests.support.stated import REAL

TAGS = names.tags("demo")
ENV = "of-the-nodes-tests"


@pytest.fixture(scope="module")
def account():
    """A session, and what the first two runs of step 01 did in its empty account."""
    with whole_eks.account() as made:
        yield made, [ensured(made, node_disk_gib=30) for _ in range(2)]


@pytest.fixture
def session(account):
    return account[0]


def ensured(session, **changed):
    """Run step 01 with these params; return what it did to template and node group, and the node group."""
    run = whole_eks.step(session, ENV, **changed)
    cluster.ensure(run)
    done = {row["kind"]: row["action"] for row in run.changes if row["kind"] in ("launch template", "node group")}
    group = aws_clusters.find_node_group(aws_session.client(session, "eks"), "demo", cluster.NODE_GROUP)
    return done["launch template"], done["node group"], group


def data(session, version="$Latest"):
    found = aws_session.client(session, "ec2").describe_launch_template_versions(
        LaunchTemplateName="demo-workers", Versions=[version]
    )
    return found["LaunchTemplateVersions"][0]["LaunchTemplateData"]


def test_nodes_start_with_imdsv2_alone_and_an_encrypted_disk(account):
    session, ((template, action, group), again) = account
    assert (template, action) == ("created", "created")
    made = data(session, "1")
    assert made["MetadataOptions"]["HttpTokens"] == "required"
    assert made["MetadataOptions"]["HttpPutResponseHopLimit"] == 1
    (disk,) = made["BlockDeviceMappings"]
    assert disk["DeviceName"] == "/dev/xvda"
    assert {key: disk["Ebs"][key] for key in ("VolumeType", "VolumeSize", "Encrypted")} == {
        "VolumeType": "gp3", "VolumeSize": 30, "Encrypted": True,
    }  # fmt: skip
    for spec in made["TagSpecifications"]:
        assert TAGS.items() <= aws_tags.tag_dict(spec["Tags"]).items()
    assert group["launchTemplate"]["name"] == "demo-workers" and group["launchTemplate"]["version"] == "1"
    assert again[:2] == ("unchanged", "unchanged")


def test_another_disk_is_a_new_version_to_which_the_nodes_are_moved(session):
    ensured(session)
    template, action, group = ensured(session, node_disk_gib=50)
    assert (template, action) == ("changed", "changed")
    latest = group["launchTemplate"]["version"]
    assert data(session, latest)["BlockDeviceMappings"][0]["Ebs"]["VolumeSize"] == 50
    assert ensured(session, node_disk_gib=50)[:2] == ("unchanged", "unchanged")


def test_size_labels_and_taints_are_changed_in_place(session):
    ensured(session)
    changed = {"node_count": 3, "node_min": 1, "node_max": 4, "node_labels": {"team": "a", "tier": "b"},
               "node_taints": [{"key": "only", "value": "x"}]}  # fmt: skip
    _, action, group = ensured(session, **changed)
    assert action == "changed" and group["scalingConfig"] == {"minSize": 1, "maxSize": 4, "desiredSize": 3}
    assert group["labels"] == {"team": "a", "tier": "b"}
    assert group["taints"] == [{"key": "only", "value": "x", "effect": "NO_SCHEDULE"}]
    assert ensured(session, **changed)[1] == "unchanged"
    _, action, group = ensured(session, node_labels={"tier": "c"})
    assert action == "changed" and (group["labels"], group["taints"]) == ({"tier": "c"}, [])


@pytest.mark.parametrize(
    ("changed", "part"),
    [
        ({"node_instance_type": "m6i.large"}, "instance types"),
        ({"node_capacity": "SPOT"}, "capacity"),
        ({"node_ami_type": "BOTTLEROCKET_x86_64"}, "AMI type"),
    ],
)
def test_a_fixed_field_that_differs_is_an_error(session, changed, part):
    ensured(session)
    with pytest.raises(AwsError, match=f"expected {part} of node group workers to be .*cannot be changed; set the par"):
        ensured(session, **changed)


def test_a_template_of_somebody_else_is_let_alone(session):
    ec2 = aws_session.client(session, "ec2")
    ec2.create_launch_template(LaunchTemplateName="theirs", LaunchTemplateData={"EbsOptimized": True})
    for act in (
        lambda: launch_template.ensure_template(
            ec2, "theirs", launch_template.template_data(20, "AL2023_x86_64_STANDARD", "x", TAGS), TAGS
        ),
        lambda: launch_template.delete_template(ec2, "theirs", TAGS),
    ):
        with pytest.raises(
            AwsError, match="launch template theirs: expected the tags .*this runbook did not create it"
        ):
            act()


def test_bottlerocket_has_its_data_on_the_second_disk():
    (disk,) = launch_template.template_data(40, "BOTTLEROCKET_ARM_64", "x", TAGS)["BlockDeviceMappings"]
    assert (disk["DeviceName"], disk["Ebs"]["VolumeSize"]) == ("/dev/xvdb", 40)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"node_min": 3, "node_count": 2}, "node_count 2 is not between node_min 3 and node_max 2"),
        ({"node_ami_type": "AL2023_ARM_64_STANDARD"}, "is for ARM, m5.large is not"),
        ({"node_instance_type": "m7g.large"}, "node_instance_type m7g.large is ARM"),
        ({"node_disk_gib": 5}, "node_disk_gib"),
        ({"node_taints": [{"key": "a", "effect": "NoSchedule"}]}, "node_taints.0.effect"),
    ],
)
def test_nodes_that_cannot_be(wrong, words):
    with pytest.raises(ValidationError, match=words):
        params.Params(env=ENV, **{**REAL, **wrong})
