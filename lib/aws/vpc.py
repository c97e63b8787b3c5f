"""A VPC of the cluster's own in EC2: subnets in several zones, public or private with NAT; found again by its tags.

A cluster in subnets that are there already is in lib/aws/existing_subnets.py.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable

from lib.aws import nat_gateways as gateways
from lib.aws import tags as aws_tags
from lib.aws.session import aws_errors
from lib.aws.tags import tag_dict, tag_list
from lib.errors import AwsError

# Zones that take no EKS control plane ("Amazon EKS networking requirements for VPC and subnets", EKS user guide).
ZONES_WITHOUT_EKS = ("use1-az3", "usw1-az2", "cac1-az3")
PUBLIC_ROLE, PRIVATE_ROLE = "kubernetes.io/role/elb", "kubernetes.io/role/internal-elb"

Change = tuple[str, str, str]  # kind, name, action
Tell = Callable[[str, str, str], None]  # the same


@aws_errors()
def ensure_network(
    ec2,
    name: str,
    cidr: str,
    tags: dict[str, str],
    zones: int = 2,
    tell: Tell | None = None,
    nat: str = gateways.NONE,
    extra: dict[str, str] | None = None,
    deadline: float = 600,
) -> tuple[dict, list[Change]]:
    """Create or update the network of the cluster `name`; return ({vpc_id, subnet_ids}, changes).

    Without NAT the subnets are public, and nodes have public addresses. With it (single: one for all zones, per-zone)
    `subnet_ids` are the private ones, and the public ones are there for load balancers. Each public one takes a
    sixteenth of the VPC's range, each private one a quarter. `changes` has one row per object; `tell` is told each as
    soon as it is made, so that a run which ends in the middle has lost none. `extra` are tags that are given, and never
    asked for. NAT gateways may take `deadline` seconds.
    """
    changes, extra = [], extra or {}
    private = nat != gateways.NONE

    def made(*change: str) -> None:
        changes.append(change)
        if tell:
            tell(*change)

    public_parts, private_parts = _parts(cidr, zones)
    names = first_zones(ec2, zones)
    if not private and (there := aws_tags.find_all(ec2.describe_subnets, "Subnets", {**tags, PRIVATE_ROLE: "1"})):
        raise AwsError(
            f"expected the network {name} to have no private subnets with nat: none, got {len(there)}, which nodes may "
            "be in; set nat back, or clean up first."
        )
    vpc_id, action = _ensure_vpc(ec2, name, cidr, tags, extra)
    made("vpc", name, action)
    gateway_id, action = _ensure_gateway(ec2, name, vpc_id, tags, extra)
    made("internet gateway", name, action)

    def subnets(kind: str, parts: list[str], roles: dict[str, str]) -> dict[str, str]:
        found = {}
        for zone, part in zip(names, parts, strict=True):
            label = f"{name}-{kind}-{zone}"
            place = {"VpcId": vpc_id, "AvailabilityZone": zone, "CidrBlock": part}
            found[zone], action = _ensure_subnet(ec2, label, place, tags, roles, extra, public=kind == "public")
            made("subnet", label, action)
        return found

    shared = {f"kubernetes.io/cluster/{name}": "shared"}
    public = subnets("public", public_parts, {PUBLIC_ROLE: "1", **shared})
    route = lambda label, ids, target: made(  # noqa: E731
        "route table", label, gateways.ensure_route(ec2, vpc_id, label, ids, target, tags, extra)
    )
    route(f"{name}-public", list(public.values()), {"GatewayId": gateway_id})
    if not private:
        return {"vpc_id": vpc_id, "subnet_ids": list(public.values())}, changes
    gateways.wait_none_deleting(ec2, tags, deadline)
    places = dict(list(public.items())[:1]) if nat == gateways.SINGLE else public
    ways = gateways.ensure_gateways(ec2, name, places, tags, extra, made)
    inside = subnets("private", private_parts, {PRIVATE_ROLE: "1", **shared})
    gateways.wait_available(ec2, list(ways.values()), tags, deadline)
    for zone, subnet_id in inside.items():
        way = ways.get(zone) or next(iter(ways.values()))
        route(f"{name}-private-{zone}", [subnet_id], {"NatGatewayId": way})
    kept = tuple(gateways.gateway_name(name, zone) for zone in places)
    for label in gateways.delete_gateways(ec2, tags, deadline, keep=kept):  # of another `nat` than now
        made("nat gateway or address", label, "deleted")
    return {"vpc_id": vpc_id, "subnet_ids": list(inside.values())}, changes


@aws_errors()
def first_zones(ec2, count: int) -> list[str]:
    """Return the first `count` zones of the region that EKS takes. AWS: DescribeAvailabilityZones, EC2."""
    asked = [{"Name": "zone-type", "Values": ["availability-zone"]}, {"Name": "state", "Values": ["available"]}]
    found = ec2.describe_availability_zones(Filters=asked)["AvailabilityZones"]
    names = sorted(zone["ZoneName"] for zone in found if zone.get("ZoneId") not in ZONES_WITHOUT_EKS)
    if len(names) < count:
        raise AwsError(f"expected {count} zones for the subnets, got {names}; take another region.")
    return names[:count]


def subnet_names(name: str, nat: str, zones: list[str]) -> list[str]:
    """Return the Names of the subnets that the cluster and its nodes are in."""
    return [f"{name}-{'public' if nat == gateways.NONE else 'private'}-{zone}" for zone in zones]


def planned_counts(zones: int, nat: str) -> dict[str, int]:
    """Return how many of each kind of object such a network has."""
    private = 0 if nat == gateways.NONE else zones
    ways = {gateways.NONE: 0, gateways.SINGLE: 1, gateways.PER_ZONE: zones}[nat]
    kinds = {"vpc": 1, "internet gateway": 1, "subnet": zones + private, "route table": 1 + private}
    return {**kinds, **({"nat gateway": ways, "address": ways} if ways else {})}


@aws_errors()
def existing_counts(ec2, tags: dict[str, str]) -> dict[str, int]:
    """Return how many of each kind of object the network with these tags has."""
    kinds = {
        "vpc": (ec2.describe_vpcs, "Vpcs"),
        "internet gateway": (ec2.describe_internet_gateways, "InternetGateways"),
        "subnet": (ec2.describe_subnets, "Subnets"),
        "route table": (ec2.describe_route_tables, "RouteTables"),
        "address": (ec2.describe_addresses, "Addresses"),
    }
    found = {kind: len(aws_tags.find_all(*asked, tags)) for kind, asked in kinds.items()}
    return {**found, "nat gateway": gateways.count(ec2, tags)}


@aws_errors()
def closed_ports(ec2, group_id: str, ports: tuple[int, ...]) -> list[int]:
    """Return which TCP ports a security group keeps shut for its own members: EKS's lets them in everywhere."""
    (group,) = ec2.describe_security_groups(GroupIds=[group_id])["SecurityGroups"]
    mine = [
        rule
        for rule in group["IpPermissions"]
        if rule["IpProtocol"] in ("-1", "tcp")
        and (
            any(pair["GroupId"] == group_id for pair in rule.get("UserIdGroupPairs", []))
            or any(one["CidrIp"] == "0.0.0.0/0" for one in rule.get("IpRanges", []))
        )
    ]
    lets = lambda rule, port: rule["IpProtocol"] == "-1" or rule["FromPort"] <= port <= rule["ToPort"]  # noqa: E731
    return [port for port in ports if not any(lets(rule, port) for rule in mine)]


@aws_errors()
def delete_network(ec2, tags: dict[str, str], deadline: float = 600, **options) -> str:
    """Delete the network with these tags, NAT gateways first, the VPC last; return "deleted" or "absent".

    NAT gateways are waited for, up to `deadline` seconds: what they use cannot be deleted before.
    """
    dropped = gateways.delete_gateways(ec2, tags, deadline, **options)
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
    return "deleted" if vpcs or dropped else "absent"


def _ensure_vpc(ec2, name: str, cidr: str, tags: dict[str, str], extra: dict[str, str]) -> tuple[str, str]:
    named, action = {**tags, "Name": name}, "unchanged"
    found = aws_tags.find_one(ec2.describe_vpcs, "Vpcs", named)
    if found is None:
        found, action = (
            ec2.create_vpc(CidrBlock=cidr, **aws_tags.tag_specification("vpc", {**named, **extra}))["Vpc"],
            "created",
        )
        ec2.get_waiter("vpc_available").wait(VpcIds=[found["VpcId"]])
    if found["CidrBlock"] != cidr:
        raise AwsError(
            f"expected the VPC {name} to have {cidr}, got {found['CidrBlock']}, which cannot be changed; "
            "set vpc_cidr back, or clean up first."
        )
    asked = {"Attribute": "enableDnsHostnames", "VpcId": found["VpcId"]}
    if not ec2.describe_vpc_attribute(**asked)["EnableDnsHostnames"]["Value"]:
        ec2.modify_vpc_attribute(VpcId=found["VpcId"], EnableDnsHostnames={"Value": True})
        action = aws_tags.mark_changed(action)
    return found["VpcId"], action


def _ensure_gateway(ec2, name: str, vpc_id: str, tags: dict, extra: dict) -> tuple[str, str]:
    named, action = {**tags, "Name": name}, "unchanged"
    found = aws_tags.find_one(ec2.describe_internet_gateways, "InternetGateways", named)
    if found is None:
        asked = aws_tags.tag_specification("internet-gateway", {**named, **extra})
        found, action = ec2.create_internet_gateway(**asked)["InternetGateway"], "created"
    gateway_id = found["InternetGatewayId"]
    if vpc_id not in [link["VpcId"] for link in found.get("Attachments", [])]:
        ec2.attach_internet_gateway(InternetGatewayId=gateway_id, VpcId=vpc_id)
        action = aws_tags.mark_changed(action)
    return gateway_id, action


def _ensure_subnet(ec2, label: str, place: dict, tags: dict, roles: dict, extra: dict, public: bool) -> tuple[str, str]:
    named, action = {**tags, "Name": label}, "unchanged"
    found = aws_tags.find_one(ec2.describe_subnets, "Subnets", named)
    if found is None:
        asked = aws_tags.tag_specification("subnet", {**named, **roles, **extra})
        found, action = ec2.create_subnet(**place, **asked)["Subnet"], "created"
        ec2.get_waiter("subnet_available").wait(SubnetIds=[found["SubnetId"]])
    subnet_id = found["SubnetId"]
    if not roles.items() <= tag_dict(found.get("Tags", [])).items():
        ec2.create_tags(Resources=[subnet_id], Tags=tag_list(roles))
        action = aws_tags.mark_changed(action)
    if bool(found.get("MapPublicIpOnLaunch")) != public:
        ec2.modify_subnet_attribute(SubnetId=subnet_id, MapPublicIpOnLaunch={"Value": public})
        action = aws_tags.mark_changed(action)
    return subnet_id, action


def _parts(cidr: str, count: int) -> tuple[list[str], list[str]]:
    """The public subnets' ranges, the first sixteenths, and the private ones', the later quarters of the VPC's.

    EC2 takes subnets from /28 up. Neither depends on how many there are, nor on the other.
    """
    whole = ipaddress.ip_network(cidr)
    if whole.prefixlen > 24 or count > 3:
        raise AwsError(f"expected a vpc_cidr of /24 or larger and up to 3 zones, got {cidr} and {count}; change them.")
    return [str(part) for part in list(whole.subnets(4))[:count]], [str(p) for p in list(whole.subnets(2))[1:][:count]]
