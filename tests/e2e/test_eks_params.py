"""params/eks.yml as it stands, on the sandbox's endpoint: a run from an empty account to green, and back to empty."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import yaml

from lib import names, params
from lib.aws import session as aws_session
from lib.runner import order
from tests.support.runbook import ROOT, python, rows

pytestmark = pytest.mark.sandbox

NAME = "eks-here"
# What else is not as in a real account: Istio is the sandbox's build, whose Envoy lacks three filters of Istio's own.
BUILD = ("istio_hub", "istio_tag", "istio_settings", "istioctl", "aws_endpoint_url")


@pytest.fixture(scope="module")
def eks(first):
    """The environment's name, and what its commands need: credentials come as on AWS, not by the params."""
    stated = {name: yaml.safe_load((ROOT / "params" / f"{name}.yml").read_text()) for name in ("eks", "dev")}
    changed = {key: stated["dev"][key] for key in BUILD}
    file = ROOT / "params" / f"{NAME}.yml"
    file.write_text(yaml.safe_dump({**stated["eks"], **changed, "env": NAME}))
    here = params.load("dev")
    credentials = str(Path(here.aws_credentials_file).expanduser())
    yield {"AWS_PROFILE": here.aws_profile, "AWS_SHARED_CREDENTIALS_FILE": credentials}
    file.unlink()
    shutil.rmtree(ROOT / "outputs" / NAME, ignore_errors=True)


def lib(command: str, known: dict[str, str], *words: str) -> Path:
    """Run a command to its green end; return the bundle that it leaves."""
    done = python("-m", "lib", command, "--env", NAME, *words, limit=1500, **known)
    assert done.returncode == 0
    return ROOT / re.search(rf"(outputs/{NAME}/\S+)/index.html", done.stdout).group(1)


def test_the_plan_of_an_empty_account_is_told_and_changes_nothing(eks):
    done = python("-m", "lib", "plan", "--env", NAME, **eks)
    assert done.returncode == 0 and "to create" in done.stdout and "nothing costs anything" in done.stdout
    assert service(eks).list_clusters()["clusters"] == ["runbook"]


def test_a_step_before_its_time_names_the_one_to_run_and_makes_nothing(eks):
    done = python("-m", "lib", "run", "--env", NAME, "--only", "12", **eks)
    assert done.returncode == 2 and "run 01-cluster first" in done.stdout
    assert service(eks).list_clusters()["clusters"] == ["runbook"]


def test_an_empty_account_becomes_green(eks):
    bundle = lib("run", eks)
    about = json.loads((bundle / "run.json").read_text())
    assert about["verdict"] == "pass" and len(about["steps"]) == len(order.numbered(ROOT / "notebooks"))
    asked = [row for row in rows(bundle, "responses.csv") if row["figure"].startswith("figure") and not row["probe"]]
    got = {(row["figure"], row["caller"], row["token"]): int(row["got"]) for row in asked}
    assert got["figure-2", "sleep", "none"] == 403 and got["figure-1", "sleep", "none"] == 200
    assert sorted(service(eks).list_clusters()["clusters"]) == [params.load("eks").cluster_name, "runbook"]


def test_a_run_that_is_repeated_adopts_what_is_there(eks):
    bundle = lib("run", eks, "--only", "01")
    assert {row["action"] for row in rows(bundle, "changes.csv")} == {"unchanged"}


def test_and_empty_again_beside_the_other_cluster(eks):
    bundle = lib("clean-up", eks)
    (check,) = [row for row in rows(bundle, "checks.csv") if row["name"] == "nothing is left"]
    assert check["verdict"] == "pass"
    assert service(eks).list_clusters()["clusters"] == ["runbook"]
    tags = [
        {"Name": f"tag:{key}", "Values": [value]} for key, value in names.tags(params.load("eks").cluster_name).items()
    ]
    assert service(eks, "ec2").describe_vpcs(Filters=tags)["Vpcs"] == []


@pytest.fixture
def subnets(eks):
    """Two subnets of a VPC that somebody else made, open to the Internet and marked for load balancers."""
    ec2 = service(eks, "ec2")
    home = ec2.create_vpc(CidrBlock="172.20.0.0/16")["Vpc"]["VpcId"]
    ec2.modify_vpc_attribute(VpcId=home, EnableDnsHostnames={"Value": True})
    way = ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
    ec2.attach_internet_gateway(InternetGatewayId=way, VpcId=home)
    table = ec2.describe_route_tables(Filters=[{"Name": "vpc-id", "Values": [home]}])["RouteTables"][0]["RouteTableId"]
    ec2.create_route(RouteTableId=table, DestinationCidrBlock="0.0.0.0/0", GatewayId=way)
    made = []
    for zone, block in (("a", "172.20.1.0/24"), ("b", "172.20.2.0/24")):
        about = {"VpcId": home, "CidrBlock": block, "AvailabilityZone": f"{params.load('eks').region}{zone}"}
        made.append(ec2.create_subnet(**about)["Subnet"]["SubnetId"])
        ec2.modify_subnet_attribute(SubnetId=made[-1], MapPublicIpOnLaunch={"Value": True})
    ec2.create_tags(Resources=made, Tags=[{"Key": "kubernetes.io/role/elb", "Value": "1"}])
    yield made
    for one in made:
        ec2.delete_subnet(SubnetId=one)
    ec2.detach_internet_gateway(InternetGatewayId=way, VpcId=home)
    ec2.delete_internet_gateway(InternetGatewayId=way)
    ec2.delete_vpc(VpcId=home)


def test_a_cluster_goes_into_subnets_that_are_there_and_leaves_them_as_they_were(eks, subnets):
    file = ROOT / "params" / f"{NAME}.yml"
    file.write_text(yaml.safe_dump({**yaml.safe_load(file.read_text()), "subnet_ids": subnets}))
    name, ec2 = params.load("eks").cluster_name, service(eks, "ec2")
    before = ec2.describe_subnets(SubnetIds=subnets)["Subnets"], len(ec2.describe_vpcs()["Vpcs"])
    changes = rows(lib("run", eks, "--only", "01"), "changes.csv")
    made = {row["kind"] for row in changes if row["action"] != "unchanged"}
    assert {"cluster", "node group"} <= made and not {"VPC", "subnet", "internet gateway", "route table"} & made
    cluster = service(eks).describe_cluster(name=name)["cluster"]
    assert sorted(cluster["resourcesVpcConfig"]["subnetIds"]) == sorted(subnets)
    lib("clean-up", eks)
    assert service(eks).list_clusters()["clusters"] == ["runbook"]
    free = lambda found: [{**one, "AvailableIpAddressCount": 0} for one in found]  # noqa: E731
    after = ec2.describe_subnets(SubnetIds=subnets)["Subnets"]
    assert (free(after), len(ec2.describe_vpcs()["Vpcs"])) == (free(before[0]), before[1])


def service(known: dict[str, str], name: str = "eks"):
    here = params.load("dev")
    session = aws_session.session(here.region, known["AWS_PROFILE"], known["AWS_SHARED_CREDENTIALS_FILE"])
    return aws_session.client(session, name, here.aws_endpoint_url)
