"""Subnets that are there already: found by their ids or tags, looked through before a cluster is put in, never changed.

What a cluster needs of them: Amazon EKS user guide, "Amazon EKS networking requirements for VPC and subnets"; what load
balancers do: "Route TCP and UDP traffic with Network Load Balancers" there, and subnet discovery in the documentation
of the AWS Load Balancer Controller.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from botocore.exceptions import ClientError

from lib.aws.nat_gateways import DEFAULT_ROUTE
from lib.aws.session import aws_errors, paginate
from lib.aws.tags import tag_dict
from lib.aws.vpc import PRIVATE_ROLE, PUBLIC_ROLE, ZONES_WITHOUT_EKS
from lib.errors import AwsError

ADDRESSES_FOR_EKS = 6  # addresses in each subnet that EKS asks for; it advises 16
ADDRESSES_PER_NODE = (
    10  # addresses that a node takes at once: its own and those kept warm for pods (m5.large's first interface)
)
INTERNET, OTHER_ROUTE, BLACKHOLE, NO_ROUTE = "internet gateway", "another way", "a way that is gone", "none"
SUBNETS_ANNOTATION = "service.beta.kubernetes.io/aws-load-balancer-subnets"  # with it nothing is looked for by tags


@dataclass(frozen=True)
class ExistingSubnets:
    """The subnets as they are: the VPC, those for the cluster, those of them for nodes; `problems` in sentences."""

    vpc_id: str
    subnet_ids: list[str]
    node_subnet_ids: list[str]
    rows: list[tuple[str, str]]  # id, what it is in a few words
    zones: list[str]  # of the nodes
    problems: list[str] = field(default_factory=list)


@aws_errors()
def describe(
    ec2,
    ids: list[str],
    tags: dict[str, str],
    cluster: str,
    nodes: int,
    scheme: str | None,
    fresh: bool = True,
) -> ExistingSubnets:
    """Return the subnets with these ids, or else these tags, and what of them would not work for a cluster.

    `nodes` go into the private ones where there are any. `scheme` is the load balancers' (internet-facing, internal),
    None where their subnets are named elsewhere. Addresses are counted for a cluster that is not there yet (`fresh`).
    """
    subnets = sorted(_found(ec2, ids, tags), key=lambda one: (one["AvailabilityZone"], one["SubnetId"]))
    if len(vpcs := {one["VpcId"] for one in subnets}) > 1:
        raise AwsError(f"expected all subnets in one VPC, got {', '.join(sorted(vpcs))}; name those of one.")
    (vpc_id,) = vpcs
    ways = _ways(ec2, vpc_id)
    way = {one["SubnetId"]: ways.get(one["SubnetId"], ways[""]) for one in subnets}
    private = [one for one in subnets if way[one["SubnetId"]] != INTERNET]
    inside = private or subnets
    problems = [*_zones(ec2, subnets), *_dns(ec2, vpc_id)]
    problems += [told for one in inside if (told := _way_out(one, way[one["SubnetId"]]))]
    problems += _room(subnets, inside, nodes) if fresh else []
    problems += _for_balancers(ec2, vpc_id, inside, ways, cluster, scheme) if scheme else []
    rows = [(one["SubnetId"], f"{one['AvailabilityZone']}, way out: {way[one['SubnetId']]}") for one in subnets]
    named = lambda some: [one["SubnetId"] for one in some]  # noqa: E731
    zones = sorted({one["AvailabilityZone"] for one in inside})
    return ExistingSubnets(vpc_id, named(subnets), named(inside), rows, zones, problems)


def wanted_scheme(here) -> str | None:
    """Return which subnets the load balancers of these params look for; None where nothing is looked for."""
    if here.load_balancer_controller is None or SUBNETS_ANNOTATION in here.load_balancer_annotations:
        return None
    return here.load_balancer_scheme


def _found(ec2, ids: list[str], tags: dict[str, str]) -> list[dict]:
    if not ids:
        filters = [{"Name": f"tag:{key}", "Values": [value]} for key, value in tags.items()]
        if found := paginate(ec2, "describe_subnets", "Subnets", Filters=filters):
            return found
        raise AwsError(f"expected subnets with the tags {tags}, got none; check region, account and subnet_tags.")
    try:
        return ec2.describe_subnets(SubnetIds=ids)["Subnets"]
    except ClientError as error:
        if "InvalidSubnet" not in error.response["Error"]["Code"]:
            raise
        said = error.response["Error"]["Message"].rstrip(".")
        raise AwsError(f"expected all of subnet_ids to exist, got: {said}; check region, account and id.") from None


def _zones(ec2, subnets: list[dict]) -> list[str]:
    told, zones = [], {one["AvailabilityZone"] for one in subnets}
    if len(zones) < 2:
        told.append(f"expected subnets in at least two zones, got {', '.join(zones)} alone; add one in another zone.")
    kinds = {one["ZoneName"]: one for one in ec2.describe_availability_zones()["AvailabilityZones"]}
    for one in subnets:
        zone = kinds.get(one["AvailabilityZone"], {})
        if zone.get("ZoneId") in ZONES_WITHOUT_EKS or zone.get("ZoneType", "availability-zone") != "availability-zone":
            told.append(
                f"expected {one['SubnetId']} in a zone that EKS takes, got {one['AvailabilityZone']} "
                f"({zone.get('ZoneId')}); name one of another zone."
            )
    return told


def _dns(ec2, vpc_id: str) -> list[str]:
    """Nodes look their API server's name up, and register by their own."""
    told = []
    for name in ("enableDnsSupport", "enableDnsHostnames"):
        key = name[0].upper() + name[1:]
        if not ec2.describe_vpc_attribute(VpcId=vpc_id, Attribute=name)[key]["Value"]:
            told.append(f"expected {name} of {vpc_id}, got it off; turn it on: nodes cannot register without.")
    return told


def _way_out(subnet: dict, way: str) -> str:
    name = subnet["SubnetId"]
    if way in (NO_ROUTE, BLACKHOLE):
        return (
            f"expected a route to {DEFAULT_ROUTE} for nodes in {name}, got {way}; add one to a NAT gateway, "
            "or name other subnets: images come from outside."
        )
    if way == INTERNET and not subnet.get("MapPublicIpOnLaunch"):
        return (
            f"expected {name} to give nodes public addresses, since its way out is an internet gateway, got none; "
            "set MapPublicIpOnLaunch, or name private subnets."
        )
    return ""


def _room(subnets: list[dict], inside: list[dict], nodes: int) -> list[str]:
    free = {one["SubnetId"]: one["AvailableIpAddressCount"] for one in subnets}
    told = [
        f"expected at least {ADDRESSES_FOR_EKS} free addresses in {name} for EKS, got {count}; free some, or name another."
        for name, count in free.items()
        if count < ADDRESSES_FOR_EKS
    ]
    need, got = ADDRESSES_FOR_EKS + nodes * ADDRESSES_PER_NODE, sum(free[one["SubnetId"]] for one in inside)
    if got < need and not told:
        told.append(
            f"expected {need} free addresses for {nodes} nodes and their pods in {_names(inside)}, got {got}; "
            "name larger subnets, or take fewer nodes."
        )
    return told


def _for_balancers(ec2, vpc_id: str, inside: list[dict], ways: dict, cluster: str, scheme: str) -> list[str]:
    """In each zone with nodes a controller must find a subnet by its tags: it is put nowhere else."""
    role, sort = (PUBLIC_ROLE, "public") if scheme == "internet-facing" else (PRIVATE_ROLE, "")
    asked = [{"Name": "vpc-id", "Values": [vpc_id]}]
    there = set()
    for one in paginate(ec2, "describe_subnets", "Subnets", Filters=asked):
        tags = tag_dict(one.get("Tags", []))
        others = [key for key in tags if key.startswith("kubernetes.io/cluster/")]
        free = not others or f"kubernetes.io/cluster/{cluster}" in others
        right = scheme == "internal" or ways.get(one["SubnetId"], ways[""]) == INTERNET
        if tags.get(role) in ("1", "") and free and right:
            there.add(one["AvailabilityZone"])
    return [
        f"expected in {zone} a {sort + ' ' if sort else ''}subnet with the tag {role}: 1, free for this cluster, "
        f"got none; tag one, or name it in load_balancer_annotations ({SUBNETS_ANNOTATION})."
        for zone in sorted({one["AvailabilityZone"] for one in inside} - there)
    ]


def _ways(ec2, vpc_id: str) -> dict[str, str]:
    """The way out by subnet; under "" that of the VPC's main route table, which all others have."""
    asked = [{"Name": "vpc-id", "Values": [vpc_id]}]
    found = {"": NO_ROUTE}
    for table in paginate(ec2, "describe_route_tables", "RouteTables", Filters=asked):
        way = _way(table["Routes"])
        for link in table["Associations"]:
            found["" if link.get("Main") else link.get("SubnetId", "-")] = way
    return found


def _way(routes: list[dict]) -> str:
    for route in routes:
        if route.get("DestinationCidrBlock") == DEFAULT_ROUTE:
            if route.get("State") == "blackhole":
                return BLACKHOLE
            return INTERNET if route.get("GatewayId", "").startswith("igw-") else OTHER_ROUTE
    return NO_ROUTE


def _names(some: list[dict]) -> str:
    return ", ".join(one["SubnetId"] for one in some)
