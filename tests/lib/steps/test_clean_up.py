"""The clean-up against moto: all of ours goes, whenever it was interrupted; nothing of anybody else's does."""

from functools import cache

import pytest
from moto import mock_aws

from lib import params
from lib.aws import leftovers as aws_cleanup
from lib.aws import session as aws_session
from lib.aws import tags as aws_tags
from lib.errors import AwsError, ClusterError
from lib.record.events import Record
from lib.run import Run
from lib.steps import clean_up
from tests.support import account
from tests.support.stated import IMAGES

ACCOUNT = "123456789012"  # moto's
DELETES = ("Delete", "Detach", "Disassociate", "Revoke", "Release")
PROVIDER = {"Url": "https://oidc.eks.us-east-1.amazonaws.com/id/1", "ThumbprintList": ["0" * 40]}
ENV = "of-the-clean-ups-tests"
LOGS = f"/aws/eks/{account.NAME}/cluster"


class Unreachable:
    """A cluster whose API nobody reaches."""

    def ready(self):
        raise ClusterError("expected the cluster's API at https://gone, got no answer; is the cluster up?")


class Reachable:
    """A cluster with a Service and a claim of somebody's, whose controller takes their things away when they go."""

    def __init__(self, session):
        self.session, self.deleted = session, []

    def ready(self):
        return True

    def find(self, *_):
        return None

    def items(self, api_version, kind, *_):
        spec, gone = {"type": "LoadBalancer"}, [one[0] for one in self.deleted]
        shown = kind in ("Service", "PersistentVolumeClaim") and kind not in gone
        return [{"metadata": {"name": "theirs", "namespace": "their"}, "spec": spec}] if shown else []

    def delete(self, api_version, kind, name, namespace):
        self.deleted.append((kind, name, namespace))
        if kind == "Service":
            elbv2 = account.client(self.session, "elbv2")
            for one in elbv2.describe_load_balancers()["LoadBalancers"]:
                elbv2.delete_load_balancer(LoadBalancerArn=one["LoadBalancerArn"])
            for one in elbv2.describe_target_groups()["TargetGroups"]:
                elbv2.delete_target_group(TargetGroupArn=one["TargetGroupArn"])
        else:
            ec2 = account.client(self.session, "ec2")
            for one in ec2.describe_volumes()["Volumes"]:
                ec2.delete_volume(VolumeId=one["VolumeId"])
        return "deleted"


@pytest.fixture
def session(monkeypatch):
    monkeypatch.setenv("CONFIRM", "yes")
    with mock_aws():
        yield account.session()
    for name in (ENV, f"{ENV}-ca.pem"):
        (params.ROOT / ".kube" / name).unlink(missing_ok=True)


def new_run(session, cluster=None, client=None, **changed):
    values = {"env": ENV, "cluster_source": "eks", "cluster_name": account.NAME, "istio_tag": "1"}
    values |= {"account_id": ACCOUNT, "delete_log_group": True, "deadline": 5}
    run = Run("99-clean-up", params.Params(**{**values, **IMAGES, **changed}), Record())
    run.aws = client or (lambda name: account.client(session, name))
    run.cluster = cluster or Unreachable()
    return run


def fill(session):
    """Make all that a cluster leaves, and what is nobody's business."""
    net = account.build(session)
    account.made_by_kubernetes(session, net)
    tags = aws_tags.tag_list(account.TAGS)
    account.client(session, "iam").create_open_id_connect_provider(**PROVIDER, Tags=tags)
    account.client(session, "logs").create_log_group(logGroupName=LOGS)
    return net


def clean(run):
    clean_up.delete_cluster_objects(run)
    clean_up.delete_load_balancers(run)
    clean_up.delete_cluster(run)
    return clean_up.check(run)


def test_all_of_it_goes_though_nobody_answers_for_the_cluster(session):
    account.foreign(session)
    before = account.everything(session)
    fill(session)
    listed = set(clean_up.inventory(new_run(session))["kind"])
    assert {"cluster", "node group", "load balancer", "target group", "security group", "volume", "role", "vpc",
            "network interface", "identity provider", "log group", "subnet"} <= listed  # fmt: skip
    run = new_run(session)
    run.params.authority_file.parent.mkdir(exist_ok=True)
    run.params.authority_file.write_text("-----BEGIN CERTIFICATE-----")
    assert clean(run).empty and not [one for one in run.checks if one.red]
    assert account.everything(session) == before and not run.params.authority_file.exists()
    assert clean(new_run(session)).empty


def test_interrupted_after_each_single_call_it_goes_on(session):
    """Each clean-up takes one more thing away and is stopped, until nothing stops it any more."""
    account.foreign(session)
    before, interrupted = account.everything(session), []
    fill(session)
    stopping = _interrupting(session)
    while True:
        try:
            clean(new_run(session, client=stopping))
        except KeyboardInterrupt as stopped:
            interrupted.append(str(stopped))
        else:
            break
    assert account.everything(session) == before and clean_up.inventory(new_run(session)).empty
    kinds = ["LoadBalancer", "TargetGroup", "Nodegroup", "Cluster", "Volume", "Vpc", "SecurityGroup", "Subnet", "Role"]
    kinds += ["LogGroup", "RouteTable", "InternetGateway", "NetworkInterface", "OpenIDConnectProvider"]
    kinds += ["NatGateway"]
    assert {f"Delete{kind}" for kind in kinds} | {"ReleaseAddress"} <= set(interrupted)


def test_what_is_left_of_a_cluster_that_is_gone_is_found(session):
    net = account.build(session)
    account.made_by_kubernetes(session, net)
    service = account.client(session, "eks")
    service.delete_nodegroup(clusterName=account.NAME, nodegroupName="workers")
    service.delete_cluster(name=account.NAME)
    assert {"load balancer", "volume"} <= set(clean_up.inventory(new_run(session))["kind"])
    assert clean(new_run(session)).empty


def test_where_the_cluster_answers_its_own_controllers_do_it(session):
    account.made_by_kubernetes(session, account.build(session))
    cluster = Reachable(session)
    run = new_run(session, cluster)
    assert clean(run).empty
    assert cluster.deleted == [("Service", "theirs", "their"), ("PersistentVolumeClaim", "theirs", "their")]
    assert not [row for row in run.changes if row["kind"] == "load balancer"]


@pytest.mark.parametrize(
    ("changed", "confirm", "words"),
    [
        ({"account_id": None}, "yes", "The params name no account. Set account_id"),
        (
            {"account_id": "210987654321"},
            "yes",
            f"Your credentials are of account {ACCOUNT}, the params name 210987654321",
        ),
        ({}, "", "objects are deleted in account 123456789012, got none; read the list above, then run: make clean-up"),
    ],
)
def test_it_stops_before_the_first_delete(session, monkeypatch, changed, confirm, words):
    fill(session)
    before = account.everything(session)
    monkeypatch.setenv("CONFIRM", confirm)
    for step in (clean_up.delete_cluster_objects, clean_up.delete_load_balancers, clean_up.delete_cluster):
        with pytest.raises(AwsError, match=words):
            step(new_run(session, **changed))
    assert account.everything(session) == before


def test_at_a_local_endpoint_nobody_is_asked(session, monkeypatch):
    fill(session)
    monkeypatch.delenv("CONFIRM")
    assert clean(new_run(session, aws_endpoint_url="http://127.0.0.1:1", account_id=None)).empty


def test_a_cluster_of_that_name_without_our_tags_stops_it(session):
    net = fill(session)
    service = account.client(session, "eks")
    service.delete_nodegroup(clusterName=account.NAME, nodegroupName="workers")
    service.delete_cluster(name=account.NAME)
    role = account.client(session, "iam").get_role(RoleName="demo-cluster")["Role"]["Arn"]
    service.create_cluster(name=account.NAME, roleArn=role, resourcesVpcConfig={"subnetIds": net["subnet_ids"]})
    before = account.everything(session)
    for step in (clean_up.delete_cluster_objects, clean_up.delete_load_balancers, clean_up.delete_cluster):
        with pytest.raises(AwsError, match="cluster demo: expected the tags .*this runbook did not create it"):
            step(new_run(session))
    assert account.everything(session) == before


def test_in_a_vpc_of_somebody_elses_a_load_balancers_interface_is_known_by_its_group(session):
    net = account.foreign(session)
    ec2 = account.client(session, "ec2")
    mark = account.tagged("security-group", {"elbv2.k8s.aws/cluster": account.NAME})
    about = {"GroupName": "k8s-traffic", "Description": "d", "VpcId": net["vpc_id"]}
    ours = ec2.create_security_group(**about, **mark)["GroupId"]
    theirs = ec2.create_security_group(**{**about, "GroupName": "theirs"})["GroupId"]
    interface_ids = {}
    for group, description in ((ours, "ELB net/a/1"), (ours, "a pod"), (theirs, "ELB net/b/2")):
        about = {"SubnetId": net["subnet_ids"][0], "Groups": [group], "Description": description}
        interface_ids[description] = ec2.create_network_interface(**about)["NetworkInterface"]["NetworkInterfaceId"]
    found = aws_cleanup.interfaces(ec2, account.NAME, account.TAGS)
    assert [(one.id, one.name) for one in found] == [(interface_ids["ELB net/a/1"], "ELB net/a/1")]


def test_what_stays_is_named(session):
    net = account.build(session)
    ec2 = account.client(session, "ec2")
    mark = account.tagged("volume", {f"kubernetes.io/cluster/{account.NAME}": "owned"})
    volume = ec2.create_volume(AvailabilityZone="us-east-1a", Size=1, **mark)["VolumeId"]
    instance = ec2.run_instances(ImageId="ami-12345678", MinCount=1, MaxCount=1)["Instances"][0]["InstanceId"]
    ec2.attach_volume(VolumeId=volume, InstanceId=instance, Device="/dev/sdh")
    run = new_run(session)
    assert list(clean(run)["name"]) == [f"{volume} in-use"] and net["vpc_id"] not in account.everything(session)["vpcs"]
    (check,) = run.checks
    assert check.red and check.actual == f"volume {volume} in-use" and "continues where it stopped" in check.reason


def test_tags_are_asked_for_in_batches(session):
    net, elbv2 = account.build(session), account.client(session, "elbv2")
    mark = {f"kubernetes.io/cluster/{account.NAME}": "owned"}
    for n in range(aws_cleanup.BATCH + 2):
        tags = aws_tags.tag_list(mark if n in (0, aws_cleanup.BATCH + 1) else {"a": "b"})
        elbv2.create_target_group(Name=f"g{n}", Protocol="TCP", Port=80, VpcId=net["vpc_id"], Tags=tags)
    assert [one.name for one in aws_cleanup.target_groups(elbv2, account.NAME)] == ["g0", f"g{aws_cleanup.BATCH + 1}"]


def test_an_existing_clusters_account_stays_unchanged(session):
    fill(session)
    before = account.everything(session)
    run = new_run(session, cluster_source="existing", account_id=None)
    assert clean(run).empty and account.everything(session) == before


def _interrupting(session):
    """Return what makes clients that stop everything after each call that takes something away."""

    def after(model, **_):
        if model.name.startswith(DELETES):
            raise KeyboardInterrupt(model.name)

    @cache
    def client(name):
        client = aws_session.client(session, name)
        client.meta.events.register("after-call.*.*", after)
        return client

    return client
