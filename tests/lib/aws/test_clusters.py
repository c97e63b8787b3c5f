"""The cluster, its roles and its network against moto's AWS in this process: twice made is once changed."""

from types import SimpleNamespace

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, NoCredentialsError, ProfileNotFound
from moto import mock_aws

from lib import names
from lib.aws import clusters, iam_roles, node_groups, security_groups
from lib.aws import session as aws_session
from lib.aws import tags as aws_tags
from lib.aws import vpc as aws_vpc
from lib.errors import AwsError, TimedOut
from tests.support import account

REGION = "us-east-1"
TAGS = names.tags("demo")
POLICY = "arn:aws:iam::aws:policy/ReadOnly"


@pytest.fixture
def session():
    with mock_aws():
        yield account.session()


@pytest.fixture
def iam(session):
    """IAM with two customer-managed policies: moto has Amazon's own only when told so."""
    client = account.client(session, "iam")
    document = '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}'
    client.policies = [
        client.create_policy(PolicyName=name, PolicyDocument=document)["Policy"]["Arn"] for name in ("one", "two")
    ]
    return client


def build(session, iam, version="1.36", count=2):
    """Make all of it; return the actions."""
    made, ec2 = account.client(session, "eks"), account.client(session, "ec2")
    role, one = iam_roles.ensure_role(iam, "demo-cluster", "eks.amazonaws.com", iam.policies, TAGS)
    net, changes = aws_vpc.ensure_network(ec2, "demo", "10.0.0.0/16", TAGS)
    _, two = clusters.ensure_cluster(made, "demo", version, role["Arn"], net["subnet_ids"], TAGS)
    clusters.wait_cluster_active(made, "demo", 5)
    group = node_groups.NodeGroupConfig(["m5.large"], count)
    _, three = node_groups.ensure_node_group(made, "demo", "nodes", role["Arn"], net["subnet_ids"], group, TAGS)
    clusters.wait_node_group_active(made, "demo", "nodes", 5)
    return [one, *(action for _, _, action in changes), two, three]


def test_twice(session, iam):
    assert build(session, iam) == ["created"] * 8
    assert build(session, iam) == ["unchanged"] * 8


def test_what_may_change_is_changed(session, iam):
    build(session, iam)
    ec2 = account.client(session, "ec2")
    iam.detach_role_policy(RoleName="demo-cluster", PolicyArn=iam.policies[0])
    subnet = ec2.describe_subnets(Filters=[{"Name": "tag:Name", "Values": ["demo-public-us-east-1a"]}])["Subnets"][0]
    ec2.modify_subnet_attribute(SubnetId=subnet["SubnetId"], MapPublicIpOnLaunch={"Value": False})
    actions = build(session, iam, count=3)
    assert actions == ["changed", "unchanged", "unchanged", "changed", "unchanged", "unchanged", "unchanged", "changed"]
    assert build(session, iam, count=3) == ["unchanged"] * 8


def test_the_network_is_what_load_balancers_need(session, iam):
    build(session, iam)
    ec2 = account.client(session, "ec2")
    found = ec2.describe_subnets(Filters=[{"Name": "tag:Cluster", "Values": ["demo"]}])["Subnets"]
    assert sorted(one["CidrBlock"] for one in found) == ["10.0.0.0/20", "10.0.16.0/20"]
    for one in found:
        tags = aws_tags.tag_dict(one["Tags"])
        assert one["MapPublicIpOnLaunch"]
        assert (tags["kubernetes.io/role/elb"], tags["kubernetes.io/cluster/demo"]) == ("1", "shared")


def test_clean_up_leaves_nothing_and_may_be_repeated(session, iam):
    build(session, iam)
    made, ec2 = account.client(session, "eks"), account.client(session, "ec2")
    for expected in ("deleted", "absent"):
        assert clusters.delete_node_group(made, "demo", "nodes", TAGS) == expected
        clusters.wait_node_group_gone(made, "demo", "nodes", 5)
        assert clusters.delete_cluster(made, "demo", TAGS) == expected
        clusters.wait_cluster_gone(made, "demo", 5)
        assert aws_vpc.delete_network(ec2, TAGS) == expected
        assert iam_roles.delete_role(iam, "demo-cluster", TAGS) == expected
    assert not ec2.describe_vpcs(Filters=[{"Name": "tag:Cluster", "Values": ["demo"]}])["Vpcs"]


def test_what_somebody_else_made_is_left_alone(session, iam):
    iam.create_role(RoleName="demo-cluster", AssumeRolePolicyDocument="{}")
    for call in (
        lambda: iam_roles.ensure_role(iam, "demo-cluster", "eks.amazonaws.com", [], TAGS),
        lambda: iam_roles.delete_role(iam, "demo-cluster", TAGS),
    ):
        with pytest.raises(
            AwsError, match="role demo-cluster: expected the tags .*got {}: this runbook did not create it"
        ):
            call()


def test_a_field_that_cannot_change_is_an_error(session, iam):
    build(session, iam)
    made, ec2 = account.client(session, "eks"), account.client(session, "ec2")
    cluster = made.describe_cluster(name="demo")["cluster"]
    with pytest.raises(AwsError, match="expected subnets of cluster demo to be .*cannot be changed"):
        clusters.ensure_cluster(made, "demo", "1.36", cluster["roleArn"], ["subnet-1"], TAGS)
    with pytest.raises(AwsError, match=r"the VPC demo to have 10.9.0.0/16, got 10.0.0.0/16, which cannot be changed"):
        aws_vpc.ensure_network(ec2, "demo", "10.9.0.0/16", TAGS)
    with pytest.raises(AwsError, match="/24 or larger"):
        aws_vpc.ensure_network(ec2, "small", "10.0.0.0/26", names.tags("small"))


def test_whoami(session):
    assert aws_session.whoami(account.client(session, "sts")).keys() == {"account", "arn", "user_id"}


class ResourceNotFoundException(Exception):
    """No such cluster."""


class FakeEks:
    """EKS whose describe answers, and whose create refuses, in the order given."""

    exceptions = SimpleNamespace(ResourceNotFoundException=ResourceNotFoundException)

    def __init__(self, statuses=(), refusals=()):
        self.statuses, self.refusals, self.created, self.updated = list(statuses), list(refusals), 0, []

    def describe_cluster(self, name):
        if not self.statuses:
            raise self.exceptions.ResourceNotFoundException
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        issues = [{"code": "InsufficientFreeAddresses", "message": "subnet is full"}]
        vpc = {"subnetIds": ["a", "b"]}
        return {
            "cluster": {
                "name": name,
                "status": status,
                "health": {"issues": issues},
                "version": "1.35",
                "roleArn": "role",
                "resourcesVpcConfig": vpc,
                "tags": TAGS,
            }
        }

    def create_cluster(self, **stated):
        if self.refusals:
            raise self.refusals.pop(0)
        self.created += 1
        return {"name": stated["name"], "cluster": stated}

    def update_cluster_version(self, name, version):
        self.updated.append(version)
        return {"update": {"id": "u", "status": "Successful", "type": "VersionUpdate"}}


def refusal(code, message):
    return ClientError({"Error": {"Code": code, "Message": message}}, "CreateCluster")


def test_a_failed_cluster_is_an_error_at_once():
    fake = FakeEks(["CREATING", "CREATING", "FAILED"])
    seen = []
    with pytest.raises(AwsError, match="got FAILED .InsufficientFreeAddresses: subnet is full .the.*; delete it"):
        clusters.wait_cluster_active(
            fake, "demo", 60, lambda seconds, status: seen.append(status), sleep=lambda _: None
        )
    assert [one.split()[0] for one in seen] == ["CREATING", "CREATING"]


def test_a_cluster_that_never_comes_is_timed_out():
    words = "to be ACTIVE within .*got .CREATING InsufficientFreeAddresses: subnet is full .the"
    with pytest.raises(TimedOut, match=words):
        clusters.wait_cluster_active(FakeEks(["CREATING"]), "demo", 0)


def test_another_version_is_asked_for():
    fake = FakeEks(["ACTIVE"])
    assert clusters.ensure_cluster(fake, "demo", "1.36", "role", ["b", "a"], TAGS)[1] == "changed"
    assert fake.updated == ["1.36"]


@pytest.mark.parametrize(
    ("version", "words"), [("1.37", "one minor version at a time, set 1.36 first"), ("1.34", "EKS never downgrades")]
)
def test_a_version_is_one_step_up_and_no_other(version, words):
    fake = FakeEks(["ACTIVE"])
    with pytest.raises(
        AwsError,
        match=f"expected version of cluster demo to be {version}, got 1.35, which cannot be changed; .*{words}",
    ):
        clusters.ensure_cluster(fake, "demo", version, "role", ["b", "a"], TAGS)
    assert not fake.updated


def test_a_role_that_iam_has_just_made_is_tried_again():
    too_new = refusal("InvalidParameterException", "The role could not be assumed because it does not exist")
    fake = FakeEks(refusals=[too_new, too_new])
    assert clusters.ensure_cluster(fake, "demo", "1.36", "role", ["a"], TAGS, sleep=lambda _: None)[1] == "created"
    assert fake.created == 1


def test_another_refusal_is_not_tried_again():
    fake = FakeEks(refusals=[refusal("ResourceLimitExceededException", "Limit exceeded."), None])
    with pytest.raises(AwsError, match="accept CreateCluster, got ResourceLimitExceeded.*; delete unused ones"):
        clusters.ensure_cluster(fake, "demo", "1.36", "role", ["a"], TAGS)
    assert fake.refusals == [None]


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (EndpointConnectionError(endpoint_url="http://127.0.0.1:5000/"), "at http://127.0.0.1:5000/, .*: make up"),
        (EndpointConnectionError(endpoint_url="https://eks.us-east-1.amazonaws.com/"), "check the network"),
        (NoCredentialsError(), "got NoCredentials: Unable to locate credentials; name aws_profile"),
        (ProfileNotFound(profile="x"), "ProfileNotFound.*; name a profile"),
        (refusal("AccessDeniedException", "no."), "AccessDeniedException: no; give the caller the permission"),
        (refusal("Odd", "odd"), "got Odd: odd; see AWS's documentation"),
    ],
)
def test_errors_are_sentences(error, sentence):
    with pytest.raises(AwsError, match=sentence), aws_session.aws_errors():
        raise error


def test_a_refused_connection_says_how_to_start_the_sandbox():
    core = account.session()
    with pytest.raises(AwsError, match="make up"):
        aws_session.whoami(aws_session.client(core, "sts", "http://127.0.0.1:1"))


def test_which_ports_a_security_group_keeps_shut(session):
    ec2 = account.client(session, "ec2")
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    group = ec2.create_security_group(GroupName="g", Description="d", VpcId=vpc)["GroupId"]
    assert security_groups.closed_ports(ec2, group, (15012, 15017)) == [15012, 15017]
    own = [{"GroupId": group}]
    rule = {"IpProtocol": "tcp", "FromPort": 15000, "ToPort": 15012, "UserIdGroupPairs": own}
    ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[rule])
    assert security_groups.closed_ports(ec2, group, (15012, 15017)) == [15017]
    ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[{"IpProtocol": "-1", "UserIdGroupPairs": own}])
    assert security_groups.closed_ports(ec2, group, (15012, 15017)) == []


def test_an_error_that_is_not_about_a_new_role_is_raised_at_once():
    asked = []

    def create():
        asked.append(1)
        raise ConnectionError("cut off")

    with pytest.raises(ConnectionError):
        clusters.create_with_new_role(create, {"sleep": lambda seconds: None})
    assert asked == [1]
