"""The cluster's network in EC2: one VPC, public subnets in several zones, a way out; found again by its tags."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable

from lib.aws import spoken, tag_dict, tag_list
from lib.errors import AwsError

# Zones that take no EKS control plane ("Amazon EKS networking requirements for VPC and subnets", EKS user guide).
NO_EKS = ("use1-az3", "usw1-az2", "cac1-az3")

Change = tuple[str, str, str]  # kind, name, action
Tell = Callable[[str, str, str], None]  # the same


@spoken()
def ensure_network(
    ec2, name: str, cidr: str, tags: dict[str, str], zones: int = 2, tell: Tell | None = None
) -> tuple[dict, list[Change]]:
    """Create or update the network of the cluster `name`; return ({vpc_id, subnet_ids}, changes).

    The subnets are public: nodes have public addresses and need no NAT. Private subnets with NAT come later: each
    public one takes a sixteenth of the VPC's range, the rest is left for them. `changes` has one row per object; `tell`
    is told each as soon as it is made, so that a run which ends in the middle has lost none.
    """
    subnets, changes = [], []

    def made(*change: str) -> None:
        changes.append(change)
        if tell:
            tell(*change)

    vpc_id, action = _ensure_vpc(ec2, name, cidr, tags)
    made("vpc", name, action)
    gateway_id, action = _ensure_gateway(ec2, name, vpc_id, tags)
    made("internet gateway", name, action)
    for zone, part in zip(_zones(ec2, zones), _parts(cidr, zones), strict=True):
        label = f"{name}-public-{zone}"
        subnet_id, action = _ensure_subnet(ec2, label, vpc_id, zone, part, tags, _roles(name))
        subnets.append(subnet_id)
        made("subnet", label, action)
    made("route table", f"{name}-public", _ensure_routes(ec2, name, vpc_id, gateway_id, subnets, tags))
    return {"vpc_id": vpc_id, "subnet_ids": subnets}, changes


@spoken()
def counts(ec2, tags: dict[str, str]) -> dict[str, int]:
    """Return how many of each kind of object the network with these tags has."""
    kinds = {
        "vpc": (ec2.describe_vpcs, "Vpcs"),
        "internet gateway": (ec2.describe_internet_gateways, "InternetGateways"),
        "subnet": (ec2.describe_subnets, "Subnets"),
        "route table": (ec2.describe_route_tables, "RouteTables"),
    }
    return {kind: len(_all(*asked, tags)) for kind, asked in kinds.items()}


@spoken()
def shut(ec2, group_id: str, ports: tuple[int, ...]) -> list[int]:
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


@spoken()
def delete_network(ec2, tags: dict[str, str]) -> str:
    """Delete the network with these tags, the VPC last; return "deleted" or "absent"."""
    vpcs = _all(ec2.describe_vpcs, "Vpcs", tags)
    for table in _all(ec2.describe_route_tables, "RouteTables", tags):
        for link in table["Associations"]:
            ec2.disassociate_route_table(AssociationId=link["RouteTableAssociationId"])
        ec2.delete_route_table(RouteTableId=table["RouteTableId"])
    for subnet in _all(ec2.describe_subnets, "Subnets", tags):
        ec2.delete_subnet(SubnetId=subnet["SubnetId"])
    for gateway in _all(ec2.describe_internet_gateways, "InternetGateways", tags):
        for link in gateway["Attachments"]:
            ec2.detach_internet_gateway(InternetGatewayId=gateway["InternetGatewayId"], VpcId=link["VpcId"])
        ec2.delete_internet_gateway(InternetGatewayId=gateway["InternetGatewayId"])
    for vpc in vpcs:
        ec2.delete_vpc(VpcId=vpc["VpcId"])
    return "deleted" if vpcs else "absent"


def _ensure_vpc(ec2, name: str, cidr: str, tags: dict[str, str]) -> tuple[str, str]:
    found, action = _one(ec2.describe_vpcs, "Vpcs", {**tags, "Name": name}), "unchanged"
    if found is None:
        found, action = ec2.create_vpc(CidrBlock=cidr, **_tagged("vpc", {**tags, "Name": name}))["Vpc"], "created"
        ec2.get_waiter("vpc_available").wait(VpcIds=[found["VpcId"]])
    if found["CidrBlock"] != cidr:
        raise AwsError(
            f"expected the VPC {name} to have {cidr}, got {found['CidrBlock']}, which cannot be changed; "
            "set vpc_cidr back, or clean up first."
        )
    asked = {"Attribute": "enableDnsHostnames", "VpcId": found["VpcId"]}
    if not ec2.describe_vpc_attribute(**asked)["EnableDnsHostnames"]["Value"]:
        ec2.modify_vpc_attribute(VpcId=found["VpcId"], EnableDnsHostnames={"Value": True})
        action = _touched(action)
    return found["VpcId"], action


def _ensure_gateway(ec2, name: str, vpc_id: str, tags: dict[str, str]) -> tuple[str, str]:
    named, action = {**tags, "Name": name}, "unchanged"
    found = _one(ec2.describe_internet_gateways, "InternetGateways", named)
    if found is None:
        found, action = ec2.create_internet_gateway(**_tagged("internet-gateway", named))["InternetGateway"], "created"
    gateway_id = found["InternetGatewayId"]
    if vpc_id not in [link["VpcId"] for link in found.get("Attachments", [])]:
        ec2.attach_internet_gateway(InternetGatewayId=gateway_id, VpcId=vpc_id)
        action = _touched(action)
    return gateway_id, action


def _ensure_subnet(ec2, label: str, vpc_id: str, zone: str, cidr: str, tags: dict, roles: dict) -> tuple[str, str]:
    named, action = {**tags, "Name": label}, "unchanged"
    found = _one(ec2.describe_subnets, "Subnets", named)
    if found is None:
        place = {"VpcId": vpc_id, "AvailabilityZone": zone, "CidrBlock": cidr}
        found, action = ec2.create_subnet(**place, **_tagged("subnet", {**named, **roles}))["Subnet"], "created"
        ec2.get_waiter("subnet_available").wait(SubnetIds=[found["SubnetId"]])
    subnet_id = found["SubnetId"]
    if not roles.items() <= tag_dict(found.get("Tags", [])).items():
        ec2.create_tags(Resources=[subnet_id], Tags=tag_list(roles))
        action = _touched(action)
    if not found.get("MapPublicIpOnLaunch"):
        ec2.modify_subnet_attribute(SubnetId=subnet_id, MapPublicIpOnLaunch={"Value": True})
        action = _touched(action)
    return subnet_id, action


def _ensure_routes(ec2, name: str, vpc_id: str, gateway_id: str, subnets: list[str], tags: dict[str, str]) -> str:
    named, action = {**tags, "Name": f"{name}-public"}, "unchanged"
    table = _one(ec2.describe_route_tables, "RouteTables", named)
    if table is None:
        table, action = ec2.create_route_table(VpcId=vpc_id, **_tagged("route-table", named))["RouteTable"], "created"
    table_id = table["RouteTableId"]
    ways = {way.get("DestinationCidrBlock"): way.get("GatewayId") for way in table.get("Routes", [])}
    if ways.get("0.0.0.0/0") != gateway_id:
        put = ec2.replace_route if "0.0.0.0/0" in ways else ec2.create_route
        put(RouteTableId=table_id, DestinationCidrBlock="0.0.0.0/0", GatewayId=gateway_id)
        action = _touched(action)
    linked = [link.get("SubnetId") for link in table.get("Associations", [])]
    for subnet_id in sorted(set(subnets) - set(linked)):
        ec2.associate_route_table(RouteTableId=table_id, SubnetId=subnet_id)
        action = _touched(action)
    return action


def _zones(ec2, count: int) -> list[str]:
    asked = [{"Name": "zone-type", "Values": ["availability-zone"]}, {"Name": "state", "Values": ["available"]}]
    found = ec2.describe_availability_zones(Filters=asked)["AvailabilityZones"]
    names = sorted(zone["ZoneName"] for zone in found if zone.get("ZoneId") not in NO_EKS)
    if len(names) < count:
        raise AwsError(f"expected {count} zones for the subnets, got {names}; take another region.")
    return names[:count]


def _parts(cidr: str, count: int) -> list[str]:
    """The first sixteenths of the range; EC2 takes subnets from /28 up."""
    whole = ipaddress.ip_network(cidr)
    if whole.prefixlen > 24 or count > 16:
        raise AwsError(f"expected a vpc_cidr of /24 or larger and up to 16 zones, got {cidr} and {count}; change them.")
    return [str(part) for part in list(whole.subnets(4))[:count]]


def _roles(cluster: str) -> dict[str, str]:
    """The tags by which load-balancer controllers find the subnets."""
    return {"kubernetes.io/role/elb": "1", f"kubernetes.io/cluster/{cluster}": "shared"}


def _touched(action: str) -> str:
    return "changed" if action == "unchanged" else action


def _tagged(kind: str, tags: dict[str, str]) -> dict:
    return {"TagSpecifications": [{"ResourceType": kind, "Tags": tag_list(tags)}]}


def _all(describe, key: str, tags: dict[str, str]) -> list[dict]:
    return describe(Filters=[{"Name": f"tag:{name}", "Values": [value]} for name, value in tags.items()])[key]


def _one(describe, key: str, tags: dict[str, str]) -> dict | None:
    found = _all(describe, key, tags)
    if len(found) > 1:
        raise AwsError(f"expected one of {key} with the tags {tags}, got {len(found)}; delete those that are not used.")
    return found[0] if found else None
