"""An account with a cluster: what the runbook made, what Kubernetes made for it, and what is somebody else's."""

from __future__ import annotations

from functools import lru_cache

import boto3
from moto.core import models

from lib import names
from lib.aws import clusters as aws_clusters
from lib.aws import iam_roles, launch_template, node_groups
from lib.aws import session as aws_session
from lib.aws import tags as aws_tags
from lib.aws import vpc as aws_vpc
from lib.steps import cluster as steps_cluster
from sandbox.iam import moto_memory

NAME = "demo"
POLICY = '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}'
TAGS = names.tags(NAME)

models.RESPONSES_METHODS.clear()  # else mock_aws makes 1,288 rules each time, for the package requests alone


def session(
    access_key: str = "AKIAEXAMPLE", secret: str = "secret", token: str | None = None, region_name: str = "us-east-1"
) -> boto3.Session:
    """Return a new session, as boto3.Session does; its clients share the models that one before it has read."""
    moto_memory.keep()
    return boto3.Session(access_key, secret, token, region_name)


client = lru_cache(64)(aws_session.client)  # one a session and service: they take a while to make


def tagged(kind: str, tags: dict[str, str]) -> dict:
    return {"TagSpecifications": [{"ResourceType": kind, "Tags": aws_tags.tag_list(tags)}]}


def build(session) -> dict:
    """Make what step 01 makes; return the network."""
    iam, ec2, service = (client(session, name) for name in ("iam", "ec2", "eks"))
    known = [policy["Arn"] for policy in iam.list_policies(Scope="Local")["Policies"]]
    policies = known or [iam.create_policy(PolicyName="p", PolicyDocument=POLICY)["Policy"]["Arn"]]
    arns = [
        iam_roles.ensure_role(iam, name, who, policies, TAGS)[0]["Arn"]
        for name, (who, _) in steps_cluster.cluster_roles(NAME).items()
    ]
    net, _ = aws_vpc.ensure_network(ec2, NAME, "10.0.0.0/16", TAGS, nat="single")
    aws_clusters.ensure_cluster(service, NAME, "1.36", arns[0], net["subnet_ids"], TAGS)
    name = steps_cluster.template_name(NAME)
    template, _ = launch_template.ensure_template(
        ec2, name, launch_template.template_data(20, node_groups.DEFAULT_AMI_TYPE, name, TAGS), TAGS
    )
    about = (arns[1], net["subnet_ids"], node_groups.NodeGroupConfig(["m5.large"], 2), TAGS)
    node_groups.ensure_node_group(service, NAME, steps_cluster.NODE_GROUP, *about, template=template)
    return net


def made_by_kubernetes(session, net: dict, cluster: str = NAME) -> None:
    """Make two load balancers with target groups (one by each controller), groups that name each other, a volume."""
    elbv2, ec2 = client(session, "elbv2"), client(session, "ec2")
    in_tree, controller = {f"kubernetes.io/cluster/{cluster}": "owned"}, {"elbv2.k8s.aws/cluster": cluster}
    for name, tags in (("in-tree", in_tree), ("by-lbc", controller)):
        about = {"Name": f"{name}-{cluster}", "Tags": aws_tags.tag_list(tags)}
        balancer = elbv2.create_load_balancer(**about, Type="network", Subnets=net["subnet_ids"])["LoadBalancers"][0]
        group = elbv2.create_target_group(**about, Protocol="TCP", Port=80, VpcId=net["vpc_id"])["TargetGroups"][0]
        action = {"Type": "forward", "TargetGroupArn": group["TargetGroupArn"]}
        arn = balancer["LoadBalancerArn"]
        elbv2.create_listener(LoadBalancerArn=arn, Protocol="TCP", Port=80, DefaultActions=[action])
    groups = [
        ec2.create_security_group(
            GroupName=f"{name}-{cluster}", Description=name, VpcId=net["vpc_id"], **tagged("security-group", tags)
        )["GroupId"]
        for name, tags in (("k8s-elb", in_tree), ("k8s-traffic", controller))
    ]
    for one, other in (groups, groups[::-1]):
        pairs = [{"GroupId": other}]
        rule = {"IpProtocol": "tcp", "FromPort": 1, "ToPort": 9, "UserIdGroupPairs": pairs}
        ec2.authorize_security_group_ingress(GroupId=one, IpPermissions=[rule])
    ec2.create_volume(AvailabilityZone="us-east-1a", Size=1, **tagged("volume", in_tree))
    ec2.create_network_interface(
        SubnetId=net["subnet_ids"][0], **tagged("network-interface", {"cluster.k8s.amazonaws.com/name": cluster})
    )


def foreign(session) -> dict:
    """Create similar resources with other tags; return them."""
    ec2 = client(session, "ec2")
    tags = {"Project": "another", "Cluster": NAME}
    vpc = ec2.create_vpc(CidrBlock="10.9.0.0/16", **tagged("vpc", tags))["Vpc"]["VpcId"]
    subnets = [
        ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.9.{n}.0/24", AvailabilityZone=f"us-east-1{zone}",
                          **tagged("subnet", {f"kubernetes.io/cluster/{NAME}": "shared"}))["Subnet"]["SubnetId"]
        for n, zone in enumerate("ab")
    ]  # fmt: skip
    net = {"vpc_id": vpc, "subnet_ids": subnets}
    made_by_kubernetes(session, net, cluster="other")
    client(session, "iam").create_role(RoleName="other-cluster", AssumeRolePolicyDocument="{}")
    return net


def everything(session) -> dict[str, set]:
    """Return the ids of all there is in the account, by kind."""
    ec2, elbv2 = client(session, "ec2"), client(session, "elbv2")
    subnets = {one["SubnetId"] for one in ec2.describe_subnets()["Subnets"]}
    return {
        "balancers": {one["LoadBalancerArn"] for one in elbv2.describe_load_balancers()["LoadBalancers"]},
        "target groups": {one["TargetGroupArn"] for one in elbv2.describe_target_groups()["TargetGroups"]},
        "groups": {one["GroupId"] for one in ec2.describe_security_groups()["SecurityGroups"]},
        "volumes": {one["VolumeId"] for one in ec2.describe_volumes()["Volumes"]},
        "interfaces": {  # moto leaves that of a NAT gateway, in a subnet that is gone
            one["NetworkInterfaceId"]
            for one in ec2.describe_network_interfaces()["NetworkInterfaces"]
            if one["SubnetId"] in subnets
        },
        "vpcs": {one["VpcId"] for one in ec2.describe_vpcs()["Vpcs"]},
        "subnets": subnets,
        "tables": {one["RouteTableId"] for one in ec2.describe_route_tables()["RouteTables"]},
        "addresses": {one["AllocationId"] for one in ec2.describe_addresses()["Addresses"]},
        "nat": {one["NatGatewayId"] for one in ec2.describe_nat_gateways()["NatGateways"] if one["State"] != "deleted"},
        "gateways": {one["InternetGatewayId"] for one in ec2.describe_internet_gateways()["InternetGateways"]},
        "templates": {one["LaunchTemplateId"] for one in ec2.describe_launch_templates()["LaunchTemplates"]},
        "roles": {one["RoleName"] for one in client(session, "iam").list_roles()["Roles"]},
        "clusters": set(client(session, "eks").list_clusters()["clusters"]),
    }
