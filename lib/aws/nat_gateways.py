"""The private half of a network: NAT gateways with their addresses, and route tables.

Amazon VPC user guide: "NAT gateways"; EC2 API Reference: CreateNatGateway, AllocateAddress, CreateRoute.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from lib.aws import tags as aws_tags
from lib.aws.session import aws_errors
from lib.ensured import Action
from lib.errors import AwsError
from lib.polling import wait

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client

NONE, SINGLE, PER_ZONE = "none", "single", "per-zone"
MODES = (NONE, SINGLE, PER_ZONE)
PAUSE = 3  # seconds between two reads: AWS creates or deletes a NAT gateway in a minute or two
ALIVE, ENDED = ("pending", "available"), ("deleted", "failed")  # AWS lists gateways for an hour after their end
DEFAULT_ROUTE = "0.0.0.0/0"

Tags = dict[str, str]
OnChange = Callable[[str, str, str], None]  # kind, name, action


def gateway_name(name: str, zone: str) -> str:
    """Return the Name of a zone's NAT gateway and of its address."""
    return f"{name}-nat-{zone}"


@aws_errors()
def ensure_gateways(
    ec2: EC2Client, name: str, subnets: dict[str, str], tags: Tags, extra: Tags, tell: OnChange
) -> dict[str, str]:
    """Create the missing NAT gateways and addresses; a gateway that failed or is being deleted does not count.

    Args:
        ec2: boto3's EC2 client.
        name: the network's name.
        subnets: public subnets by zone; each gets a NAT gateway.
        tags: the runbook's tags.
        extra: tags for new objects that no search uses.
        tell: receives kind, name and action of each object.

    Returns:
        The gateways' ids by zone; new gateways are not available yet, see `wait_available`.
    """
    found = {}
    for zone, subnet_id in subnets.items():
        label = gateway_name(name, zone)
        named = {**tags, "Name": label}
        gateway = next(iter(_alive(ec2, named)), None)
        address: Any = aws_tags.find_one(ec2.describe_addresses, "Addresses", named)
        if address is None:
            specification = aws_tags.tag_specification("elastic-ip", {**named, **extra})
            address = ec2.allocate_address(Domain="vpc", **specification)
            tell("address", label, "created")
        else:
            tell("address", label, "unchanged")
        if gateway is None:
            request = {"SubnetId": subnet_id, "AllocationId": address["AllocationId"]}
            specification = aws_tags.tag_specification("natgateway", {**named, **extra})
            gateway = dict(ec2.create_nat_gateway(**request, **specification)["NatGateway"])
            tell("nat gateway", label, "created")
        else:
            tell("nat gateway", label, "unchanged")
        found[zone] = gateway["NatGatewayId"]
    return found


@aws_errors()
def wait_available(ec2: EC2Client, ids: list[str], tags: Tags, deadline: float, **options: Any) -> None:
    """Return once these NAT gateways are available; AwsError if one failed, TimedOut after `deadline` seconds."""

    def ended() -> dict[str, dict[str, Any]]:
        found = {gateway["NatGatewayId"]: gateway for gateway in _all(ec2, tags)}
        return {each: found[each] for each in ids if each in found and found[each]["State"] in ("available", *ENDED)}

    found = wait(
        "the NAT gateways available", ended, lambda seen: len(seen) == len(ids), deadline=deadline,
        fix="see them in the AWS console", **{"pause": PAUSE, **options},
    )  # fmt: skip
    if failed := [gateway for gateway in found.values() if gateway["State"] != "available"]:
        reason = f"{failed[0].get('FailureCode', 'no code')}: {failed[0].get('FailureMessage', 'no reason given')}"
        raise AwsError(
            f"expected the NAT gateway {failed[0]['NatGatewayId']} to be available, got {failed[0]['State']} "
            f"({reason}); fix that, then run it again: the next run creates another gateway."
        )


@aws_errors()
def ensure_route(
    ec2: EC2Client, vpc_id: str, label: str, subnet_ids: list[str], target: dict[str, str], tags: Tags, extra: Tags
) -> Action:
    """Create or update a route table with a default route, and associate it with subnets.

    Args:
        ec2: boto3's EC2 client.
        vpc_id: the VPC.
        label: the route table's Name.
        subnet_ids: the subnets.
        target: {"GatewayId": id} or {"NatGatewayId": id}.
        tags: the runbook's tags.
        extra: tags for a new table that no search uses.

    Returns:
        "created", "changed" or "unchanged".
    """
    named: Tags = {**tags, "Name": label}
    action: Action = "unchanged"
    table: Any = aws_tags.find_one(ec2.describe_route_tables, "RouteTables", named)
    if table is None:
        specification = aws_tags.tag_specification("route-table", {**named, **extra})
        table, action = ec2.create_route_table(VpcId=vpc_id, **specification)["RouteTable"], "created"
    table_id = table["RouteTableId"]
    routes = {route.get("DestinationCidrBlock"): route for route in table.get("Routes", [])}
    route = routes.get(DEFAULT_ROUTE)
    if route is None or not target.items() <= route.items():
        put: Callable[..., Any] = ec2.create_route if route is None else ec2.replace_route
        put(RouteTableId=table_id, DestinationCidrBlock=DEFAULT_ROUTE, **target)
        action = aws_tags.mark_changed(action)
    associated = [link.get("SubnetId") for link in table.get("Associations", [])]
    for subnet_id in sorted(set(subnet_ids) - set(associated)):
        ec2.associate_route_table(RouteTableId=table_id, SubnetId=subnet_id)
        action = aws_tags.mark_changed(action)
    return action


@aws_errors()
def delete_gateways(
    ec2: EC2Client, tags: Tags, deadline: float, keep: tuple[str, ...] = (), **options: Any
) -> list[str]:
    """Delete NAT gateways, wait until they are gone, then release their addresses.

    A NAT gateway uses its address, its subnet and the internet gateway until it is gone.

    Args:
        ec2: boto3's EC2 client.
        tags: the tags of the gateways and addresses.
        deadline: seconds; TimedOut after it.
        keep: names of gateways that stay.
        **options: those of lib.polling.until.

    Returns:
        The names of the deleted gateways and addresses.
    """
    doomed = {
        gateway["NatGatewayId"]
        for gateway in _all(ec2, tags)
        if gateway["State"] not in ENDED and _name(gateway) not in keep
    }
    deleted = []
    for gateway in _all(ec2, tags):
        if gateway["NatGatewayId"] in doomed and gateway["State"] != "deleting":
            ec2.delete_nat_gateway(NatGatewayId=gateway["NatGatewayId"])
            deleted.append(_name(gateway))

    def remaining() -> list[str]:
        alive = [gateway["NatGatewayId"] for gateway in _all(ec2, tags) if gateway["State"] not in ENDED]
        return [gateway_id for gateway_id in alive if gateway_id in doomed]

    wait("the NAT gateways gone", remaining, lambda ids: not ids, deadline=deadline, **{"pause": PAUSE, **options})
    for address in aws_tags.find_all(ec2.describe_addresses, "Addresses", tags):
        if _name(address) not in keep:
            ec2.release_address(AllocationId=address["AllocationId"])
            deleted.append(_name(address))
    return deleted


@aws_errors()
def wait_none_deleting(ec2: EC2Client, tags: Tags, deadline: float, **options: Any) -> None:
    """Return once no NAT gateway with `tags` is being deleted: until then its address cannot be used again."""

    def deleting() -> list[str]:
        return [gateway["NatGatewayId"] for gateway in _all(ec2, tags) if gateway["State"] == "deleting"]

    wait("earlier NAT gateways gone", deleting, lambda ids: not ids, deadline=deadline, **{"pause": PAUSE, **options})


def count(ec2: EC2Client, tags: Tags) -> int:
    """Return how many NAT gateways with `tags` are available or pending."""
    return len(_alive(ec2, tags))


def _alive(ec2: EC2Client, tags: Tags) -> list[dict[str, Any]]:
    return [gateway for gateway in _all(ec2, tags) if gateway["State"] in ALIVE]


def _all(ec2: EC2Client, tags: Tags) -> list[dict[str, Any]]:
    return aws_tags.find_all(ec2.describe_nat_gateways, "NatGateways", tags)


def _name(item: dict[str, Any]) -> str:
    return aws_tags.tag_dict(item.get("Tags", [])).get("Name", "")
