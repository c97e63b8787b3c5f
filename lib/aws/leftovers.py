"""What a cluster leaves in the account: objects that Kubernetes created there, and the runbook's own.

Kubernetes tags load balancers, target groups, security groups, volumes and the nodes' network interfaces. So they can
be found even if the cluster is gone. The runbook's own objects carry the runbook's tags.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from lib.aws import nat_gateways
from lib.aws.session import aws_errors, error_code, paginate
from lib.aws.tags import Tags, has_tags, tag_dict
from lib.polling import until, wait

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client
    from mypy_boto3_elbv2 import ElasticLoadBalancingv2Client
    from mypy_boto3_iam import IAMClient

PAUSE = 2  # seconds between two reads: AWS deletes load balancers within minutes
BATCH = 20  # load balancers in one DescribeTags request, the API's limit
LOAD_BALANCER, TARGET_GROUP, SECURITY_GROUP = "load balancer", "target group", "security group"
INTERFACE, VOLUME = "network interface", "volume"
LOAD_BALANCER_INTERFACE = "ELB *"  # the description of load balancers' interfaces, which AWS itself deletes
OWNED_KINDS = {  # EC2 objects of the runbook: describe method, key of its list, key of the id
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
    """One object of the account: its kind, its id or ARN, and a name or state."""

    kind: str
    id: str
    name: str = ""


def ownership_tags(cluster: str) -> Tags:
    """Return the tags of Kubernetes and of the AWS Load Balancer Controller; an object of the cluster has one."""
    return {f"kubernetes.io/cluster/{cluster}": "owned", "elbv2.k8s.aws/cluster": cluster}


@aws_errors()
def load_balancers(elbv2: ElasticLoadBalancingv2Client, cluster: str) -> list[AccountObject]:
    """Return the load balancers of the cluster's Services."""
    found = [
        AccountObject(LOAD_BALANCER, item["LoadBalancerArn"], item["LoadBalancerName"])
        for item in paginate(elbv2, "describe_load_balancers", "LoadBalancers")
    ]
    return _of_cluster(elbv2, cluster, found)


@aws_errors()
def target_groups(elbv2: ElasticLoadBalancingv2Client, cluster: str) -> list[AccountObject]:
    """Return the target groups of the cluster's Services."""
    found = [
        AccountObject(TARGET_GROUP, item["TargetGroupArn"], item["TargetGroupName"])
        for item in paginate(elbv2, "describe_target_groups", "TargetGroups")
    ]
    return _of_cluster(elbv2, cluster, found)


@aws_errors()
def security_groups(ec2: EC2Client, cluster: str, of_eks: bool = True) -> list[AccountObject]:
    """Return the cluster's security groups, with or without the one that EKS itself deletes."""
    found = {}
    for key, value in ownership_tags(cluster).items():
        for item in _describe(ec2, "describe_security_groups", "SecurityGroups", {f"tag:{key}": value}):
            if of_eks or not item["GroupName"].startswith(f"eks-cluster-sg-{cluster}"):
                found[item["GroupId"]] = AccountObject(SECURITY_GROUP, item["GroupId"], item["GroupName"])
    return list(found.values())


@aws_errors()
def volumes(ec2: EC2Client, cluster: str) -> list[AccountObject]:
    """Return the volumes of the cluster's claims, with their state."""
    found = _describe(ec2, "describe_volumes", "Volumes", {f"tag:kubernetes.io/cluster/{cluster}": "owned"})
    return [AccountObject(VOLUME, item["VolumeId"], item["State"]) for item in found]


@aws_errors()
def interfaces(ec2: EC2Client, cluster: str, tags: Tags) -> list[AccountObject]:
    """Return the network interfaces of the cluster's pods, and those of load balancers.

    AWS itself deletes the load balancers' interfaces; they are in the VPC with `tags`, or in one of the cluster's
    security groups if the VPC is not the runbook's.
    """
    describe, key = "describe_network_interfaces", "NetworkInterfaces"
    found = _describe(ec2, describe, key, {"tag:cluster.k8s.amazonaws.com/name": cluster})
    for vpc in _describe(ec2, "describe_vpcs", "Vpcs", _tag_filters(tags)):
        found += _describe(ec2, describe, key, {"vpc-id": vpc["VpcId"], "description": LOAD_BALANCER_INTERFACE})
    if groups := [group.id for group in security_groups(ec2, cluster)]:
        found += _describe(ec2, describe, key, {"group-id": groups, "description": LOAD_BALANCER_INTERFACE})
    unique = {item["NetworkInterfaceId"]: item for item in found}.values()
    return [AccountObject(INTERFACE, item["NetworkInterfaceId"], item.get("Description", "")) for item in unique]


@aws_errors()
def owned_objects(ec2: EC2Client, tags: Tags) -> list[AccountObject]:
    """Return the EC2 objects that have all of `tags`: the network and the launch template."""
    found = []
    for kind, (describe, key, identity) in OWNED_KINDS.items():
        for item in _describe(ec2, describe, key, _tag_filters(tags)):
            if item.get("State") not in nat_gateways.ENDED and has_tags(item, tags):
                found.append(AccountObject(kind, item[identity], tag_dict(item.get("Tags", [])).get("Name", "")))
    return found


@aws_errors()
def identity_providers(iam: IAMClient, tags: Tags) -> list[AccountObject]:
    """Return the OpenID Connect identity providers that have all of `tags`."""
    arns = [provider["Arn"] for provider in iam.list_open_id_connect_providers()["OpenIDConnectProviderList"]]
    providers = {arn: iam.get_open_id_connect_provider(OpenIDConnectProviderArn=arn) for arn in arns}
    return [
        AccountObject("identity provider", arn, provider["Url"])
        for arn, provider in providers.items()
        if has_tags(provider, tags)
    ]


@aws_errors()
def log_groups(logs: Any, cluster: str) -> list[AccountObject]:
    """Return the log group of the cluster's control plane, if it exists; `logs` is boto3's CloudWatch Logs client."""
    name = f"/aws/eks/{cluster}/cluster"
    found = [group["logGroupName"] for group in logs.describe_log_groups(logGroupNamePrefix=name)["logGroups"]]
    return [AccountObject("log group", name)] if name in found else []


def wait_deleted(
    read: Callable[[], list[AccountObject]], what: str, deadline: float, **options: Any
) -> list[AccountObject]:
    """Return what `read` still finds: nothing, or the rest after `deadline` seconds."""
    answer = until(read, lambda found: not found, what=what, deadline=deadline, **{"pause": PAUSE, **options})
    return answer.value or []


@aws_errors()
def delete_load_balancers(
    elbv2: ElasticLoadBalancingv2Client, cluster: str, deadline: float, **options: Any
) -> list[AccountObject]:
    """Delete the cluster's load balancers, wait until they are gone, then delete their target groups.

    Returns what was deleted; TimedOut after `deadline` seconds.
    """
    balancers = load_balancers(elbv2, cluster)
    for balancer in balancers:
        _delete(elbv2.delete_load_balancer, LoadBalancerArn=balancer.id)
    wait(
        "the load balancers gone", lambda: load_balancers(elbv2, cluster), lambda found: not found, deadline=deadline,
        fix="see in the AWS console whether one has deletion protection", **{"pause": PAUSE, **options},
    )  # fmt: skip
    groups = target_groups(elbv2, cluster)
    for group in groups:
        _delete(elbv2.delete_target_group, TargetGroupArn=group.id)
    return [*balancers, *groups]


@aws_errors()
def delete_leftovers(ec2: EC2Client, cluster: str, tags: Tags, deadline: float, **options: Any) -> list[AccountObject]:
    """Delete volumes, interfaces and security groups of a deleted cluster; return what was deleted.

    Waits until AWS has deleted the load balancers' interfaces. Objects in use stay, and the inventory lists them.
    """
    wait_deleted(
        lambda: _load_balancer_interfaces(ec2, cluster, tags), "load balancers' interfaces gone", deadline, **options
    )
    deleted = [volume for volume in volumes(ec2, cluster) if volume.name == "available"]
    for volume in deleted:
        _delete(ec2.delete_volume, VolumeId=volume.id)
    filters: dict[str, str | list[str]] = {"tag:cluster.k8s.amazonaws.com/name": cluster, "status": "available"}
    for item in _describe(ec2, "describe_network_interfaces", "NetworkInterfaces", filters):
        _delete(ec2.delete_network_interface, NetworkInterfaceId=item["NetworkInterfaceId"])
        deleted.append(AccountObject(INTERFACE, item["NetworkInterfaceId"], item.get("Description", "")))
    groups = security_groups(ec2, cluster)
    for group in groups:  # their rules name each other, so no order of deletion would work
        _revoke_rules(ec2, group.id)
    for group in groups:
        _delete(ec2.delete_security_group, GroupId=group.id)
    return [*deleted, *groups]


def _load_balancer_interfaces(ec2: EC2Client, cluster: str, tags: Tags) -> list[AccountObject]:
    prefix = LOAD_BALANCER_INTERFACE.removesuffix("*")
    return [interface for interface in interfaces(ec2, cluster, tags) if interface.name.startswith(prefix)]


def _revoke_rules(ec2: EC2Client, group_id: str) -> None:
    for group in ec2.describe_security_groups(GroupIds=[group_id])["SecurityGroups"]:
        if group["IpPermissions"]:
            ec2.revoke_security_group_ingress(GroupId=group_id, IpPermissions=group["IpPermissions"])


def _of_cluster(elbv2: ElasticLoadBalancingv2Client, cluster: str, objects: list[AccountObject]) -> list[AccountObject]:
    """Return the objects that have one of the cluster's tags: elbv2 has no filter for tags."""
    wanted, tagged = ownership_tags(cluster).items(), set()
    for start in range(0, len(objects), BATCH):
        arns = [item.id for item in objects[start : start + BATCH]]
        for description in elbv2.describe_tags(ResourceArns=arns)["TagDescriptions"]:
            if wanted & tag_dict(description["Tags"]).items():
                tagged.add(description["ResourceArn"])
    return [item for item in objects if item.id in tagged]


def _tag_filters(tags: Tags) -> dict[str, str | list[str]]:
    return {f"tag:{key}": value for key, value in tags.items()}


def _describe(ec2: EC2Client, describe: str, key: str, filters: dict[str, str | list[str]]) -> list[dict[str, Any]]:
    parameter = "Filter" if describe == "describe_nat_gateways" else "Filters"
    values = [{"Name": name, "Values": [value] if isinstance(value, str) else value} for name, value in filters.items()]
    return paginate(ec2, describe, key, **{parameter: values})


def _delete(delete: Callable[..., Any], **request: str) -> None:
    """Delete an object that its creator may be deleting at this moment: a missing object is no error."""
    try:
        delete(**request)
    except ClientError as error:
        if "NotFound" not in error_code(error):
            raise
