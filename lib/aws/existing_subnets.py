"""Existing subnets: found by ids or tags, checked before a cluster goes into them, never changed.

Requirements: Amazon EKS user guide, "Amazon EKS networking requirements for VPC and subnets" and "Route TCP and UDP
traffic with Network Load Balancers"; subnet discovery in the documentation of the AWS Load Balancer Controller.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from lib.aws.nat_gateways import DEFAULT_ROUTE
from lib.aws.session import aws_errors, paginate
from lib.aws.tags import tag_dict
from lib.aws.vpc import PRIVATE_ROLE, PUBLIC_ROLE, ZONES_WITHOUT_EKS
from lib.errors import AwsError

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client

    from lib.params import Params

ADDRESSES_FOR_EKS = 6  # free addresses that EKS requires in each subnet; it recommends 16
ADDRESSES_PER_NODE = 10  # an m5.large's first interface: the node's own address and a warm pool for pods
INTERNET, OTHER_ROUTE, NO_ROUTE = "internet gateway", "another route", "none"
BLACKHOLE = "a route to a deleted gateway"
SUBNETS_ANNOTATION = "service.beta.kubernetes.io/aws-load-balancer-subnets"  # it names subnets, instead of tags


@dataclass(frozen=True)
class ExistingSubnets:
    """The subnets: the VPC, the cluster's subnets, the nodes' subnets among them, and `problems` as sentences."""

    vpc_id: str
    subnet_ids: list[str]
    node_subnet_ids: list[str]
    rows: list[tuple[str, str]]  # id, zone and route to the internet
    zones: list[str]  # of the nodes
    problems: list[str] = field(default_factory=list)


@aws_errors()
def describe(
    ec2: EC2Client,
    ids: list[str],
    tags: dict[str, str],
    cluster: str,
    nodes: int,
    scheme: str | None,
    fresh: bool = True,
) -> ExistingSubnets:
    """Return the subnets with these ids, or else these tags, and their problems as a cluster's network.

    Nodes go into the private subnets if there are any.

    Args:
        ec2: boto3's EC2 client.
        ids: subnet ids.
        tags: subnet tags, used without ids.
        cluster: the cluster's name.
        nodes: how many nodes.
        scheme: the load balancers' scheme ("internet-facing" or "internal"), or None if the params name their subnets.
        fresh: whether the cluster does not exist yet; only then free addresses are counted.

    Raises:
        AwsError: subnets do not exist, or are in several VPCs.
    """
    subnets = sorted(_found(ec2, ids, tags), key=lambda one: (one["AvailabilityZone"], one["SubnetId"]))
    if len(vpcs := {one["VpcId"] for one in subnets}) > 1:
        raise AwsError(f"expected all subnets in one VPC, got {', '.join(sorted(vpcs))}; name those of one.")
    (vpc_id,) = vpcs
    routes = _routes(ec2, vpc_id)
    route = {one["SubnetId"]: routes.get(one["SubnetId"], routes[""]) for one in subnets}
    private = [one for one in subnets if route[one["SubnetId"]] != INTERNET]
    inside = private or subnets
    problems = [*_zones(ec2, subnets), *_dns(ec2, vpc_id)]
    problems += [problem for one in inside if (problem := _route_problem(one, route[one["SubnetId"]]))]
    problems += _room(subnets, inside, nodes) if fresh else []
    problems += _for_balancers(ec2, vpc_id, inside, routes, cluster, scheme) if scheme else []
    rows = [(one["SubnetId"], f"{one['AvailabilityZone']}, way out: {route[one['SubnetId']]}") for one in subnets]
    zones = sorted({one["AvailabilityZone"] for one in inside})
    return ExistingSubnets(vpc_id, _ids(subnets), _ids(inside), rows, zones, problems)


def wanted_scheme(params: Params) -> str | None:
    """Return the load balancers' scheme by the params; None if no controller searches subnets by tags."""
    if params.load_balancer_controller is None or SUBNETS_ANNOTATION in params.load_balancer_annotations:
        return None
    return params.load_balancer_scheme


def _found(ec2: EC2Client, ids: list[str], tags: dict[str, str]) -> list[dict[str, Any]]:
    if not ids:
        filters = [{"Name": f"tag:{key}", "Values": [value]} for key, value in tags.items()]
        if found := paginate(ec2, "describe_subnets", "Subnets", Filters=filters):
            return found
        raise AwsError(f"expected subnets with the tags {tags}, got none; check region, account and subnet_tags.")
    try:
        return [dict(subnet) for subnet in ec2.describe_subnets(SubnetIds=ids)["Subnets"]]
    except ClientError as error:
        if "InvalidSubnet" not in error.response["Error"]["Code"]:
            raise
        message = error.response["Error"]["Message"].rstrip(".")
        raise AwsError(f"expected all of subnet_ids to exist, got: {message}; check region, account and id.") from None


def _zones(ec2: EC2Client, subnets: list[dict[str, Any]]) -> list[str]:
    problems, zones = [], {one["AvailabilityZone"] for one in subnets}
    if len(zones) < 2:
        problems.append(
            f"expected subnets in at least two zones, got {', '.join(zones)} alone; add one in another zone."
        )
    kinds = {one["ZoneName"]: one for one in ec2.describe_availability_zones()["AvailabilityZones"]}
    for one in subnets:
        zone = kinds.get(one["AvailabilityZone"], {})
        if zone.get("ZoneId") in ZONES_WITHOUT_EKS or zone.get("ZoneType", "availability-zone") != "availability-zone":
            problems.append(
                f"expected {one['SubnetId']} in a zone that EKS takes, got {one['AvailabilityZone']} "
                f"({zone.get('ZoneId')}); name one of another zone."
            )
    return problems


def _dns(ec2: EC2Client, vpc_id: str) -> list[str]:
    """Nodes resolve the API server's name, and register with their own."""
    read = ec2.describe_vpc_attribute
    enabled = {
        "enableDnsSupport": read(VpcId=vpc_id, Attribute="enableDnsSupport")["EnableDnsSupport"],
        "enableDnsHostnames": read(VpcId=vpc_id, Attribute="enableDnsHostnames")["EnableDnsHostnames"],
    }
    return [
        f"expected {name} of {vpc_id}, got it off; turn it on: nodes cannot register without."
        for name, attribute in enabled.items()
        if not attribute["Value"]
    ]


def _route_problem(subnet: dict[str, Any], route: str) -> str:
    name = subnet["SubnetId"]
    if route in (NO_ROUTE, BLACKHOLE):
        return (
            f"expected a route to {DEFAULT_ROUTE} for nodes in {name}, got {route}; add one to a NAT gateway, "
            "or name other subnets: images come from outside."
        )
    if route == INTERNET and not subnet.get("MapPublicIpOnLaunch"):
        return (
            f"expected {name} to give nodes public addresses, since its way out is an internet gateway, got none; "
            "set MapPublicIpOnLaunch, or name private subnets."
        )
    return ""


def _room(subnets: list[dict[str, Any]], inside: list[dict[str, Any]], nodes: int) -> list[str]:
    free = {one["SubnetId"]: one["AvailableIpAddressCount"] for one in subnets}
    problems = [
        f"expected at least {ADDRESSES_FOR_EKS} free addresses in {name} for EKS, got {count}; "
        "free some, or name another subnet."
        for name, count in free.items()
        if count < ADDRESSES_FOR_EKS
    ]
    need, got = ADDRESSES_FOR_EKS + nodes * ADDRESSES_PER_NODE, sum(free[one["SubnetId"]] for one in inside)
    if got < need and not problems:
        problems.append(
            f"expected {need} free addresses for {nodes} nodes and their pods in {', '.join(_ids(inside))}, got {got}; "
            "name larger subnets, or take fewer nodes."
        )
    return problems


def _for_balancers(
    ec2: EC2Client, vpc_id: str, inside: list[dict[str, Any]], routes: dict[str, str], cluster: str, scheme: str
) -> list[str]:
    """In each zone with nodes a load-balancer controller must find a subnet by its tags."""
    role, sort = (PUBLIC_ROLE, "public") if scheme == "internet-facing" else (PRIVATE_ROLE, "")
    asked = [{"Name": "vpc-id", "Values": [vpc_id]}]
    there = set()
    for one in paginate(ec2, "describe_subnets", "Subnets", Filters=asked):
        tags = tag_dict(one.get("Tags", []))
        others = [key for key in tags if key.startswith("kubernetes.io/cluster/")]
        free = not others or f"kubernetes.io/cluster/{cluster}" in others
        right = scheme == "internal" or routes.get(one["SubnetId"], routes[""]) == INTERNET
        if tags.get(role) in ("1", "") and free and right:
            there.add(one["AvailabilityZone"])
    return [
        f"expected in {zone} a {sort + ' ' if sort else ''}subnet with the tag {role}: 1, free for this cluster, "
        f"got none; tag one, or name it in load_balancer_annotations ({SUBNETS_ANNOTATION})."
        for zone in sorted({one["AvailabilityZone"] for one in inside} - there)
    ]


def _routes(ec2: EC2Client, vpc_id: str) -> dict[str, str]:
    """Return the route to the internet by subnet; "" is the VPC's main route table, the default."""
    asked = [{"Name": "vpc-id", "Values": [vpc_id]}]
    found = {"": NO_ROUTE}
    for table in paginate(ec2, "describe_route_tables", "RouteTables", Filters=asked):
        route = _default_route(table["Routes"])
        for link in table["Associations"]:
            found["" if link.get("Main") else link.get("SubnetId", "-")] = route
    return found


def _default_route(routes: list[dict[str, Any]]) -> str:
    for route in routes:
        if route.get("DestinationCidrBlock") == DEFAULT_ROUTE:
            if route.get("State") == "blackhole":
                return BLACKHOLE
            return INTERNET if route.get("GatewayId", "").startswith("igw-") else OTHER_ROUTE
    return NO_ROUTE


def _ids(subnets: list[dict[str, Any]]) -> list[str]:
    return [subnet["SubnetId"] for subnet in subnets]
