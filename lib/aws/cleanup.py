"""What is in the account of a cluster: what Kubernetes made there by itself, by the cluster's tags, and what we made.

Kubernetes tags what it makes: load balancers, their target groups and security groups, volumes, nodes' interfaces. So
what is left of them is found when the cluster is long gone. The runbook's own objects have tags of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from botocore.exceptions import ClientError

from lib.aws import nat_gateways
from lib.aws.session import aws_errors, paginate
from lib.aws.tags import tag_dict
from lib.polling import until, wait

PAUSE = 2  # seconds between two looks: load balancers go within minutes
BATCH = 20  # load balancers whose tags are told at once, at most
LOAD_BALANCER, TARGET_GROUP, SECURITY_GROUP = "load balancer", "target group", "security group"
INTERFACE, VOLUME = "network interface", "volume"
LOAD_BALANCER_INTERFACE = "ELB *"  # how AWS describes the interfaces of load balancers, which it deletes itself
OWNED_KINDS = {  # what the runbook makes in EC2, by kind: what lists it, under which key, and its id
    "vpc": ("describe_vpcs", "Vpcs", "VpcId"),
    "subnet": ("describe_subnets", "Subnets", "SubnetId"),
    "internet gateway": ("describe_internet_gateways", "InternetGateways", "InternetGatewayId"),
    "route table": ("describe_route_tables", "RouteTables", "RouteTableId"),
    "nat gateway": ("describe_nat_gateways", "NatGateways", "NatGatewayId"),
    "address": ("describe_addresses", "Addresses", "AllocationId"),
    "launch template": ("describe_launch_templates", "LaunchTemplates", "LaunchTemplateId"),
}


@dataclass(frozen=True)
class AccountObject:
    """One object of the account: what it is, its id or ARN, and a name or state that tells more."""

    kind: str
    id: str
    name: str = ""


def ownership_tags(cluster: str) -> dict[str, str]:
    """Return the tags of which Kubernetes and the AWS Load Balancer Controller put one on what they make."""
    return {f"kubernetes.io/cluster/{cluster}": "owned", "elbv2.k8s.aws/cluster": cluster}


@aws_errors()
def load_balancers(elbv2, cluster: str) -> list[AccountObject]:
    """Return the load balancers that were made for the cluster's Services."""
    made = paginate(elbv2, "describe_load_balancers", "LoadBalancers")
    return _marked(
        elbv2, cluster, [AccountObject(LOAD_BALANCER, one["LoadBalancerArn"], one["LoadBalancerName"]) for one in made]
    )


@aws_errors()
def target_groups(elbv2, cluster: str) -> list[AccountObject]:
    """Return the target groups that were made for the cluster's Services."""
    made = paginate(elbv2, "describe_target_groups", "TargetGroups")
    return _marked(
        elbv2, cluster, [AccountObject(TARGET_GROUP, one["TargetGroupArn"], one["TargetGroupName"]) for one in made]
    )


@aws_errors()
def security_groups(ec2, cluster: str, of_eks: bool = True) -> list[AccountObject]:
    """Return the security groups that were made for the cluster, with or without the one that EKS itself deletes."""
    found = {}
    for key, value in ownership_tags(cluster).items():
        for one in _pages(ec2, "describe_security_groups", "SecurityGroups", {f"tag:{key}": value}):
            if of_eks or not one["GroupName"].startswith(f"eks-cluster-sg-{cluster}"):
                found[one["GroupId"]] = AccountObject(SECURITY_GROUP, one["GroupId"], one["GroupName"])
    return list(found.values())


@aws_errors()
def volumes(ec2, cluster: str) -> list[AccountObject]:
    """Return the volumes that were made for the cluster's claims, with their state."""
    wanted = {f"tag:kubernetes.io/cluster/{cluster}": "owned"}
    found = _pages(ec2, "describe_volumes", "Volumes", wanted)
    return [AccountObject(VOLUME, one["VolumeId"], one["State"]) for one in found]


@aws_errors()
def interfaces(ec2, cluster: str, tags: dict[str, str]) -> list[AccountObject]:
    """Return the interfaces that the cluster's pods had, and those of load balancers, which AWS itself deletes.

    The latter are those in the VPC with `tags`, or in a security group that was made for the cluster.
    """
    found = _pages(
        ec2, "describe_network_interfaces", "NetworkInterfaces", {"tag:cluster.k8s.amazonaws.com/name": cluster}
    )
    for vpc in _pages(ec2, "describe_vpcs", "Vpcs", {f"tag:{key}": value for key, value in tags.items()}):
        wanted = {"vpc-id": vpc["VpcId"], "description": LOAD_BALANCER_INTERFACE}
        found += _pages(ec2, "describe_network_interfaces", "NetworkInterfaces", wanted)
    if groups := [one.id for one in security_groups(ec2, cluster)]:  # in a VPC that was there before
        wanted = [{"Name": "group-id", "Values": groups}, {"Name": "description", "Values": [LOAD_BALANCER_INTERFACE]}]
        found += _each(ec2, "describe_network_interfaces", "NetworkInterfaces", wanted)
    found = {one["NetworkInterfaceId"]: one for one in found}.values()
    return [AccountObject(INTERFACE, one["NetworkInterfaceId"], one.get("Description", "")) for one in found]


@aws_errors()
def owned_objects(ec2, tags: dict[str, str]) -> list[AccountObject]:
    """Return what has all of `tags` in EC2: the network, and what the nodes start from."""
    wanted, found = {f"tag:{key}": value for key, value in tags.items()}, []
    for kind, (describe, key, identity) in OWNED_KINDS.items():
        for one in _pages(ec2, describe, key, wanted):
            named = tag_dict(one.get("Tags", []))
            if one.get("State") not in nat_gateways.ENDED and tags.items() <= named.items():
                found.append(AccountObject(kind, one[identity], named.get("Name", "")))
    return found


@aws_errors()
def identity_providers(iam, tags: dict[str, str]) -> list[AccountObject]:
    """Return the identity providers (OIDC) with all of `tags`."""
    arns = [one["Arn"] for one in iam.list_open_id_connect_providers()["OpenIDConnectProviderList"]]
    known = {arn: iam.get_open_id_connect_provider(OpenIDConnectProviderArn=arn) for arn in arns}
    return [
        AccountObject("identity provider", arn, one["Url"])
        for arn, one in known.items()
        if tags.items() <= tag_dict(one.get("Tags", [])).items()
    ]


@aws_errors()
def log_groups(logs, cluster: str) -> list[AccountObject]:
    """Return the log group of the cluster's control plane, if there is one."""
    name = f"/aws/eks/{cluster}/cluster"
    found = logs.describe_log_groups(logGroupNamePrefix=name)["logGroups"]
    return [AccountObject("log group", one["logGroupName"]) for one in found if one["logGroupName"] == name]


def wait_deleted(look: Callable[[], list[AccountObject]], what: str, deadline: float, **options) -> list[AccountObject]:
    """Return what is still there once nothing is, or after `deadline` seconds."""
    answer = until(look, lambda left: not left, what=what, deadline=deadline, **{"pause": PAUSE, **options})
    return answer.value or []


@aws_errors()
def delete_load_balancers(elbv2, cluster: str, deadline: float, **options) -> list[AccountObject]:
    """Delete the cluster's load balancers, then their target groups; return what was deleted."""
    doomed = load_balancers(elbv2, cluster)
    for one in doomed:
        _unless_gone(elbv2.delete_load_balancer, LoadBalancerArn=one.id)
    wait(
        "the load balancers gone", lambda: load_balancers(elbv2, cluster), lambda left: not left, deadline=deadline,
        fix="is one protected from deletion? see it in the AWS console", **{"pause": PAUSE, **options},
    )  # fmt: skip
    groups = target_groups(elbv2, cluster)
    for one in groups:
        _unless_gone(elbv2.delete_target_group, TargetGroupArn=one.id)
    return [*doomed, *groups]


@aws_errors()
def delete_leftovers(ec2, cluster: str, tags: dict[str, str], deadline: float, **options) -> list[AccountObject]:
    """Delete volumes, interfaces and security groups of a cluster that is gone; return what was deleted.

    Load balancers' interfaces are waited for. What is still in use is left, and the inventory tells of it.
    """
    wait_deleted(lambda: _of_balancers(ec2, cluster, tags), "load balancers' interfaces gone", deadline, **options)
    done = [one for one in volumes(ec2, cluster) if one.name == "available"]
    for one in done:
        _unless_gone(ec2.delete_volume, VolumeId=one.id)
    for one in _pages(
        ec2, "describe_network_interfaces", "NetworkInterfaces",
        {"tag:cluster.k8s.amazonaws.com/name": cluster, "status": "available"},
    ):  # fmt: skip
        _unless_gone(ec2.delete_network_interface, NetworkInterfaceId=one["NetworkInterfaceId"])
        done.append(AccountObject(INTERFACE, one["NetworkInterfaceId"], one.get("Description", "")))
    groups = security_groups(ec2, cluster)
    for one in groups:  # they name each other, and could not be deleted in any order
        _forget_rules(ec2, one.id)
    for one in groups:
        _unless_gone(ec2.delete_security_group, GroupId=one.id)
    return [*done, *groups]


def _of_balancers(ec2, cluster: str, tags: dict[str, str]) -> list[AccountObject]:
    return [one for one in interfaces(ec2, cluster, tags) if one.name.startswith(LOAD_BALANCER_INTERFACE[:-1])]


def _forget_rules(ec2, group_id: str) -> None:
    for group in ec2.describe_security_groups(GroupIds=[group_id])["SecurityGroups"]:
        if group["IpPermissions"]:
            ec2.revoke_security_group_ingress(GroupId=group_id, IpPermissions=group["IpPermissions"])


def _marked(elbv2, cluster: str, things: list[AccountObject]) -> list[AccountObject]:
    """Those that carry one of the cluster's marks: elbv2 has no filter for tags."""
    wanted, kept = ownership_tags(cluster).items(), set()
    for start in range(0, len(things), BATCH):
        asked = [one.id for one in things[start : start + BATCH]]
        for one in elbv2.describe_tags(ResourceArns=asked)["TagDescriptions"]:
            if wanted & tag_dict(one["Tags"]).items():
                kept.add(one["ResourceArn"])
    return [one for one in things if one.id in kept]


def _pages(ec2, describe: str, key: str, filters: dict[str, str]) -> list[dict]:
    return _each(ec2, describe, key, [{"Name": name, "Values": [value]} for name, value in filters.items()])


def _each(ec2, describe: str, key: str, filters: list[dict]) -> list[dict]:
    return paginate(ec2, describe, key, **{"Filter" if describe == "describe_nat_gateways" else "Filters": filters})


def _unless_gone(delete: Callable, **what) -> None:
    """Delete what may have gone since it was looked at: its maker may be deleting it too."""
    try:
        delete(**what)
    except ClientError as error:
        if "NotFound" not in error.response["Error"]["Code"]:
            raise
