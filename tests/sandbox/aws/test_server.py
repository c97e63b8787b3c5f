"""The sandbox's AWS account by boto3: its administrator, IAM, EC2, S3."""

import socket
import ssl
import stat
import urllib.request

import pytest

from sandbox.aws import server
from sandbox.node import certificates

LINK = "127.0.0.2"  # stands for this machine's address on a link


def test_the_first_administrator(world):
    who = world.client("sts").get_caller_identity()
    assert who["Arn"] == "arn:aws:iam::123456789012:user/admin"
    assert stat.S_IMODE(world.credentials.stat().st_mode) == 0o600
    assert [path.name for path in world.credentials.parent.iterdir()] == ["credentials"]
    secret = world.session.get_credentials().secret_key
    assert secret not in "".join(world.lines) + world.calls_log.read_text()


def test_iam_has_the_managed_policies(world):
    world.client("iam").create_role(RoleName="c", AssumeRolePolicyDocument='{"Statement": []}')
    for policy in ("AmazonEKSClusterPolicy", "AmazonEKSWorkerNodePolicy", "AmazonEC2ContainerRegistryReadOnly"):
        world.client("iam").attach_role_policy(RoleName="c", PolicyArn=f"arn:aws:iam::aws:policy/{policy}")
    attached = world.client("iam").list_attached_role_policies(RoleName="c")["AttachedPolicies"]
    assert len(attached) == 3


def test_a_network_can_be_made(world):
    ec2 = world.client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    zones = ("us-east-1a", "us-east-1b")
    made = [ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.0.{i}.0/24", AvailabilityZone=z) for i, z in enumerate(zones)]
    subnets = [subnet["Subnet"]["SubnetId"] for subnet in made]
    gateway = ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
    ec2.attach_internet_gateway(InternetGatewayId=gateway, VpcId=vpc)
    table = ec2.create_route_table(VpcId=vpc)["RouteTable"]["RouteTableId"]
    ec2.create_route(RouteTableId=table, DestinationCidrBlock="0.0.0.0/0", GatewayId=gateway)
    ec2.associate_route_table(RouteTableId=table, SubnetId=subnets[0])
    assert world.cluster(resourcesVpcConfig={"subnetIds": subnets})["resourcesVpcConfig"]["vpcId"] == vpc


def test_s3_keeps_what_it_gets_under_any_name(world):
    s3 = world.client("s3")
    s3.create_bucket(Bucket="records")
    for key in ("plain", "a folder/ü+%.txt"):
        s3.put_object(Bucket="records", Key=key, Body=b"content")
        assert s3.get_object(Bucket="records", Key=key)["Body"].read() == b"content"
    assert s3.list_objects_v2(Bucket="records", Prefix="a folder/")["KeyCount"] == 1


def test_a_port_in_use_is_an_error_that_names_it(world, tmp_path):
    with pytest.raises(server.EndpointFailed, match=f"expected to open 127.0.0.1:{world.server.port}"):
        server.serve(world.server.port, world.make_node, tmp_path / "other", "1.36")


def test_pods_reach_the_endpoint_by_tls_on_their_link_until_the_node_ends(world, tmp_path):
    ca = certificates.authority(tmp_path, "ca", "a cluster")
    close = world.active().open_aws(LINK, *ca.issue("aws", "aws", hosts=(LINK,)))
    place = LINK, world.server.port
    url, context = f"https://{LINK}:{world.server.port}", ssl.create_default_context(cafile=str(tmp_path / "ca.crt"))
    with socket.create_connection(place), socket.create_connection(place) as plain:  # the first is silent
        sts = world.session.client("sts", endpoint_url=url, verify=str(tmp_path / "ca.crt"))
        assert sts.get_caller_identity()["Arn"].endswith("user/admin")
        plain.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert not plain.recv(100).startswith(b"HTTP")
    for headers in ({}, {"Host": f"127.0.0.1:{world.server.port}"}):  # what anybody may see is for loopback alone
        asked = urllib.request.Request(f"{url}/_sandbox/clusters", headers=headers)
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(asked, context=context, timeout=5)
    close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(place)
    assert not any("Traceback" in line for line in world.lines)
