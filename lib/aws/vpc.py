"""The runbook's own VPC: subnets in several zones, public, or private with NAT gateways; found again by its tags.

Existing subnets are in lib/aws/existing_subnets.py. EC2 API Reference: CreateVpc, CreateSubnet, CreateRouteTable.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from lib.aws import nat_gateways as gateways
from lib.aws import tags as aws_tags
from lib.aws.session import aws_errors
from lib.ensured import Action
from lib.errors import AwsError

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client

# Zones that take no EKS control plane ("Amazon EKS networking requirements for VPC and subnets", EKS user guide).
ZONES_WITHOUT_EKS = ("use1-az3", "usw1-az2", "cac1-az3")
PUBLIC_ROLE, PRIVATE_ROLE = "kubernetes.io/role/elb", "kubernetes.io/role/internal-elb"
UNKNOWN = "…"  # an id that AWS assigns later, in a request that is only shown

Tags = dict[str, str]
Change = tuple[str, str, str]  # kind, name, action
OnChange = Callable[[str, str, str], None]  # kind, name, action


@aws_errors()
def ensure_network(
    ec2: EC2Client,
    name: str,
    cidr: str,
    tags: Tags,
    zones: int = 2,
    tell: OnChange | None = None,
    nat: str = gateways.NONE,
    extra: Tags | None = None,
    deadline: float = 600,
) -> tuple[dict[str, Any], list[Change]]:
    """Create or update the network of a cluster.

    Without NAT the subnets are public, and nodes have public addresses. With NAT the nodes' subnets are private, and
    the public ones are for load balancers. Each public subnet takes a sixteenth of the VPC's range, each private one a
    quarter.

    Args:
        ec2: boto3's EC2 client.
        name: the cluster's name.
        cidr: the VPC's range, /24 or larger.
        tags: the runbook's tags; the network is found by them.
        zones: how many availability zones, up to 3.
        tell: receives kind, name and action of each object at once, so an interrupted run loses no change.
        nat: "none", "single" (one NAT gateway for all zones) or "per-zone".
        extra: tags for new objects that no search uses.
        deadline: seconds that NAT gateways may take.

    Returns:
        {"vpc_id", "subnet_ids"} with the nodes' subnets, and the changes.

    Raises:
        AwsError: the existing network contradicts `cidr` or `nat`, or the region has too few zones.
        TimedOut: NAT gateways are not available, or not gone, in time.
    """
    changes: list[Change] = []
    extra = extra or {}
    is_private = nat != gateways.NONE

    def record(kind: str, label: str, action: str) -> None:
        changes.append((kind, label, action))
        if tell:
            tell(kind, label, action)

    public_ranges, private_ranges = _ranges(cidr, zones)
    zone_names = first_zones(ec2, zones)
    _check_no_private_subnets(ec2, name, tags, is_private)
    vpc_id, action = _ensure_vpc(ec2, name, cidr, tags, extra)
    record("vpc", name, action)
    gateway_id, action = _ensure_internet_gateway(ec2, name, vpc_id, tags, extra)
    record("internet gateway", name, action)

    def ensure_subnets(is_public: bool, ranges: list[str]) -> dict[str, str]:
        found = {}
        for zone, part in zip(zone_names, ranges, strict=True):
            request = _subnet_request(name, vpc_id, zone, part, is_public, tags, extra)
            found[zone], action = _ensure_subnet(ec2, request, _subnet_name(name, zone, is_public), tags, is_public)
            record("subnet", _subnet_name(name, zone, is_public), action)
        return found

    def ensure_route(label: str, ids: list[str], target: dict[str, str]) -> None:
        record("route table", label, gateways.ensure_route(ec2, vpc_id, label, ids, target, tags, extra))

    public = ensure_subnets(True, public_ranges)
    ensure_route(f"{name}-public", list(public.values()), {"GatewayId": gateway_id})
    if not is_private:
        return {"vpc_id": vpc_id, "subnet_ids": list(public.values())}, changes
    gateways.wait_none_deleting(ec2, tags, deadline)
    gateway_subnets = dict(list(public.items())[:1]) if nat == gateways.SINGLE else public
    nat_ids = gateways.ensure_gateways(ec2, name, gateway_subnets, tags, extra, record)
    private = ensure_subnets(False, private_ranges)
    gateways.wait_available(ec2, list(nat_ids.values()), tags, deadline)
    for zone, subnet_id in private.items():
        nat_id = nat_ids.get(zone) or next(iter(nat_ids.values()))
        ensure_route(f"{name}-private-{zone}", [subnet_id], {"NatGatewayId": nat_id})
    kept = tuple(gateways.gateway_name(name, zone) for zone in gateway_subnets)
    for label in gateways.delete_gateways(ec2, tags, deadline, keep=kept):  # left from another `nat`
        record("nat gateway or address", label, "deleted")
    return {"vpc_id": vpc_id, "subnet_ids": list(private.values())}, changes


def create_requests(
    name: str, cidr: str, tags: Tags, zones: list[str], nat: str = gateways.NONE, extra: Tags | None = None
) -> list[tuple[str, dict[str, Any]]]:
    """Return the boto3 calls that create such a network, with their arguments; ids that AWS assigns later are "…"."""
    extra = extra or {}
    public_ranges, private_ranges = _ranges(cidr, len(zones))
    target = {"DestinationCidrBlock": gateways.DEFAULT_ROUTE, "RouteTableId": UNKNOWN}
    calls = [
        ("ec2.create_vpc", _vpc_request(name, cidr, tags, extra)),
        ("ec2.create_internet_gateway", _named("internet-gateway", name, tags, extra)),
        ("ec2.attach_internet_gateway", {"InternetGatewayId": UNKNOWN, "VpcId": UNKNOWN}),
    ]
    for zone, part in zip(zones, public_ranges, strict=True):
        calls.append(("ec2.create_subnet", _subnet_request(name, UNKNOWN, zone, part, True, tags, extra)))
    calls.append(("ec2.create_route", {**target, "GatewayId": UNKNOWN}))
    if nat == gateways.NONE:
        return calls
    for zone in zones[:1] if nat == gateways.SINGLE else zones:
        label = gateways.gateway_name(name, zone)
        calls.append(("ec2.allocate_address", {"Domain": "vpc", **_named("elastic-ip", label, tags, extra)}))
        nat_request = {"SubnetId": UNKNOWN, "AllocationId": UNKNOWN, **_named("natgateway", label, tags, extra)}
        calls.append(("ec2.create_nat_gateway", nat_request))
    for zone, part in zip(zones, private_ranges, strict=True):
        calls.append(("ec2.create_subnet", _subnet_request(name, UNKNOWN, zone, part, False, tags, extra)))
        calls.append(("ec2.create_route", {**target, "NatGatewayId": UNKNOWN}))
    return calls


@aws_errors()
def first_zones(ec2: EC2Client, count: int) -> list[str]:
    """Return the first `count` zones of the region that EKS takes; AwsError if there are fewer."""
    filters: Any = [{"Name": "zone-type", "Values": ["availability-zone"]}, {"Name": "state", "Values": ["available"]}]
    found = ec2.describe_availability_zones(Filters=filters)["AvailabilityZones"]
    names = sorted(zone["ZoneName"] for zone in found if zone.get("ZoneId") not in ZONES_WITHOUT_EKS)
    if len(names) < count:
        raise AwsError(f"expected {count} zones for the subnets, got {names}; choose another region.")
    return names[:count]


def subnet_names(name: str, nat: str, zones: list[str]) -> list[str]:
    """Return the names of the subnets of the cluster and its nodes."""
    return [_subnet_name(name, zone, nat == gateways.NONE) for zone in zones]


@aws_errors()
def subnet_ids(ec2: EC2Client, tags: Tags) -> dict[str, str]:
    """Return the ids of the network's subnets by name."""
    found = aws_tags.find_all(ec2.describe_subnets, "Subnets", tags)
    return {aws_tags.tag_dict(subnet["Tags"]).get("Name", ""): subnet["SubnetId"] for subnet in found}


def planned_counts(zones: int, nat: str) -> dict[str, int]:
    """Return how many objects of each kind such a network has."""
    private = 0 if nat == gateways.NONE else zones
    nat_count = {gateways.NONE: 0, gateways.SINGLE: 1, gateways.PER_ZONE: zones}[nat]
    kinds = {"vpc": 1, "internet gateway": 1, "subnet": zones + private, "route table": 1 + private}
    return {**kinds, **({"nat gateway": nat_count, "address": nat_count} if nat_count else {})}


@aws_errors()
def existing_counts(ec2: EC2Client, tags: Tags) -> dict[str, int]:
    """Return how many objects of each kind the network with these tags has."""
    kinds: dict[str, tuple[Callable[..., Any], str]] = {
        "vpc": (ec2.describe_vpcs, "Vpcs"),
        "internet gateway": (ec2.describe_internet_gateways, "InternetGateways"),
        "subnet": (ec2.describe_subnets, "Subnets"),
        "route table": (ec2.describe_route_tables, "RouteTables"),
        "address": (ec2.describe_addresses, "Addresses"),
    }
    found = {kind: len(aws_tags.find_all(describe, key, tags)) for kind, (describe, key) in kinds.items()}
    return {**found, "nat gateway": gateways.count(ec2, tags)}


@aws_errors()
def delete_network(ec2: EC2Client, tags: Tags, deadline: float = 600, **options: Any) -> str:
    """Delete the network with these tags, NAT gateways first, the VPC last; return "deleted" or "absent".

    TimedOut if the NAT gateways are not gone after `deadline` seconds: they use the network's other objects.
    """
    deleted = gateways.delete_gateways(ec2, tags, deadline, **options)
    vpcs = aws_tags.find_all(ec2.describe_vpcs, "Vpcs", tags)
    for table in aws_tags.find_all(ec2.describe_route_tables, "RouteTables", tags):
        for link in table["Associations"]:
            ec2.disassociate_route_table(AssociationId=link["RouteTableAssociationId"])
        ec2.delete_route_table(RouteTableId=table["RouteTableId"])
    for subnet in aws_tags.find_all(ec2.describe_subnets, "Subnets", tags):
        ec2.delete_subnet(SubnetId=subnet["SubnetId"])
    for gateway in aws_tags.find_all(ec2.describe_internet_gateways, "InternetGateways", tags):
        for link in gateway["Attachments"]:
            ec2.detach_internet_gateway(InternetGatewayId=gateway["InternetGatewayId"], VpcId=link["VpcId"])
        ec2.delete_internet_gateway(InternetGatewayId=gateway["InternetGatewayId"])
    for vpc in vpcs:
        ec2.delete_vpc(VpcId=vpc["VpcId"])
    return "deleted" if vpcs or deleted else "absent"


def _check_no_private_subnets(ec2: EC2Client, name: str, tags: Tags, is_private: bool) -> None:
    found = [] if is_private else aws_tags.find_all(ec2.describe_subnets, "Subnets", {**tags, PRIVATE_ROLE: "1"})
    if found:
        raise AwsError(
            f"expected the network {name} to have no private subnets with nat: none, got {len(found)}, which nodes may "
            "use; set nat back, or clean up first."
        )


def _ensure_vpc(ec2: EC2Client, name: str, cidr: str, tags: Tags, extra: Tags) -> tuple[str, Action]:
    action: Action = "unchanged"
    found: Any = aws_tags.find_one(ec2.describe_vpcs, "Vpcs", {**tags, "Name": name})
    if found is None:
        found, action = ec2.create_vpc(**_vpc_request(name, cidr, tags, extra))["Vpc"], "created"
        ec2.get_waiter("vpc_available").wait(VpcIds=[found["VpcId"]])
    if found["CidrBlock"] != cidr:
        raise AwsError(
            f"expected the VPC {name} to have {cidr}, got {found['CidrBlock']}, which cannot be changed; "
            "set vpc_cidr back, or clean up first."
        )
    names = ec2.describe_vpc_attribute(Attribute="enableDnsHostnames", VpcId=found["VpcId"])
    if not names["EnableDnsHostnames"]["Value"]:
        ec2.modify_vpc_attribute(VpcId=found["VpcId"], EnableDnsHostnames={"Value": True})
        action = aws_tags.mark_changed(action)
    return found["VpcId"], action


def _ensure_internet_gateway(ec2: EC2Client, name: str, vpc_id: str, tags: Tags, extra: Tags) -> tuple[str, Action]:
    action: Action = "unchanged"
    found: Any = aws_tags.find_one(ec2.describe_internet_gateways, "InternetGateways", {**tags, "Name": name})
    if found is None:
        request = _named("internet-gateway", name, tags, extra)
        found, action = ec2.create_internet_gateway(**request)["InternetGateway"], "created"
    gateway_id = found["InternetGatewayId"]
    if vpc_id not in [link["VpcId"] for link in found.get("Attachments", [])]:
        ec2.attach_internet_gateway(InternetGatewayId=gateway_id, VpcId=vpc_id)
        action = aws_tags.mark_changed(action)
    return gateway_id, action


def _ensure_subnet(
    ec2: EC2Client, request: dict[str, Any], label: str, tags: Tags, is_public: bool
) -> tuple[str, Action]:
    action: Action = "unchanged"
    found: Any = aws_tags.find_one(ec2.describe_subnets, "Subnets", {**tags, "Name": label})
    if found is None:
        found, action = ec2.create_subnet(**request)["Subnet"], "created"
        ec2.get_waiter("subnet_available").wait(SubnetIds=[found["SubnetId"]])
    subnet_id = found["SubnetId"]
    wanted = aws_tags.tag_dict(request["TagSpecifications"][0]["Tags"])
    roles = {key: value for key, value in wanted.items() if key.startswith("kubernetes.io/")}
    if not aws_tags.has_tags(found, roles):
        ec2.create_tags(Resources=[subnet_id], Tags=aws_tags.tag_list(roles))
        action = aws_tags.mark_changed(action)
    if bool(found.get("MapPublicIpOnLaunch")) != is_public:
        ec2.modify_subnet_attribute(SubnetId=subnet_id, MapPublicIpOnLaunch={"Value": is_public})
        action = aws_tags.mark_changed(action)
    return subnet_id, action


def _vpc_request(name: str, cidr: str, tags: Tags, extra: Tags) -> dict[str, Any]:
    return {"CidrBlock": cidr, **_named("vpc", name, tags, extra)}


def _subnet_request(
    name: str, vpc_id: str, zone: str, cidr: str, is_public: bool, tags: Tags, extra: Tags
) -> dict[str, Any]:
    role = PUBLIC_ROLE if is_public else PRIVATE_ROLE  # load-balancer controllers find subnets by these tags
    roles = {role: "1", f"kubernetes.io/cluster/{name}": "shared"}
    named = _named("subnet", _subnet_name(name, zone, is_public), {**tags, **roles}, extra)
    return {"VpcId": vpc_id, "AvailabilityZone": zone, "CidrBlock": cidr, **named}


def _subnet_name(name: str, zone: str, is_public: bool) -> str:
    return f"{name}-{'public' if is_public else 'private'}-{zone}"


def _named(kind: str, label: str, tags: Tags, extra: Tags) -> dict[str, Any]:
    return aws_tags.tag_specification(kind, {**tags, "Name": label, **extra})


def _ranges(cidr: str, count: int) -> tuple[list[str], list[str]]:
    """Return the ranges of `count` public and private subnets: the first sixteenths, and the last three quarters.

    A range depends neither on `count` nor on the other ranges, so both can change later. EC2 takes /28 or larger.
    """
    whole = ipaddress.ip_network(cidr)
    if whole.prefixlen > 24 or count > 3:
        raise AwsError(f"expected a vpc_cidr of /24 or larger and up to 3 zones, got {cidr} and {count}; change them.")
    public, private = list(whole.subnets(4))[:count], list(whole.subnets(2))[1:][:count]
    return [str(part) for part in public], [str(part) for part in private]
