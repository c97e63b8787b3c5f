"""IAM policies are enforced at the gate: with docs/eks.md's least policy all goes, and what is missing is named."""

import json
import re
from functools import cache

import pytest

from lib import params
from lib.aws import session as aws_session
from lib.errors import AwsError, ClusterError
from lib.planning import permissions, plan
from lib.record.events import Record
from lib.run import Run
from lib.steps import clean_up, cluster
from sandbox.iam.policy_evaluation import ALLOWED, DENIED, NOT_ALLOWED, decide
from tests.support import account
from tests.support.stated import IMAGES

NAME = "least"
OPTIONAL = {  # what only the plan asks: without, it says "not known"
    "ec2:DescribeInstanceTypeOfferings", "ec2:DescribeInstanceTypes", "ec2:DescribeInstances",
    "eks:DescribeClusterVersions", "eks:ListNodegroups", "iam:ListAccountAliases", "iam:SimulatePrincipalPolicy",
    "servicequotas:GetServiceQuota", "servicequotas:ListAWSDefaultServiceQuotas",
}  # fmt: skip
NOT_HERE = {  # called where something is not as it was, or made by what the sandbox has none of
    "ec2:DeleteNetworkInterface", "ec2:ReplaceRoute", "eks:UpdateClusterVersion", "eks:UpdateNodegroupConfig",
    "eks:DeleteAccessEntry", "eks:DeletePodIdentityAssociation", "eks:DescribeUpdate", "eks:DisassociateAccessPolicy",
    "eks:UpdateAccessEntry", "eks:UpdateAddon", "eks:UpdateClusterConfig", "eks:UpdateNodegroupVersion",
    "ec2:CreateLaunchTemplateVersion", "eks:AssociateEncryptionConfig", "kms:CreateGrant", "kms:DescribeKey",
    "iam:DeleteOpenIDConnectProvider", "iam:GetOpenIDConnectProvider", "iam:UpdateAssumeRolePolicy",
    "elasticloadbalancing:DescribeListeners", "elasticloadbalancing:DescribeTargetHealth",
}  # fmt: skip
SAID = re.compile(r"give the caller ([\w-]+:\w+)|not known: ([\w-]+:\w+) is not allowed")


# What a policy says


def document(*statements):
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def allow(action, resource="*", **more):
    return {"Effect": "Allow", "Action": action, "Resource": resource, **more}


def deny(action, resource="*", **more):
    return {**allow(action, resource, **more), "Effect": "Deny"}


def trust(*principals):
    """The trust policy of a role that these callers may assume."""
    return json.dumps({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Principal": {"AWS": list(principals)}, "Action": "sts:AssumeRole"}
    ]})  # fmt: skip


PASSED = {"Condition": {"StringEquals": {"iam:PassedToService": ["eks.amazonaws.com", "ec2.amazonaws.com"]}}}
STRANGE = {"Condition": {"DateLessThan": {"aws:CurrentTime": "2020-01-01T00:00:00Z"}}}


@pytest.mark.parametrize(
    ("statements", "said"),
    [
        ([], NOT_ALLOWED),
        ([allow("ec2:CreateVpc")], ALLOWED),
        ([allow("ec2:createvpc")], ALLOWED),
        ([allow(["ec2:DeleteVpc", "ec2:Create*"])], ALLOWED),
        ([allow("ec2:CreateVp?")], ALLOWED),
        ([allow("ec2:CreateVpcEndpoint")], NOT_ALLOWED),
        ([allow("*"), deny("ec2:*")], DENIED),
        ([deny("ec2:*"), allow("*")], DENIED),
        ([allow("ec2:CreateVpc", "arn:aws:ec2:*:*:vpc/*")], ALLOWED),
        ([allow("ec2:CreateVpc", "arn:aws:ec2:*:*:subnet/*")], NOT_ALLOWED),
        ([{"Effect": "Allow", "NotAction": "iam:*", "Resource": "*"}], ALLOWED),
        ([{"Effect": "Allow", "NotAction": "ec2:*", "Resource": "*"}], NOT_ALLOWED),
        ([{"Effect": "Allow", "Action": "*", "NotResource": "arn:aws:ec2:*:*:vpc/*"}], NOT_ALLOWED),
        ([allow("*", **PASSED)], ALLOWED),
        ([allow("*", Condition={"StringEquals": {"iam:PassedToService": "lambda.amazonaws.com"}})], NOT_ALLOWED),
        ([allow("*", Condition={"StringEquals": {"aws:Nobody": "x"}})], NOT_ALLOWED),  # not known: allows nothing,
        ([allow("*"), deny("*", Condition={"StringEquals": {"aws:Nobody": "x"}})], DENIED),  # and always denies
        ([allow("*", Condition={"StringEqualsIfExists": {"aws:Nobody": "x"}})], ALLOWED),
        ([allow("*", **STRANGE)], NOT_ALLOWED),
        ([allow("*"), deny("*", **STRANGE)], DENIED),
        ([allow("ec2:Create[Vv]pc")], NOT_ALLOWED),  # no pattern but * and ?
    ],
)
def test_policy_decisions(statements, said):
    about = {"iam:PassedToService": "eks.amazonaws.com"}
    documents = [document(one) for one in statements]
    assert decide(documents, "ec2:CreateVpc", "arn:aws:ec2:us-east-1:1:vpc/*", about) == said


# At the gate


@pytest.fixture
def user(world):
    """A user without any right, and what gives it some: user.may(*actions)."""
    found = User(world, "ann")
    yield found
    found.gone()


class User:
    def __init__(self, world, name):
        self.world, self.name, self.iam = world, name, world.client("iam")
        self.arn = self.iam.create_user(UserName=name)["User"]["Arn"]
        self.key = self.iam.create_access_key(UserName=name)["AccessKey"]
        self.session = account.session(self.key["AccessKeyId"], self.key["SecretAccessKey"], region_name="us-east-1")
        self.client = cache(lambda service: world.client(service, session=self.session))

    def may(self, *actions, resource="*", name="rights", **more):
        text = document(allow(sorted(actions), resource, **more)) if actions else document(deny("none:*"))
        self.iam.put_user_policy(UserName=self.name, PolicyName=name, PolicyDocument=text)

    def gone(self):
        for policy in self.iam.list_user_policies(UserName=self.name)["PolicyNames"]:
            self.iam.delete_user_policy(UserName=self.name, PolicyName=policy)
        for policy in self.iam.list_attached_user_policies(UserName=self.name)["AttachedPolicies"]:
            self.iam.detach_user_policy(UserName=self.name, PolicyArn=policy["PolicyArn"])
        for group in self.iam.list_groups_for_user(UserName=self.name)["Groups"]:
            self.iam.remove_user_from_group(UserName=self.name, GroupName=group["GroupName"])
        self.iam.delete_access_key(UserName=self.name, AccessKeyId=self.key["AccessKeyId"])
        self.iam.delete_user(UserName=self.name)


@pytest.mark.parametrize(
    ("service", "call", "values", "code", "action"),
    [
        ("ec2", "describe_vpcs", {}, "UnauthorizedOperation", "ec2:DescribeVpcs"),
        ("iam", "list_roles", {}, "AccessDenied", "iam:ListRoles"),
        ("eks", "list_clusters", {}, "AccessDeniedException", "eks:ListClusters"),
        ("elbv2", "describe_load_balancers", {}, "AccessDenied", "elasticloadbalancing:DescribeLoadBalancers"),
        ("logs", "describe_log_groups", {}, "AccessDeniedException", "logs:DescribeLogGroups"),
        ("s3", "list_buckets", {}, "AccessDenied", "s3:ListAllMyBuckets"),
        ("service-quotas", "get_service_quota", {"ServiceCode": "vpc", "QuotaCode": "L-F678F1CE"},
         "AccessDeniedException", "servicequotas:GetServiceQuota"),
    ],
)  # fmt: skip
def test_a_caller_without_permission_gets_each_services_error_and_the_message_names_the_action(
    user, refusal, service, call, values, code, action
):
    status, found, message = refusal(getattr(user.client(service), call), **values)
    assert (status, found) == (403, code)
    assert f"User: {user.arn} is not authorized to perform: {action} on resource:" in message
    with pytest.raises(AwsError, match=f"give the caller {action}"), aws_session.aws_errors():
        getattr(user.client(service), call)(**values)
    user.may(action)
    assert getattr(user.client(service), call)(**values)["ResponseMetadata"]["HTTPStatusCode"] == 200
    said = [one for one in user.world.calls() if one["user"] == user.arn]
    assert said[0]["refused"].endswith(f"because no identity-based policy allows the {action} action")


def test_every_caller_may_call_get_caller_identity(user):
    assert user.client("sts").get_caller_identity()["Arn"] == user.arn


def test_permissions_come_from_groups_and_roles_too_and_a_deny_wins(user, refusal):
    iam, ec2 = user.iam, user.client("ec2")
    iam.create_group(GroupName="readers")
    iam.attach_group_policy(GroupName="readers", PolicyArn="arn:aws:iam::aws:policy/AmazonEC2ReadOnlyAccess")
    iam.add_user_to_group(GroupName="readers", UserName=user.name)
    assert ec2.describe_vpcs()["Vpcs"]
    user.may("sts:AssumeRole")
    role = iam.create_role(RoleName="trusting", AssumeRolePolicyDocument=trust(user.arn))["Role"]["Arn"]
    made = user.client("sts").assume_role(RoleArn=role, RoleSessionName="monday")["Credentials"]
    session = account.session(made["AccessKeyId"], made["SecretAccessKey"], made["SessionToken"], "us-east-1")
    assert refusal(user.world.client("ec2", session).describe_vpcs)[1] == "UnauthorizedOperation"
    iam.put_role_policy(RoleName="trusting", PolicyName="p", PolicyDocument=document(allow("ec2:*")))
    assert user.world.client("ec2", session).describe_vpcs()["Vpcs"]
    text = document(deny("ec2:DescribeVpcs"))
    iam.put_user_policy(UserName=user.name, PolicyName="no", PolicyDocument=text)
    assert "explicit deny" in refusal(ec2.describe_vpcs)[2]


def test_the_default_version_of_a_policy_counts(user, refusal):
    text = document(allow("ec2:DescribeVpcs"))
    arn = user.iam.create_policy(PolicyName="versions", PolicyDocument=text)["Policy"]["Arn"]
    user.iam.attach_user_policy(UserName=user.name, PolicyArn=arn)
    assert user.client("ec2").describe_vpcs()["Vpcs"]
    text = document(allow("ec2:DescribeSubnets"))
    user.iam.create_policy_version(PolicyArn=arn, PolicyDocument=text, SetAsDefault=True)
    assert refusal(user.client("ec2").describe_vpcs)[1] == "UnauthorizedOperation"
    assert user.client("ec2").describe_subnets()["Subnets"]


def test_passing_a_role_needs_permission(user, refusal):
    world = user.world
    role = world.role("cluster", "eks.amazonaws.com")
    asked = {"name": "mine", "roleArn": role, "resourcesVpcConfig": {"subnetIds": world.subnets()}, "tags": {"a": "b"}}
    needed = ["eks:CreateCluster", "iam:PassRole", "eks:TagResource", "iam:CreateServiceLinkedRole"]
    for count, action in enumerate(needed):
        user.may(*needed[:count])
        assert f"perform: {action} on" in refusal(user.client("eks").create_cluster, **asked)[2]
    passed = {"Condition": {"StringEquals": {"iam:PassedToService": "lambda.amazonaws.com"}}}
    user.may(*set(needed) - {"iam:PassRole"})
    user.may("iam:PassRole", name="more", **passed)
    assert f"iam:PassRole on resource: {role}" in refusal(user.client("eks").create_cluster, **asked)[2]
    user.may("iam:PassRole", name="more", resource="arn:aws:iam::*:role/clus*")
    assert user.client("eks").create_cluster(**asked)["cluster"]["name"] == "mine"
    user.may("eks:DescribeCluster", resource="arn:aws:eks:*:*:cluster/mine")
    assert user.client("eks").describe_cluster(name="mine")
    assert refusal(user.client("eks").describe_cluster, name="other")[1] == "AccessDeniedException"


def test_creating_with_tags_needs_permission_to_tag(user, refusal):
    tags = [{"ResourceType": "vpc", "Tags": [{"Key": "a", "Value": "b"}]}]
    user.may("ec2:CreateVpc", "iam:CreateRole")
    assert (
        "ec2:CreateTags" in refusal(user.client("ec2").create_vpc, CidrBlock="10.0.0.0/16", TagSpecifications=tags)[2]
    )
    about = {"RoleName": "r", "AssumeRolePolicyDocument": document(), "Tags": [{"Key": "a", "Value": "b"}]}
    assert "iam:TagRole" in refusal(user.client("iam").create_role, **about)[2]


def test_iam_can_simulate_a_policy(user):
    user.may("ec2:CreateVpc", "iam:CreateRole", resource="arn:aws:iam::*:role/mine")
    iam = user.world.client("iam")
    answer = permissions.missing(
        iam, user.arn, ["arn:aws:iam::1:role/mine", "arn:aws:iam::1:role/other"], ["ec2:CreateVpc", "iam:CreateRole"]
    )
    assert answer.missing == [("ec2:CreateVpc", "*"), ("iam:CreateRole", "arn:aws:iam::1:role/other")]
    nobody = permissions.missing(iam, "arn:aws:iam::1:user/nobody", ["r"], ["ec2:CreateVpc"])
    assert nobody.missing is None and nobody.why == "not known: NoSuchEntity"
    assert permissions.missing(iam, "arn:aws:iam::123456789012:user/admin", ["r"]).missing == []


# All that the runbook does in the account


class Unreachable:
    """A cluster whose API nobody reaches."""

    def ready(self):
        raise ClusterError("expected the cluster's API, got no answer; is the cluster up?")


def run(user, **changed):
    values = {"env": "of-the-tests-of-rights", "cluster_source": "eks", "cluster_name": NAME, "istio_tag": "1.31.1"}
    entries = [{"principal_arn": user.world.role("reader", "ec2.amazonaws.com"), "policy": "AmazonEKSViewPolicy"}]
    values |= {
        "access_entries": entries,
        "addons": {"eks-pod-identity-agent": "default", "aws-ebs-csi-driver": "latest"},
    }
    values |= {"aws_endpoint_url": user.world.server.url, "deadline": 20, "nat": "single", "delete_log_group": True}
    made = Run("01-cluster", params.Params(**{**values, **IMAGES, **changed}), Record())
    made.aws, made.cluster = user.client, Unreachable()
    return made


def made_by_kubernetes(world):
    """What the cluster's controllers make with rights of their own."""
    tags = [{"Key": f"kubernetes.io/cluster/{NAME}", "Value": "owned"}]
    ec2, elbv2 = world.client("ec2"), world.client("elbv2")
    found = world.client("eks").describe_cluster(name=NAME)["cluster"]["resourcesVpcConfig"]
    about = {"Name": "made", "Tags": tags}
    elbv2.create_load_balancer(**about, Type="network", Subnets=found["subnetIds"])
    elbv2.create_target_group(**about, Protocol="TCP", Port=80, VpcId=found["vpcId"])
    spec = lambda kind: {"TagSpecifications": [{"ResourceType": kind, "Tags": tags}]}  # noqa: E731
    made = ec2.create_security_group(GroupName="made", Description="d", VpcId=found["vpcId"], **spec("security-group"))[
        "GroupId"
    ]
    rule = {"IpProtocol": "tcp", "FromPort": 1, "ToPort": 9, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
    ec2.authorize_security_group_ingress(GroupId=made, IpPermissions=[rule])
    ec2.create_volume(AvailabilityZone="us-east-1a", Size=1, **spec("volume"))
    world.client("logs").create_log_group(logGroupName=f"/aws/eks/{NAME}/cluster")


def steps(user):
    """Each part of the runbook's life in the account, to be called again until it ends."""
    state = {}

    def planned():
        state["tables"] = plan.tables(run(user))
        plan.summary(run(user), state["tables"]["What is made"])

    def listed():
        state["listed"] = set(clean_up.inventory(run(user))["kind"])

    def left():
        state["left"] = clean_up.inventory(run(user))

    yield state, planned
    for begin in (cluster.state, plan.guard, cluster.ensure, cluster.access_entry_table, cluster.addon_table):
        yield state, lambda: begin(run(user))  # noqa: B023 it is called before the next one
    made_by_kubernetes(user.world)
    yield state, lambda: clean_up.guard(run(user))
    yield state, listed
    for clean in (clean_up.delete_cluster_objects, clean_up.delete_load_balancers, clean_up.delete_cluster):
        yield state, lambda: clean(run(user))  # noqa: B023
    yield state, left


def test_the_least_policy_allows_the_whole_run(user):
    user.may(*permissions.required_actions())
    for state, step in steps(user):  # noqa: B007
        step()
    assert state["tables"]["What you may do"]["says"].tolist() == ["allowed"]
    assert not state["tables"]["Quotas"]["says"].str.startswith("not known").any()
    assert {"load balancer", "nat gateway", "address", "volume", "cluster", "node group", "role"} <= state["listed"]
    assert state["left"].empty


def test_the_error_messages_lead_from_no_permission_to_the_least_policy(user):
    """Each refusal names one action; granted one by one they come to what docs/eks.md lists."""
    granted, known = set(), set(permissions.required_actions())
    user.may()
    for state, step in steps(user):  # noqa: B007
        while True:
            try:
                step()
                break
            except AwsError as told:
                (found,) = SAID.findall(str(told))
                action = next(filter(None, found))
            assert action in known, f"docs/eks.md lacks {action}"
            assert action not in granted, f"{action} was granted, and did not help"
            granted.add(action)
            user.may(*granted)
    assert state["left"].empty
    assert not granted & OPTIONAL  # those stopped nothing
    told = " ".join(str(table.values.tolist()) for table in state["tables"].values())
    assert {next(filter(None, found)) for found in SAID.findall(told)} == {
        "eks:DescribeClusterVersions", "ec2:DescribeInstanceTypeOfferings", "servicequotas:GetServiceQuota",
        "iam:SimulatePrincipalPolicy",
    }  # fmt: skip
    left = known - granted - OPTIONAL - {"sts:GetCallerIdentity"} - NOT_HERE
    assert not left, f"docs/eks.md lists what nothing here needs: give run() what calls {left}, or say why not"


@pytest.mark.parametrize(
    "action", ["ec2:CreateNatGateway", "iam:PassRole", "ec2:CreateTags", "eks:TagResource", "ec2:ReleaseAddress"]
)
def test_if_one_action_is_missing_the_message_names_it(user, action):
    user.may(*set(permissions.required_actions()) - {action})
    with pytest.raises(AwsError, match=f"give the caller {action}( |;|$)|give the caller {action} on"):
        for _, step in steps(user):
            step()
    user.may(*permissions.required_actions())
    here = run(user)
    clean_up.delete_load_balancers(here)
    clean_up.delete_cluster(here)
    assert clean_up.inventory(here).empty
