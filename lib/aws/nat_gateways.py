"""The private half of a network in EC2: private subnets, and the NAT gateways by which their nodes get out."""

from __future__ import annotations

from collections.abc import Callable

from lib.aws import tags as aws_tags
from lib.aws.session import aws_errors
from lib.errors import AwsError
from lib.polling import wait

NONE, SINGLE, PER_ZONE = "none", "single", "per-zone"
MODES = (NONE, SINGLE, PER_ZONE)
PAUSE = 3  # seconds between two looks: a NAT gateway takes a minute or two to come, and to go
ALIVE, ENDED = ("pending", "available"), ("deleted", "failed")  # AWS tells of those that are over for an hour
DEFAULT_ROUTE = "0.0.0.0/0"

Made = Callable[[str, str, str], None]  # kind, name, action


def gateway_name(name: str, zone: str) -> str:
    """Return the Name of a zone's NAT gateway and of its address."""
    return f"{name}-nat-{zone}"


@aws_errors()
def ensure_gateways(ec2, name: str, places: dict[str, str], tags: dict, extra: dict, made: Made) -> dict[str, str]:
    """Create what is missing of a NAT gateway and its address in each of `places` (public subnets by zone).

    Return their ids by zone at once, see wait_available. `extra` are tags that are given and never asked for. One that
    is being deleted, or failed, is not counted. AWS: VPC user guide, "NAT gateways"; CreateNatGateway, AllocateAddress.
    """
    found = {}
    for zone, subnet_id in places.items():
        named = {**tags, "Name": gateway_name(name, zone)}
        there = _alive(ec2, named)
        address = aws_tags.find_one(ec2.describe_addresses, "Addresses", named)
        if address is None:
            address = ec2.allocate_address(Domain="vpc", **aws_tags.tag_specification("elastic-ip", {**named, **extra}))
            made("address", named["Name"], "created")
        else:
            made("address", named["Name"], "unchanged")
        if not there:
            asked = {"SubnetId": subnet_id, "AllocationId": address["AllocationId"]}
            there = [
                ec2.create_nat_gateway(**asked, **aws_tags.tag_specification("natgateway", {**named, **extra}))[
                    "NatGateway"
                ]
            ]
            made("nat gateway", named["Name"], "created")
        else:
            made("nat gateway", named["Name"], "unchanged")
        found[zone] = there[0]["NatGatewayId"]
    return found


def wait_available(ec2, ids: list[str], tags: dict[str, str], deadline: float, **options) -> None:
    """Return once these NAT gateways are available; AwsError where one failed, TimedOut after `deadline` seconds."""

    def settled() -> dict[str, dict]:
        found = {one["NatGatewayId"]: one for one in _all(ec2, tags)}
        return {one: found[one] for one in ids if one in found and found[one]["State"] in ("available", *ENDED)}

    found = wait(
        "the NAT gateways available", settled, lambda seen: len(seen) == len(ids), deadline=deadline,
        fix="see them in the AWS console", **{"pause": PAUSE, **options},
    )  # fmt: skip
    if failed := [one for one in found.values() if one["State"] != "available"]:
        why = f"{failed[0].get('FailureCode', 'no code')}: {failed[0].get('FailureMessage', 'no reason given')}"
        raise AwsError(
            f"expected the NAT gateway {failed[0]['NatGatewayId']} to be available, got {failed[0]['State']} ({why}); "
            "mend that, then run it again: another one is made."
        )


@aws_errors()
def ensure_route(ec2, vpc_id: str, label: str, subnet_ids: list[str], target: dict, tags: dict, extra: dict) -> str:
    """Create or update the route table `label` with one way out to `target` ({GatewayId or NatGatewayId: id}).

    Return what it was: created, changed or unchanged. The subnets are tied to it.
    """
    named, action = {**tags, "Name": label}, "unchanged"
    table = aws_tags.find_one(ec2.describe_route_tables, "RouteTables", named)
    if table is None:
        asked = aws_tags.tag_specification("route-table", {**named, **extra})
        table, action = ec2.create_route_table(VpcId=vpc_id, **asked)["RouteTable"], "created"
    table_id = table["RouteTableId"]
    ways = {way.get("DestinationCidrBlock"): way for way in table.get("Routes", [])}
    way = ways.get(DEFAULT_ROUTE)
    if way is None or not target.items() <= way.items():
        put = ec2.create_route if way is None else ec2.replace_route
        put(RouteTableId=table_id, DestinationCidrBlock=DEFAULT_ROUTE, **target)
        action = aws_tags.mark_changed(action)
    linked = [link.get("SubnetId") for link in table.get("Associations", [])]
    for subnet_id in sorted(set(subnet_ids) - set(linked)):
        ec2.associate_route_table(RouteTableId=table_id, SubnetId=subnet_id)
        action = aws_tags.mark_changed(action)
    return action


@aws_errors()
def delete_gateways(ec2, tags: dict[str, str], deadline: float, keep: tuple[str, ...] = (), **options) -> list[str]:
    """Delete the NAT gateways with `tags` but those named in `keep`, wait until they are gone, then their addresses.

    Return the names of what went. Until a NAT gateway is gone its address, its subnet and the internet gateway are in
    use, so nothing else of the network can be deleted: TimedOut after `deadline` seconds.
    """
    wanted = {one["NatGatewayId"] for one in _all(ec2, tags) if one["State"] not in ENDED and _name(one) not in keep}
    gone = []
    for one in _all(ec2, tags):
        if one["NatGatewayId"] in wanted and one["State"] != "deleting":
            ec2.delete_nat_gateway(NatGatewayId=one["NatGatewayId"])
            gone.append(_name(one))
    left = lambda: [  # noqa: E731
        one["NatGatewayId"]
        for one in _all(ec2, tags)
        if one["NatGatewayId"] in wanted and one["State"] not in ENDED
    ]  # fmt: skip
    wait("the NAT gateways gone", left, lambda names: not names, deadline=deadline, **{"pause": PAUSE, **options})
    for one in aws_tags.find_all(ec2.describe_addresses, "Addresses", tags):
        if _name(one) not in keep:
            ec2.release_address(AllocationId=one["AllocationId"])
            gone.append(_name(one))
    return gone


@aws_errors()
def wait_none_deleting(ec2, tags: dict[str, str], deadline: float, **options) -> None:
    """Return once no NAT gateway with `tags` is on its way out: until then its address cannot be used again."""
    going = lambda: [one["NatGatewayId"] for one in _all(ec2, tags) if one["State"] == "deleting"]  # noqa: E731
    what = "the NAT gateways of before gone"
    wait(what, going, lambda names: not names, deadline=deadline, **{"pause": PAUSE, **options})


def count(ec2, tags: dict[str, str]) -> int:
    """Return how many NAT gateways with `tags` there are, or will be in a minute."""
    return len(_alive(ec2, tags))


def _alive(ec2, tags: dict[str, str]) -> list[dict]:
    return [one for one in _all(ec2, tags) if one["State"] in ALIVE]


def _all(ec2, tags: dict[str, str]) -> list[dict]:
    return aws_tags.find_all(ec2.describe_nat_gateways, "NatGateways", tags)


def _name(one: dict) -> str:
    return next((tag["Value"] for tag in one.get("Tags", []) if tag["Key"] == "Name"), "")
