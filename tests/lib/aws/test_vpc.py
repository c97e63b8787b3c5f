"""The network against moto's AWS: a VPC of its own with NAT, adopted wherever it broke off; subnets that are there."""

import pytest
from moto import mock_aws

from lib import names, params
from lib.aws import existing_subnets, leftovers, nat_gateways
from lib.aws import tags as aws_tags
from lib.aws import vpc as aws_vpc
from lib.errors import AwsError, TimedOut
from lib.steps import cluster
from tests.support import account, whole_eks
from tests.support.stated import REAL

TAGS = names.tags("demo")
WRITES = (
    "Create",
    "Attach",
    "Associate",
    "Modify",
    "Allocate",
    "Replace",
    "Release",
    "Delete",
    "Disassociate",
    "Detach",
)


@pytest.fixture
def ec2():
    with mock_aws():
        yield account.client(account.session(), "ec2")


def ensure(ec2, zones=3, way="per-zone", **more):
    return aws_vpc.ensure_network(ec2, "demo", "10.0.0.0/16", TAGS, zones, nat=way, **more)


def named(ec2, describe, key, identity):
    return {aws_tags.tag_dict(one["Tags"])["Name"]: one for one in getattr(ec2, describe)()[key] if one.get("Tags")}


def alive(ec2):
    return [one for one in ec2.describe_nat_gateways()["NatGateways"] if one["State"] == "available"]


@pytest.mark.parametrize(("way", "count"), [("single", 1), ("per-zone", 3)])
def test_nodes_are_in_private_subnets_and_get_out_by_nat(ec2, way, count):
    net, changes = ensure(ec2, way=way)
    assert {action for *_, action in changes} == {"created"}
    kinds = [kind for kind, *_ in changes]
    assert {kind: kinds.count(kind) for kind in kinds} == aws_vpc.planned_counts(3, way)
    assert aws_vpc.existing_counts(ec2, TAGS) == aws_vpc.planned_counts(3, way)
    inside = ec2.describe_subnets(SubnetIds=net["subnet_ids"])["Subnets"]
    assert sorted(one["CidrBlock"] for one in inside) == ["10.0.128.0/18", "10.0.192.0/18", "10.0.64.0/18"]
    gateways = {one["NatGatewayId"]: one for one in alive(ec2)}
    assert len(gateways) == count
    outside = {one["SubnetId"]: one for one in ec2.describe_subnets()["Subnets"] if "public" in str(one["Tags"])}
    for one in inside:
        tags = aws_tags.tag_dict(one["Tags"])
        assert not one["MapPublicIpOnLaunch"]
        assert tags[aws_vpc.PRIVATE_ROLE] == "1" and aws_vpc.PUBLIC_ROLE not in tags
        asked = [{"Name": "association.subnet-id", "Values": [one["SubnetId"]]}]
        (table,) = ec2.describe_route_tables(Filters=asked)["RouteTables"]
        (route,) = [way for way in table["Routes"] if way["DestinationCidrBlock"] == "0.0.0.0/0"]
        its = outside[gateways[route["NatGatewayId"]]["SubnetId"]]
        assert its["AvailabilityZone"] == one["AvailabilityZone"] or way == "single"
    _, changes = ensure(ec2, way=way)
    assert {action for *_, action in changes} == {"unchanged"}


def test_the_tag_run_names_the_creating_run_and_is_no_condition(ec2):
    ensure(ec2, 2, extra={"Run": "one"})
    _, changes = ensure(ec2, 2, extra={"Run": "two"})
    assert {action for *_, action in changes} == {"unchanged"}
    parts = ("Vpcs", "Subnets", "InternetGateways", "RouteTables", "Addresses", "NatGateways")
    calls = ("vpcs", "subnets", "internet_gateways", "route_tables", "addresses", "nat_gateways")
    for call, part in zip(calls, parts, strict=True):
        ours = [aws_tags.tag_dict(one["Tags"]) for one in getattr(ec2, f"describe_{call}")()[part] if one["Tags"]]
        assert ours and {tags["Run"] for tags in ours} == {"one"}, part


def test_what_another_number_of_nat_gateways_leaves_over_goes(ec2):
    ensure(ec2, way="per-zone")
    _, changes = ensure(ec2, way="single")
    assert [action for *_, action in changes].count("deleted") == 4  # two gateways, two addresses
    assert len(alive(ec2)) == len(ec2.describe_addresses()["Addresses"]) == 1
    ensure(ec2, way="per-zone")
    assert aws_vpc.existing_counts(ec2, TAGS) == aws_vpc.planned_counts(3, "per-zone")
    with pytest.raises(AwsError, match="expected the network demo to have no private subnets with nat: none, got 3"):
        ensure(ec2, way="none")


def test_killed_after_each_single_write_it_goes_on_and_so_does_the_clean_up(ec2):
    """Each run makes one more thing and is killed: an address or gateway forgotten would cost money for ever."""
    before = ids(ec2)
    made = killed_again_and_again(ec2, lambda: ensure(ec2))
    assert aws_vpc.existing_counts(ec2, TAGS) == aws_vpc.planned_counts(3, "per-zone")
    assert [kind for kind in made if kind == "CreateNatGateway"] == ["CreateNatGateway"] * 3
    assert {"AllocateAddress", "CreateRoute", "AssociateRouteTable", "CreateSubnet", "CreateVpc"} <= set(made)
    _, changes = ensure(ec2)
    assert {action for *_, action in changes} == {"unchanged"}
    assert {one.kind for one in leftovers.owned_objects(ec2, TAGS)} == set(aws_vpc.planned_counts(3, "per-zone"))
    gone = killed_again_and_again(ec2, lambda: aws_vpc.delete_network(ec2, TAGS))
    assert ids(ec2) == before and not leftovers.owned_objects(ec2, TAGS)
    assert gone.index("DeleteNatGateway") < gone.index("ReleaseAddress") < gone.index("DeleteSubnet")
    assert aws_vpc.delete_network(ec2, TAGS) == "absent"


def killed_again_and_again(ec2, act):
    seen = []
    while True:
        try:
            with Interrupted(ec2, 1):
                act()
            return seen
        except KeyboardInterrupt as stopped:
            seen.append(str(stopped))


def test_somebody_elses_nat_gateway_is_not_counted_and_stays(ec2):
    vpc = ec2.create_vpc(CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.9.0.0/24")["Subnet"]["SubnetId"]
    tags = account.tagged("natgateway", {"Project": "another", "Name": "demo-nat-us-east-1a"})
    address = ec2.allocate_address(Domain="vpc")["AllocationId"]
    theirs = ec2.create_nat_gateway(SubnetId=subnet, AllocationId=address, **tags)["NatGateway"]["NatGatewayId"]
    ensure(ec2, 2, "single")
    assert nat_gateways.count(ec2, TAGS) == 1
    aws_vpc.delete_network(ec2, TAGS)
    assert [one["NatGatewayId"] for one in alive(ec2)] == [theirs]
    assert [one["AllocationId"] for one in ec2.describe_addresses()["Addresses"]] == [address]


class Slow:
    """EC2 as far as NAT gateways go: their states come in AWS's order, one with each look; what is in use stays."""

    def __init__(self, states, **about):
        self.states, self.about, self.done = list(states), about, []

    def describe_nat_gateways(self, **_):
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        tags = aws_tags.tag_list({**TAGS, "Name": "demo-nat-a"})
        return {"NatGateways": [{"NatGatewayId": "nat-1", "State": state, "Tags": tags, **self.about}]}

    def describe_addresses(self, **_):
        tags = aws_tags.tag_list({**TAGS, "Name": "demo-nat-a"})
        return {"Addresses": [{"AllocationId": "eipalloc-1", "Tags": tags}]}

    def delete_nat_gateway(self, **_):
        self.done.append("delete")

    def release_address(self, **_):
        assert self.states[0] in nat_gateways.ENDED, "AWS refuses to release an address that a NAT gateway has"
        self.done.append("release")

    def allocate_address(self, **_):
        raise AssertionError("there is one")

    def create_nat_gateway(self, **asked):
        self.done.append("create")
        return {"NatGateway": {"NatGatewayId": "nat-2", **asked}}


QUICK = {"sleep": lambda _: None}


def test_wait_for_a_nat_gateway_raises_awss_reason_if_it_fails():
    nat_gateways.wait_available(Slow(["pending", "pending", "available"]), ["nat-1"], TAGS, 60, **QUICK)
    failed = Slow(["pending", "failed"], FailureCode="InsufficientFreeAddressesInSubnet", FailureMessage="it is full.")
    with pytest.raises(AwsError, match="nat-1 to be available, got failed .InsufficientFreeAddresses.*it is full"):
        nat_gateways.wait_available(failed, ["nat-1"], TAGS, 60, **QUICK)
    with pytest.raises(TimedOut, match="expected the NAT gateways available within"):
        nat_gateways.wait_available(Slow(["pending"]), ["nat-1"], TAGS, 0)


def test_an_address_is_released_only_when_its_gateway_is_gone():
    slow = Slow(["available", "available", "deleting", "deleting", "deleted"])
    assert nat_gateways.delete_gateways(slow, TAGS, 60, **QUICK) == ["demo-nat-a", "demo-nat-a"]
    assert slow.done == ["delete", "release"]
    going = Slow(["deleting", "deleting", "deleting", "deleted"])  # a clean-up that was interrupted
    nat_gateways.delete_gateways(going, TAGS, 60, **QUICK)
    assert going.done == ["release"]


def test_a_failed_nat_gateway_is_replaced():
    slow, changes = Slow(["failed"]), []
    found = nat_gateways.ensure_gateways(slow, "demo", {"a": "subnet-1"}, TAGS, {}, lambda *row: changes.append(row))
    assert found == {"a": "nat-2"} and slow.done == ["create"]
    assert changes == [("address", "demo-nat-a", "unchanged"), ("nat gateway", "demo-nat-a", "created")]


# Subnets that are there


@pytest.fixture
def theirs(ec2):
    """Somebody's VPC as it should be: in two zones a public and a private subnet, tagged, with ways out."""
    return Theirs(ec2)


class Theirs:
    def __init__(self, ec2):
        self.ec2 = ec2
        self.vpc = ec2.create_vpc(CidrBlock="10.7.0.0/16")["Vpc"]["VpcId"]
        ec2.modify_vpc_attribute(VpcId=self.vpc, EnableDnsHostnames={"Value": True})
        self.gateway = ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
        ec2.attach_internet_gateway(InternetGatewayId=self.gateway, VpcId=self.vpc)
        self.public = [self.subnet(n, zone, aws_vpc.PUBLIC_ROLE) for n, zone in enumerate("ab")]
        self.private = [self.subnet(n + 8, zone, aws_vpc.PRIVATE_ROLE) for n, zone in enumerate("ab")]
        self.out = self.table(self.public, GatewayId=self.gateway)
        for one in self.public:
            ec2.modify_subnet_attribute(SubnetId=one, MapPublicIpOnLaunch={"Value": True})
        way = ec2.create_nat_gateway(
            SubnetId=self.public[0], AllocationId=ec2.allocate_address(Domain="vpc")["AllocationId"]
        )
        self.inside = self.table(self.private, NatGatewayId=way["NatGateway"]["NatGatewayId"])

    def subnet(self, number, zone, role, size=24, vpc=None):
        tags = account.tagged("subnet", {role: "1", "team": "a"})
        place = {"VpcId": vpc or self.vpc, "AvailabilityZone": f"us-east-1{zone}"}
        return self.ec2.create_subnet(CidrBlock=f"10.7.{number}.0/{size}", **place, **tags)["Subnet"]["SubnetId"]

    def table(self, subnet_ids, **way):
        table = self.ec2.create_route_table(VpcId=self.vpc)["RouteTable"]["RouteTableId"]
        if way:
            self.ec2.create_route(RouteTableId=table, DestinationCidrBlock="0.0.0.0/0", **way)
        for one in subnet_ids:
            self.ec2.associate_route_table(RouteTableId=table, SubnetId=one)
        return table

    def read(self, ids=None, tags=None, nodes=2, scheme="internet-facing", **more):
        return existing_subnets.describe(self.ec2, ids or [], tags or {}, "demo", nodes, scheme, **more)


@pytest.mark.parametrize("scheme", ["internet-facing", "internal", None])
def test_subnets_as_they_should_be_are_found_by_id_and_by_tag(theirs, scheme):
    for found in (theirs.read(theirs.private, scheme=scheme), theirs.read(theirs.public, scheme=scheme)):
        assert not found.problems and found.node_subnet_ids == found.subnet_ids and found.vpc_id == theirs.vpc
    both = theirs.read(tags={"team": "a"}, scheme=scheme)
    assert not both.problems and sorted(both.subnet_ids) == sorted([*theirs.public, *theirs.private])
    assert sorted(both.node_subnet_ids) == sorted(theirs.private)


def test_reading_them_changes_nothing(theirs):
    seen = []
    theirs.ec2.meta.events.register("before-call", lambda model, **_: seen.append(model.name))
    theirs.read(tags={"team": "a"})
    assert seen and all(name.startswith("Describe") for name in seen)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (lambda it: {"ids": ["subnet-0123456789abcdef0"]}, "expected all of subnet_ids to exist, got: The subnet ID"),
        (lambda it: {"tags": {"team": "b"}}, "expected subnets with the tags {'team': 'b'}, got none"),
        (lambda it: {"ids": [it.private[0], elsewhere(it)]}, "expected all subnets in one VPC, got vpc-"),
    ],
)
def test_subnets_that_are_not_there_or_not_together_are_refused(theirs, given, words):
    with pytest.raises(AwsError) as told:
        theirs.read(**given(theirs))
    assert words in str(told.value) and str(told.value).endswith(".")


def elsewhere(theirs):
    vpc = theirs.ec2.create_vpc(CidrBlock="10.7.0.0/16")["Vpc"]["VpcId"]
    return theirs.subnet(0, "a", aws_vpc.PUBLIC_ROLE, vpc=vpc)


def no_route(it):
    it.ec2.delete_route(RouteTableId=it.inside, DestinationCidrBlock="0.0.0.0/0")


def no_addresses(it):
    it.ec2.modify_subnet_attribute(SubnetId=it.public[1], MapPublicIpOnLaunch={"Value": False})


def no_names(it):
    it.ec2.modify_vpc_attribute(VpcId=it.vpc, EnableDnsHostnames={"Value": False})


def no_tag(it):
    it.ec2.delete_tags(Resources=[it.public[1]], Tags=[{"Key": aws_vpc.PUBLIC_ROLE}])


def anothers(it):
    it.ec2.create_tags(Resources=[it.public[0]], Tags=[{"Key": "kubernetes.io/cluster/other", "Value": "shared"}])


def in_no_zone_of_eks(it):
    zones = it.ec2.describe_availability_zones()["AvailabilityZones"]
    (zone,) = [one["ZoneName"][-1] for one in zones if one["ZoneId"] == "use1-az3"]
    it.private[1] = it.subnet(30, zone, aws_vpc.PRIVATE_ROLE)
    it.ec2.associate_route_table(RouteTableId=it.inside, SubnetId=it.private[1])
    it.subnet(31, zone, aws_vpc.PUBLIC_ROLE)
    it.ec2.associate_route_table(RouteTableId=it.out, SubnetId=it.subnet(32, zone, aws_vpc.PUBLIC_ROLE))


BROKEN = [
    (None, {"private": slice(0, 1)}, "expected subnets in at least two zones, got us-east-1a alone"),
    (in_no_zone_of_eks, {}, "in a zone that EKS takes, got us-east-1"),
    (no_names, {}, "expected enableDnsHostnames of vpc-"),
    (no_route, {}, "expected a route to 0.0.0.0/0 for nodes in subnet-"),
    (no_addresses, {"public": slice(0, 2)}, "to give nodes public addresses, since its way out is an internet gateway"),
    (no_tag, {}, "expected in us-east-1b a public subnet with the tag kubernetes.io/role/elb: 1"),
    (anothers, {}, "expected in us-east-1a a public subnet with the tag kubernetes.io/role/elb: 1, free for this"),
    (None, {"nodes": 60}, "expected 606 free addresses for 60 nodes and their pods in subnet-"),
]


@pytest.mark.parametrize(("spoil", "asked", "words"), BROKEN, ids=[words[:40] for *_, words in BROKEN])
def test_each_thing_that_is_missing_is_one_sentence(theirs, spoil, asked, words):
    if spoil:
        spoil(theirs)
    kind = "public" if "public" in asked else "private"
    chosen = getattr(theirs, kind)[asked.get(kind, slice(None))]
    problems = theirs.read(chosen, nodes=asked.get("nodes", 2)).problems
    assert [told for told in problems if words in told]
    assert len({told.split(" ")[1] for told in problems}) == 1  # nothing else is made of it
    for told in problems:
        assert told.startswith("expected ") and "got" in told and ";" in told and told.endswith(".")


def test_a_way_out_that_is_gone_is_none(theirs):
    def gone(parsed, **_):
        for table in parsed["RouteTables"]:
            for route in table["Routes"]:
                if route.get("NatGatewayId"):
                    route["State"] = "blackhole"  # what AWS says once the NAT gateway is deleted

    theirs.ec2.meta.events.register("after-call.ec2.DescribeRouteTables", gone)
    problems = theirs.read(theirs.private).problems
    theirs.ec2.meta.events.unregister("after-call.ec2.DescribeRouteTables", gone)
    assert len(problems) == 2 and all("got a route to a deleted gateway" in told for told in problems)


def test_a_small_subnet_is_full_for_a_new_cluster_and_not_for_one_that_is_there(theirs):
    small = [theirs.subnet(40 + n, zone, aws_vpc.PRIVATE_ROLE, size=28) for n, zone in enumerate("ab")]
    for one in small:
        theirs.ec2.associate_route_table(RouteTableId=theirs.inside, SubnetId=one)
    for _ in range(7):
        theirs.ec2.create_network_interface(SubnetId=small[0])
    (told,) = theirs.read(small, nodes=1).problems
    assert told.startswith(f"expected at least 6 free addresses in {small[0]} for EKS, got 4")
    assert not theirs.read(small, nodes=1, fresh=False).problems


def test_step_01_puts_cluster_and_nodes_there_or_makes_nothing_at_all(theirs, monkeypatch):
    session = account.session()
    iam, eks = account.client(session, "iam"), account.client(session, "eks")
    arn = iam.create_policy(PolicyName="p", PolicyDocument=account.POLICY)["Policy"]["Arn"]
    monkeypatch.setattr(cluster, "CLUSTER_POLICIES", [arn])
    monkeypatch.setattr(cluster, "NODE_POLICIES", [arn])
    here = whole_eks.step(session, "here", subnet_tags={"team": "a"})
    no_route(theirs)
    with pytest.raises(AwsError, match="expected a route to 0.0.0.0/0 for nodes"):
        cluster.ensure(here)
    assert not iam.list_roles()["Roles"] and not here.changes
    way = {"DestinationCidrBlock": "0.0.0.0/0", "NatGatewayId": alive(theirs.ec2)[0]["NatGatewayId"]}
    theirs.ec2.create_route(RouteTableId=theirs.inside, **way)
    vpcs = len(theirs.ec2.describe_vpcs()["Vpcs"])
    for _ in range(2):
        cluster.ensure(here)
    made = eks.describe_cluster(name="demo")["cluster"]["resourcesVpcConfig"]["subnetIds"]
    nodes = eks.describe_nodegroup(clusterName="demo", nodegroupName="workers")["nodegroup"]["subnets"]
    assert sorted(made) == sorted([*theirs.public, *theirs.private])
    assert sorted(nodes) == sorted(theirs.private)
    assert len(theirs.ec2.describe_vpcs()["Vpcs"]) == vpcs


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"subnet_ids": ["subnet-1", "subnet-2"], "subnet_tags": {"a": "b"}}, "both name the subnets"),
        ({"subnet_ids": ["subnet-1", "subnet-2"], "nat": "single"}, "nat is of a VPC that is made"),
        ({"subnet_tags": {"a": "b"}, "vpc_zones": 3}, "vpc_zones is of a VPC that is made"),
        ({"subnet_tags": {"a": "b"}, "vpc_cidr": "10.1.0.0/16"}, "vpc_cidr is of a VPC that is made"),
        ({"subnet_ids": ["subnet-1"]}, "needs two or more"),
        ({"subnet_ids": ["subnet-1", "subnet-1"]}, "each once"),
        ({"subnet_ids": ["vpc-1", "subnet-1"]}, "String should match pattern"),
        ({"cluster_source": "existing", "subnet_tags": {"a": "b"}}, "an existing cluster is where it is"),
        ({"vpc_cidr": "10.0.0.0/8"}, "must be from /16"),
        ({"vpc_cidr": "10.0.0.1/16"}, "has host bits set"),
        ({"vpc_zones": 4}, "less than or equal to 3"),
        ({"nat": "two"}, "Input should be 'none', 'single' or 'per-zone'"),
    ],
)
def test_params_that_name_no_one_place_are_refused(changed, words):
    values = {"env": "here", **REAL}
    with pytest.raises(ValueError, match=words):
        params.Params(**{**values, **changed})
    whole = params.Params(**values, subnet_tags={"a": "b"})
    assert params.Params(**whole.model_dump()) == whole  # as papermill gives it to a notebook, defaults and all


def ids(ec2):
    found = {one["AllocationId"] for one in ec2.describe_addresses()["Addresses"]}
    found |= {one["NatGatewayId"] for one in alive(ec2)}
    for call, part, identity in (
        ("vpcs", "Vpcs", "VpcId"),
        ("subnets", "Subnets", "SubnetId"),
        ("route_tables", "RouteTables", "RouteTableId"),
        ("internet_gateways", "InternetGateways", "InternetGatewayId"),
    ):
        found |= {one[identity] for one in getattr(ec2, f"describe_{call}")()[part]}
    return found


class Interrupted:
    """Clients that stop everything after the n-th writing call."""

    def __init__(self, ec2, number):
        self.events, self.left = ec2.meta.events, number

    def __enter__(self):
        self.events.register("after-call", self.after)

    def __exit__(self, *_):
        self.events.unregister("after-call", self.after)

    def after(self, model, **_):
        if model.name.startswith(WRITES):
            self.left -= 1
            if not self.left:
                raise KeyboardInterrupt(model.name)
