"""As slow as AWS: EKS's states in EKS's order, on a faster clock, and the runbook's own waiters on them."""

import pytest

from lib import names, params
from lib.aws import addons, eks_updates, health, iam_roles, launch_template, node_groups, vpc
from lib.aws import clusters as aws_clusters
from lib.errors import AwsError, ParamsError, TimedOut
from lib.params.eks import AddOn
from lib.record.events import Record
from lib.run import Run
from lib.steps import cluster as steps_cluster
from sandbox.eks import delays
from tests.support.stated import IMAGES

NAMED = {"clusterName": "runbook", "nodegroupName": "nodes"}
LOOK = {"pause": 0.02}


@pytest.fixture
def slow(world):
    """A world with a cluster that takes 0.6 seconds, and an update of it 0.3."""
    world.delays.scale = 0.001
    return world


def seen(wait, *values, **more):
    """Return the statuses that a waiter of the runbook saw, each once, in their order."""
    told = []
    wait(*values, tell=lambda seconds, status: told.append(status), **LOOK, **more)
    return list(dict.fromkeys(told))


def test_a_cluster_is_creating_for_the_delay(slow):
    slow.cluster()
    service = slow.client("eks")
    assert slow.shown()[0]["processes"] and "runbook" not in slow.nodes  # nothing is begun yet
    with pytest.raises(TimedOut, match="cluster runbook to be ACTIVE within 0 s, got 'CREATING' .*run it again later"):
        aws_clusters.wait_cluster_active(service, "runbook", 0.1, **LOOK)
    assert seen(aws_clusters.wait_cluster_active, service, "runbook", 10) == ["CREATING"]
    assert aws_clusters.find_cluster(service, "runbook")["endpoint"]


def test_only_one_update_is_in_progress(slow, refusal):
    slow.active()
    service = slow.client("eks")
    change = {"name": "runbook", "resourcesVpcConfig": {"endpointPrivateAccess": True}}
    update = service.update_cluster_config(**change)["update"]
    found = aws_clusters.find_cluster(service, "runbook")
    assert (update["status"], found["status"]) == ("InProgress", "UPDATING")
    assert found["resourcesVpcConfig"]["endpointPrivateAccess"] is False  # until it is over
    assert refusal(service.update_cluster_config, **change)[:2] == (409, "ResourceInUseException")
    assert seen(eks_updates.wait_update, service, "runbook", update, "cluster runbook", 10) == ["InProgress"]
    found = aws_clusters.find_cluster(service, "runbook")
    assert (found["status"], found["resourcesVpcConfig"]["endpointPrivateAccess"]) == ("ACTIVE", True)


def test_a_node_groups_life(slow):
    slow.active()
    service = slow.client("eks")
    slow.group()
    about = (service, "runbook", "nodes", 10)
    assert seen(aws_clusters.wait_node_group_active, *about) == ["CREATING"]
    service.update_nodegroup_config(**NAMED, scalingConfig={"maxSize": 3})
    assert seen(aws_clusters.wait_node_group_active, *about) == ["UPDATING"]
    service.delete_nodegroup(**NAMED)
    assert seen(aws_clusters.wait_node_group_gone, *about) == ["DELETING"]
    service.delete_cluster(name="runbook")
    assert seen(aws_clusters.wait_cluster_gone, service, "runbook", 10) == ["DELETING"]


def test_a_run_waits_for_an_aborted_runs_update_before_it_changes_the_cluster(slow):
    slow.active()
    service, tags = slow.client("eks"), {"Project": "test"}
    slow.group(tags=tags, capacityType="ON_DEMAND", amiType=node_groups.DEFAULT_AMI_TYPE, instanceTypes=["m5.large"])
    about = (
        service,
        "runbook",
        "nodes",
        slow.roles["node"],
        slow.subnets(),
        node_groups.NodeGroupConfig(["m5.large"], 3),
        tags,
    )
    found, action = node_groups.ensure_node_group(*about, deadline=10, **LOOK)  # it is CREATING
    assert (action, found["status"], found["scalingConfig"]["maxSize"]) == ("changed", "ACTIVE", 3)
    addon = {"clusterName": "runbook", "addonName": "aws-ebs-csi-driver"}
    service.create_addon(**addon, tags=tags)
    cluster, wanted = (
        aws_clusters.find_cluster(service, "runbook"),
        AddOn(configuration={"defaultStorageClass": {"enabled": True}}),
    )
    assert addons.ensure_addon(service, cluster, addon["addonName"], wanted, tags, 10, **LOOK)[1] == "changed"


def test_a_degraded_node_group_is_an_error_at_once_that_gives_the_remedy(slow):
    slow.active()
    slow.group(tags={"eks-sandbox/health": "DEGRADED AsgInstanceLaunchFailures"})
    with pytest.raises(AwsError) as told:
        aws_clusters.wait_node_group_active(slow.client("eks"), "runbook", "nodes", 10, **LOOK)
    assert "node group nodes to be ACTIVE, got DEGRADED (AsgInstanceLaunchFailures: " in str(told.value)
    assert health.advice()["AsgInstanceLaunchFailures"] in str(told.value)


def test_an_add_on_is_creating_then_what_the_node_says(slow):
    slow.active()
    slow.delays.scale = 0.02  # an add-on is quick: on a busy machine it would be there before it is looked at
    service, named = slow.client("eks"), {"clusterName": "runbook", "addonName": "coredns"}
    assert service.create_addon(**named)["addon"]["status"] == "CREATING"
    assert seen(addons.wait_addon_active, service, "runbook", "coredns", 10) == ["CREATING"]
    update = service.update_addon(**named, configurationValues="{}")["update"]
    assert service.describe_addon(**named)["addon"]["status"] == "UPDATING"
    eks_updates.wait_update(service, "runbook", update, "add-on coredns", 10, of={"addonName": "coredns"}, **LOOK)
    assert service.describe_addon(**named)["addon"]["status"] == "ACTIVE"


def test_step_01_on_a_slow_endpoint_ends_with_all_of_it_active_and_changes_what_differs(slow):
    def step(**changed):
        values = {"env": "of-the-tests-of-delays", "cluster_source": "eks", "cluster_name": "runbook", "istio_tag": "1"}
        values |= {"aws_endpoint_url": slow.server.url, "deadline": 20, "node_count": 1, **IMAGES}
        values |= {"addons": dict.fromkeys(("coredns", "aws-ebs-csi-driver", "eks-pod-identity-agent"), "default")}
        run = Run("01-cluster", params.Params(**{**values, **changed}), Record())
        run.aws = slow.client
        steps_cluster.ensure(run)
        assert set(steps_cluster.addon_table(run)["status"]) == {"ACTIVE"}
        return {f"{row['kind']} {row['name']}": row["action"] for row in run.changes}

    assert set(step().values()) <= {"created", "unchanged"}
    storage = {"version": "default", "configuration": {"defaultStorageClass": {"enabled": True}}}
    other = {"control_plane_logs": ["api"], "node_labels": {"a": "b"}, "node_disk_gib": 40}
    other["addons"] = {"aws-ebs-csi-driver": storage, "eks-pod-identity-agent": "default"}
    done = step(**other)
    assert {what for what, action in done.items() if action == "changed"} == {
        "control plane runbook", "launch template runbook-workers", "node group workers", "add-on aws-ebs-csi-driver",
    }  # fmt: skip
    assert set(step(**other).values()) == {"unchanged"}
    group = aws_clusters.find_node_group(slow.client("eks"), "runbook", "workers")
    assert (group["status"], group["labels"], group["launchTemplate"]["version"]) == ("ACTIVE", {"a": "b"}, "2")
    slow.empty()
    tags = names.tags("runbook")
    launch_template.delete_template(slow.client("ec2"), "runbook-workers", tags)
    vpc.delete_network(slow.client("ec2"), tags, 20)
    for role in (*steps_cluster.addon_roles("runbook"), *steps_cluster.cluster_roles("runbook")):
        iam_roles.delete_role(slow.client("iam"), role, tags)


@pytest.mark.parametrize(
    ("said", "scale"), [("", 0), ("real", 1), ("real:0.05", 0.05), ("real:.1", 0.1), ("real:2", 2)]
)
def test_the_environment_variable_sets_the_delays(said, scale):
    assert delays.from_environment({delays.VARIABLE: said} if said else {}).scale == scale


@pytest.mark.parametrize("said", ["yes", "real:", "real:x", "1", "real:1.2.3"])
def test_an_invalid_delay_is_an_error(said):
    with pytest.raises(ParamsError, match="SANDBOX_AWS_DELAYS: expected real, or real:0.1"):
        delays.from_environment({delays.VARIABLE: said})


def test_delays_are_those_of_the_clock():
    now = [100.0]
    made = delays.Delays(0.5, lambda: now[0])
    due = made.due("cluster")
    assert made.left(due) == 300
    now[0] += 299
    assert made.left(due) == 1
    now[0] += 10
    assert made.left(due) == 0 == delays.Delays().left(delays.Delays().due("cluster"))
