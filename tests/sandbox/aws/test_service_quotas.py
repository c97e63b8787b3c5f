"""Service quotas of the account and the other operations that moto lacks: answers and refusals as on AWS."""

from datetime import UTC, datetime

import pytest

from lib import params
from lib.aws import session
from lib.errors import AwsError
from lib.planning import availability, plan, quotas
from lib.record.events import Record
from lib.run import Run

CODES = {"VPCs": ("vpc", "L-F678F1CE"), "addresses": ("ec2", "L-0263D0A3"), "NAT": ("vpc", "L-FE5A380F")}
CODES |= {"clusters": ("eks", "L-1194D53C"), "groups": ("eks", "L-6D54EA21"), "gateways": ("vpc", "L-A4707A72")}
CODES |= {"balancers": ("elasticloadbalancing", "L-69A177A2")}


@pytest.fixture
def allow(world):
    """Lets a quota be a value until the test is over."""
    client, before = world.client("service-quotas"), {}

    def to(kind, value):
        service, code = CODES[kind]
        about = {"ServiceCode": service, "QuotaCode": code}
        before.setdefault(kind, client.get_service_quota(**about)["Quota"]["Value"])
        return client.request_service_quota_increase(**about, DesiredValue=value)["RequestedQuota"]["Status"]

    yield to
    for kind, value in before.items():
        to(kind, value)


def test_quotas_are_returned_by_code_and_as_lists(world, allow, refusal):
    client = world.client("service-quotas")
    about = {"ServiceCode": "vpc", "QuotaCode": "L-F678F1CE"}
    assert client.get_service_quota(**about)["Quota"]["QuotaName"] == "VPCs per Region"
    assert allow("VPCs", 7) == "APPROVED"
    assert client.get_service_quota(**about)["Quota"]["Value"] == 7
    assert client.get_aws_default_service_quota(**about)["Quota"]["Value"] == 5
    (one,) = [q for q in client.list_service_quotas(ServiceCode="vpc")["Quotas"] if q["QuotaCode"] == "L-F678F1CE"]
    assert one["Value"] == 7
    status, code, _ = refusal(client.get_service_quota, ServiceCode="vpc", QuotaCode="L-00000000")
    assert (status, code) == (400, "NoSuchResourceException")


def test_the_sandbox_has_each_quota_of_the_plan(world):
    found = quotas.rows(world.client, dict.fromkeys(quotas.CODES, 1), "none", ["us-east-1a"])
    assert [one.kind for one in found] == list(quotas.CODES) and {one.says for one in found} == {"fits"}


def vpc(world):
    return world.client("ec2").create_vpc(CidrBlock="10.0.0.0/16")


def address(world):
    return world.client("ec2").allocate_address(Domain="vpc")


def gateway(world):
    return world.client("ec2").create_internet_gateway()


def nat(world):
    return world.client("ec2").create_nat_gateway(SubnetId=world.subnets()[0], ConnectivityType="private")


def balancer(world):
    return world.client("elbv2").create_load_balancer(Name="more", Type="network", Subnets=world.subnets())


def cluster(world):
    return world.cluster("one-more")


def group(world):
    world.active()
    return world.group()


@pytest.mark.parametrize(
    ("kind", "make", "code"),
    [
        ("VPCs", vpc, "VpcLimitExceeded"),
        ("addresses", address, "AddressLimitExceeded"),
        ("gateways", gateway, "InternetGatewayLimitExceeded"),
        ("NAT", nat, "NatGatewayLimitExceeded"),
        ("balancers", balancer, "TooManyLoadBalancers"),
        ("clusters", cluster, "ResourceLimitExceededException"),
        ("groups", group, "ResourceLimitExceededException"),
    ],
)
def test_one_more_than_allowed_is_refused_as_aws_does_and_the_sentence_says_what_to_do(world, allow, kind, make, code):
    allow(kind, 0)
    message = f"got {code}: The maximum number .*; delete unused ones, or ask"
    with pytest.raises(AwsError, match=message), session.aws_errors():
        make(world)
    assert [one["status"] for one in world.calls() if one.get("refused")] == [400]


def test_existing_resources_count_towards_the_quota(world, allow):
    there = len(world.client("ec2").describe_addresses()["Addresses"])
    allow("addresses", there + 1)
    made = address(world)["AllocationId"]
    with pytest.raises(AwsError, match="AddressLimitExceeded"), session.aws_errors():
        address(world)
    world.client("ec2").release_address(AllocationId=made)
    world.client("ec2").release_address(AllocationId=address(world)["AllocationId"])


def test_eks_lists_its_versions_and_their_end_dates(world):
    (told,) = world.client("eks").describe_cluster_versions()["clusterVersions"]
    assert told["clusterVersion"] == "1.36" and told["versionStatus"] == "STANDARD_SUPPORT"
    assert told["endOfStandardSupportDate"].astimezone(UTC) == datetime(2027, 8, 2, tzinfo=UTC)
    found, source = availability.versions(world.client("eks"))
    assert source == "EKS" and list(found) == ["1.36"]
    assert found["1.36"].standard.isoformat() == "2027-08-02"


def test_a_full_account_stops_a_run_before_its_first_write(world, allow):
    for kind, there in (("VPCs", len(world.client("ec2").describe_vpcs()["Vpcs"])), ("clusters", 0)):
        allow(kind, there)
    images = {key: "x" for key in ("keycloak_image", "postgres_image", "httpbin_image", "sleep_image")}
    values = {"env": "full", "cluster_source": "eks", "cluster_name": "full", "istio_tag": "1.31.1"}
    run = Run("01-cluster", params.Params(**values, **images, aws_endpoint_url=world.server.url), Record())
    run.aws = world.client
    before = len(world.calls())
    with pytest.raises(AwsError, match="room for 1 more VPCs, got .* for 1 more EKS clusters, got 0 of 0 used"):
        plan.guard(run)
    asked = {one["action"] for one in world.calls()[before:]}
    assert asked and all(name.startswith(("Describe", "Get", "List")) for name in asked)
    assert "What would stop a run" in plan.tables(run)
