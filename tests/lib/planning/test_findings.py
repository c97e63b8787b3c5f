"""What the plan tells besides: drift by field, quotas, what AWS offers, what the caller may not do; or "not known"."""

from datetime import date, datetime
from functools import cache
from types import SimpleNamespace

import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from lib import params
from lib.aws import drift
from lib.aws import session as aws_session
from lib.aws.node_groups import NodeGroupConfig
from lib.errors import AwsError
from lib.planning import availability, findings, permissions, plan, quotas
from lib.planning.account_state import AccountState
from lib.record.events import Record
from lib.run import Run
from tests.support import account
from tests.support.stated import IMAGES

TODAY = date(2026, 11, 25)
ACCOUNT = "123456789012"  # moto's
DENIED = "User: arn:aws:iam::1:user/a is not authorized to perform: {} on resource: * because no policy allows it"


def refusal(action, code="AccessDeniedException"):
    return ClientError({"Error": {"Code": code, "Message": DENIED.format(action)}}, action.partition(":")[2])


class Paged:
    """A client whose calls answer what is given, one page, or refuse."""

    def __init__(self, **answers):
        self.answers, self.asked = answers, []

    def __getattr__(self, name):
        def call(**asked):
            self.asked.append((name, asked))
            answer = self.answers[name]
            answer = answer(**asked) if callable(answer) else answer
            if isinstance(answer, Exception):
                raise answer
            return answer

        return call

    def can_paginate(self, name):
        return True

    def get_paginator(self, name):
        return SimpleNamespace(paginate=lambda **asked: [getattr(self, name)(**asked)])


# Drift

CLUSTER = {
    "version": "1.35",
    "roleArn": "arn:aws:iam::1:role/other",
    "resourcesVpcConfig": {"subnetIds": ["subnet-b", "subnet-a"]},
}
GROUP = {
    "nodeRole": "arn:aws:iam::1:role/demo-nodes",
    "subnets": ["subnet-a"],
    "instanceTypes": ["m5.large"],
    "scalingConfig": {"minSize": 1, "desiredSize": 2, "maxSize": 4},
}


def test_a_cluster_differs_field_by_field():
    told = drift.of_cluster(CLUSTER, "demo", "1.36", "demo-cluster", ["subnet-a", "subnet-c"])
    assert [(one.field, one.found, one.wanted, one.change[:3].strip(",")) for one in told] == [
        ("version", "1.35", "1.36", "yes"),
        ("role", "other", "demo-cluster", "no"),
        ("subnets", "subnet-a, subnet-b", "subnet-a, subnet-c", "no"),
    ]
    assert [one.problem for one in told] == [
        "",
        "expected role of cluster demo to be demo-cluster, got other, which cannot be changed; "
        "set the params back, or clean up first.",
        "expected subnets of cluster demo to be subnet-a, subnet-c, got subnet-a, subnet-b, which cannot be changed; "
        "set the params back, or clean up first.",
    ]
    same = drift.of_cluster(CLUSTER, "demo", "1.35", "other", ["subnet-a", "subnet-b"])
    assert same == [] and drift.of_cluster(None, "demo", "1.36", "r", []) == []


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ("1.36", ""),
        ("1.37", "EKS upgrades one minor version at a time, set 1.36 first"),
        ("1.34", "EKS never downgrades, set the params back"),
    ],
)
def test_a_version_goes_up_by_one_and_never_back(wanted, words):
    (one,) = drift.of_cluster(CLUSTER, "demo", wanted, "other", ["subnet-a", "subnet-b"])
    assert (words in one.problem and one.problem != "") == bool(words)


def test_a_node_group_differs_field_by_field():
    told = drift.of_node_group(
        GROUP, "workers", "demo-nodes", ["subnet-b"], NodeGroupConfig(["m6i.large"], 3, labels={"a": "b"}), "t"
    )
    assert [(one.field, one.found, one.wanted, one.change) for one in told] == [
        ("node count", "minSize 1, desiredSize 2, maxSize 4", "3", "yes"),
        ("labels", "none", "a=b", "yes"),
        ("instance types", "m5.large", "m6i.large", "no"),
        ("launch template", "none", "t", "no"),
        ("subnets", "subnet-a", "subnet-b", "no"),
    ]


def test_roles_lack_policies_and_what_they_have_besides_stays():
    attached = {"a": ["p:x/one", "p:x/more"], "b": ["p:x/two"], "c": None}
    told = drift.of_roles(attached, {"a": ["p:x/one"], "b": ["p:x/one", "p:x/two"], "c": ["p:x/one"]})
    assert [(one.what, one.found, one.wanted, one.change) for one in told] == [("role b", "two", "one, two", "yes")]


# What AWS offers


def offered(*minors):
    end = {minor: datetime(2026 + n, 8, 2) for n, minor in enumerate(minors)}
    later = {minor: datetime(2027 + n, 8, 2) for n, minor in enumerate(minors)}
    told = [
        {"clusterVersion": minor, "endOfStandardSupportDate": end[minor], "endOfExtendedSupportDate": later[minor],
         "versionStatus": "STANDARD_SUPPORT"} for minor in minors
    ]  # fmt: skip
    return Paged(describe_cluster_versions={"clusterVersions": told})


@pytest.mark.parametrize(
    ("wanted", "istio", "words"),
    [
        ("1.36", "1.31.1", ""),
        ("1.35", "1.31.1", ""),  # in extended support: dearer, not refused
        ("1.37", "1.31.1", "got 1.37 (EKS offers 1.35 to 1.36, Istio 1.31 is made for 1.32 to 1.37); set "),
        ("1.31", "1.31.1", "got 1.31 (EKS offers 1.35 to 1.36"),
        ("1.36", "1.29.0", "set kubernetes_version: 1.35."),
        ("1.36", "1.99.0", ""),  # no data on what it supports
    ],
)
def test_the_version_is_one_that_eks_offers_and_istio_is_made_for(wanted, istio, words):
    found, source = availability.versions(offered("1.35", "1.36"))
    told = availability.version_problem(wanted, istio, found, source, TODAY)
    assert words in told and bool(told) == bool(words) and source == "EKS"


def test_istio_and_eks_without_a_common_version_is_a_finding():
    found, source = availability.versions(offered("1.20", "1.21"))
    told = availability.version_problem("1.21", "1.31.1", found, source, date(2026, 1, 1))
    assert told.endswith("set another istio_tag: no version suits both.")


def test_a_version_is_in_standard_then_in_extended_support_then_in_none():
    found, _ = availability.versions(offered("1.35", "1.36"))
    assert found["1.35"].support(date(2026, 8, 2)) == availability.STANDARD
    assert found["1.35"].support(date(2026, 8, 3)) == found["1.35"].support(date(2027, 8, 2)) == availability.EXTENDED
    assert found["1.35"].support(date(2027, 8, 3)) == ""
    assert "got 1.35" in availability.version_problem("1.35", "1.31.1", found, "EKS", date(2027, 8, 3))


def test_who_may_not_ask_eks_gets_what_the_file_says_and_its_date():
    found, source = availability.versions(Paged(describe_cluster_versions=refusal("eks:DescribeClusterVersions")))
    assert "1.36" in found and found["1.33"].support(TODAY) == availability.EXTENDED
    assert (
        source == f"lib/planning/versions.yml of {availability.compatibility()['as_of']} "
        "(not known: eks:DescribeClusterVersions is not allowed)"
    )
    assert not availability.version_problem("1.37", "1.31.1", found, source, TODAY)  # the file may be old
    assert availability.version_problem("1.30", "1.31.1", found, source, TODAY)


def test_an_instance_type_is_offered_in_some_zones_in_none_or_nobody_knows():
    there = {"InstanceTypeOfferings": [{"Location": "us-east-1a"}, {"Location": "us-east-1f"}]}
    offer = availability.instance_type(
        Paged(describe_instance_type_offerings=there), "m5.large", ["us-east-1a", "us-east-1b"]
    )
    assert offer == availability.InstanceOffer(["us-east-1a"])
    none = availability.instance_type(
        Paged(describe_instance_type_offerings={"InstanceTypeOfferings": []}), "x9.large", ["a"]
    )
    assert availability.type_problem("x9.large", ["a", "b"], none) == (
        "expected node_instance_type x9.large in a or b, got no zone that offers it; choose another type."
    )
    refused = Paged(
        describe_instance_type_offerings=refusal("ec2:DescribeInstanceTypeOfferings", "UnauthorizedOperation")
    )
    unknown = availability.instance_type(refused, "m5.large", ["a"])
    assert unknown.zones is None and "ec2:DescribeInstanceTypeOfferings is not allowed" in unknown.why
    assert (
        availability.type_problem("m5.large", ["a"], unknown)
        == availability.type_problem("m5.large", ["a"], offer)
        == ""
    )


# Quotas


class Account:
    """An account with so much in it, and its clients."""

    def __init__(self, limits, **there):
        self.limits, self.there = limits, there

    def __call__(self, name):
        return self

    def can_paginate(self, name):
        return True

    def get_paginator(self, name):
        return SimpleNamespace(paginate=lambda **asked: [getattr(self, name)(**asked)])

    def get_service_quota(self, ServiceCode, QuotaCode):  # noqa: N803
        found = self.limits.get((ServiceCode, QuotaCode), refusal("servicequotas:GetServiceQuota"))
        if isinstance(found, Exception):
            raise found
        return {"Quota": {"Value": float(found)}}

    def list_aws_default_service_quotas(self, ServiceCode):  # noqa: N803
        return {"Quotas": [{"QuotaCode": "L-1194D53C", "Value": 100.0}] if ServiceCode == "eks" else []}

    def describe_vpcs(self):
        return {"Vpcs": [{}] * self.there.get("vpcs", 0)}

    def describe_internet_gateways(self):
        return {"InternetGateways": []}

    def describe_addresses(self):
        return {"Addresses": [{}] * self.there.get("addresses", 0)}

    def list_clusters(self):
        return {"clusters": ["a"] * self.there.get("clusters", 0)}

    def describe_load_balancers(self):
        return {"LoadBalancers": [{"Type": one} for one in self.there.get("balancers", [])]}

    def describe_subnets(self):
        return {"Subnets": [{"SubnetId": "s", "AvailabilityZone": "a"}, {"SubnetId": "t", "AvailabilityZone": "z"}]}

    def describe_nat_gateways(self):
        states = [("s", "available"), ("s", "deleted"), ("s", "pending"), ("t", "available")]
        return {"NatGateways": [{"SubnetId": subnet, "State": state} for subnet, state in states]}

    def describe_instances(self, Filters):  # noqa: N803
        cpu = {"CoreCount": 2, "ThreadsPerCore": 2}
        one = lambda kind, **more: {"InstanceType": kind, "CpuOptions": cpu, **more}  # noqa: E731
        spot = {"InstanceLifecycle": "spot"}
        return {"Reservations": [{"Instances": [one("m5.xlarge"), one("p4d.24xlarge"), one("t3.medium", **spot)]}]}

    def describe_instance_types(self, InstanceTypes):  # noqa: N803
        return {"InstanceTypes": [{"VCpuInfo": {"DefaultVCpus": 4}}]}


def limits(**values):
    return {quotas.CODES[getattr(quotas, name)]: value for name, value in values.items()}


def test_what_would_be_hit_is_counted_against_what_is_there():
    here = Account(limits(VPCS=5, ADDRESSES=5, NAT=5, BALANCERS=50, ON_DEMAND=8), vpcs=5, addresses=3,
                   balancers=["network", "application", "network"])  # fmt: skip
    more = {
        quotas.VPCS: 1,
        quotas.ADDRESSES: 2,
        quotas.NAT: 1,
        quotas.BALANCERS: 3,
        quotas.ON_DEMAND: 8,
        quotas.GATEWAYS: 0,
    }
    found = quotas.rows(here, more, "demo", ["a", "b"])
    assert [(one.kind, one.there, one.more, one.limit, one.says) for one in found] == [
        (quotas.VPCS, 5, 1, 5, "would be hit"),
        (quotas.ADDRESSES, 3, 2, 5, "fits"),
        (quotas.NAT, 2, 1, 5, "fits"),
        (quotas.BALANCERS, 2, 3, 50, "fits"),
        (quotas.ON_DEMAND, 4, 8, 8, "would be hit"),  # the spot one and the p4d are counted elsewhere
    ]
    assert found[0].problem == (
        "expected room for 1 more VPCs, got 5 of 5 used; delete unused ones, or ask AWS for a higher quota "
        "(vpc L-F678F1CE)."
    )
    assert [bool(one.problem) for one in found] == [True, False, False, False, True]


def test_a_quota_that_may_not_be_asked_or_has_no_value_of_its_own_stops_nothing():
    missing = ClientError({"Error": {"Code": "NoSuchResourceException", "Message": "none"}}, "GetServiceQuota")
    here = Account({**limits(VPCS=missing, CLUSTERS=missing)}, vpcs=9, clusters=3)
    rows = quotas.rows(here, {quotas.VPCS: 1, quotas.ADDRESSES: 1, quotas.CLUSTERS: 1}, "demo", [])
    vpcs, addresses, clusters = rows
    assert addresses.says == "not known: servicequotas:GetServiceQuota is not allowed" and addresses.limit is None
    assert (clusters.there, clusters.limit, clusters.says) == (3, 100, "fits")  # AWS's default
    assert vpcs.limit is None and vpcs.says.startswith("not known") and not any(one.problem for one in rows)


def test_what_cannot_be_counted_stops_nothing():
    here = Account(limits(BALANCERS=50))
    here.describe_load_balancers = lambda: (_ for _ in ()).throw(refusal("elasticloadbalancing:DescribeLoadBalancers"))
    (row,) = quotas.rows(here, {quotas.BALANCERS: 3}, "demo", [])
    assert row.there is None and row.says.endswith("DescribeLoadBalancers is not allowed") and not row.problem


@pytest.mark.parametrize(
    ("kind", "counted"),
    [("m5.large", True), ("m7i-flex.large", True), ("t3.medium", True), ("c7gn.xlarge", True), ("p4d.24xlarge", False),
     ("inf2.xlarge", False), ("trn1.2xlarge", False), ("g4dn.xlarge", False), ("x1e.xlarge", False)],
)  # fmt: skip
def test_which_families_are_counted_as_standard(kind, counted):
    assert quotas.standard(kind) is counted
    assert (quotas.vcpus(Account({}), kind) == 4) is counted


# What the caller may not do


class Iam(Paged):
    def __init__(self, allowed=(), role="arn:aws:iam::1:role/team/dev", refused=None):
        def simulated(PolicySourceArn, ActionNames, ResourceArns):  # noqa: N803
            return refused or {
                "EvaluationResults": [
                    {"EvalActionName": name, "EvalResourceName": arn,
                     "EvalDecision": "allowed" if name in allowed else "implicitDeny"}
                    for name in ActionNames for arn in ResourceArns
                ]
            }  # fmt: skip

        answer = {"Role": {"Arn": role}} if role else refusal("iam:GetRole")
        super().__init__(simulate_principal_policy=simulated, get_role=answer)


ACTIONS = ["ec2:CreateVpc", "eks:CreateCluster", "iam:CreateRole"]


def test_what_is_not_allowed_is_named_with_its_resource():
    iam = Iam(allowed=["eks:CreateCluster"])
    answer = permissions.missing(iam, "arn:aws:iam::1:user/ann", ["arn:r1", "arn:r2"], ACTIONS)
    assert answer.missing == [("ec2:CreateVpc", "*"), ("iam:CreateRole", "arn:r1"), ("iam:CreateRole", "arn:r2")]
    assert {asked["PolicySourceArn"] for name, asked in iam.asked} == {"arn:aws:iam::1:user/ann"}


@pytest.mark.parametrize(
    ("role", "source"),
    [("arn:aws:iam::1:role/team/dev", "arn:aws:iam::1:role/team/dev"), (None, "arn:aws:iam::1:role/dev")],
)
def test_a_session_is_asked_for_as_its_role_with_its_path_where_that_is_known(role, source):
    iam = Iam(allowed=ACTIONS, role=role)
    assert permissions.missing(iam, "arn:aws:sts::1:assumed-role/dev/ann", ["arn:r1"], ACTIONS).missing == []
    asked = [asked["PolicySourceArn"] for name, asked in iam.asked if name == "simulate_principal_policy"]
    assert set(asked) == {source}


def test_a_caller_without_the_right_to_simulate_is_a_finding():
    answer = permissions.missing(Iam(refused=refusal("iam:SimulatePrincipalPolicy")), "arn:aws:iam::1:user/a", ["r"])
    assert answer == permissions.PermissionReport(None, "not known: iam:SimulatePrincipalPolicy is not allowed")
    nobody = permissions.missing(Iam(), "arn:aws:sts::1:federated-user/ann", ["r"])
    assert nobody.missing is None and "this is arn:aws:sts::1:federated-user/ann" in nobody.why
    assert permissions.missing(Iam(), "arn:aws:iam::1:root", ["r"]).missing == []


def test_all_of_the_least_policy_is_asked_for_in_questions_that_are_not_too_long():
    iam = Iam(allowed=permissions.required_actions())
    assert permissions.missing(iam, "arn:aws:iam::1:user/a", ["r"]).missing == []
    asked = [asked["ActionNames"] for _, asked in iam.asked]
    assert (
        sorted(sum(asked, [])) == sorted(permissions.required_actions()) and max(map(len, asked)) <= permissions.BATCH
    )


# All of it, of a run


@pytest.fixture
def session(monkeypatch):
    monkeypatch.delenv("CONFIRM", raising=False)
    with mock_aws():
        yield account.session()


def run(session, answers=(), **changed):
    """A run whose clients answer some calls as given: {(service, call): answer}; a refusal is an action."""
    values = {
        "env": "real",
        "cluster_source": "eks",
        "public_access_cidrs": ["203.0.113.7/32"],
        "cluster_name": account.NAME,
        "istio_tag": "1.31.1",
    }
    made = Run("plan", params.Params(**{**values, "account_id": ACCOUNT, **IMAGES, **changed}), Record())

    @cache
    def client(name):
        found = aws_session.client(session, name)
        for (service, call), answer in dict(answers).items():
            if service == name:
                found.meta.events.register(f"before-call.*.{call}", answering(answer))
        return found

    made.aws = client
    return made


def answering(answer):
    def answered(**_):
        if isinstance(answer, str):
            refused = {"Error": {"Code": "AccessDeniedException", "Message": DENIED.format(answer)}}
            return SimpleNamespace(status_code=400), refused
        return SimpleNamespace(status_code=200), answer

    return answered


OPTIONAL = {  # what the plan asks and may be refused
    ("iam", "SimulatePrincipalPolicy"): "iam:SimulatePrincipalPolicy",
    ("iam", "ListAccountAliases"): "iam:ListAccountAliases",
    ("eks", "DescribeClusterVersions"): "eks:DescribeClusterVersions",
    ("ec2", "DescribeInstances"): "ec2:DescribeInstances",
    ("ec2", "DescribeInstanceTypes"): "ec2:DescribeInstanceTypes",
    ("ec2", "DescribeInstanceTypeOfferings"): "ec2:DescribeInstanceTypeOfferings",
    ("service-quotas", "GetServiceQuota"): "servicequotas:GetServiceQuota",
    ("service-quotas", "ListAWSDefaultServiceQuotas"): "servicequotas:ListAWSDefaultServiceQuotas",
}
SIMULATED = {("iam", "SimulatePrincipalPolicy"): {"EvaluationResults": [], "IsTruncated": False}}


def test_who_may_not_ask_what_only_the_plan_asks_gets_not_known_and_a_plan(session):
    tables = plan.tables(run(session, OPTIONAL))
    assert list(tables) == ["What is made", "What AWS offers", "Quotas", "What you may do"]
    assert set(tables["Quotas"]["says"]) == {"not known: servicequotas:GetServiceQuota is not allowed"}
    assert tables["What you may do"]["says"].item().startswith("not known: iam:SimulatePrincipalPolicy")
    assert tables["What AWS offers"]["offered"].iloc[-1].startswith("by lib/planning/versions.yml of ")
    assert not findings.collect(run(session, OPTIONAL), AccountState.load(run(session, OPTIONAL))).problems


def test_a_cluster_in_extended_support_is_priced_so(session):
    price = lambda version: plan.rows(run(session, kubernetes_version=version)).set_index("kind").loc["cluster"]  # noqa: E731
    assert price("1.36")["usd_per_hour"] == 0.10 and price("1.36")["usd_per_day"] == pytest.approx(2.4)
    assert price("1.33")["usd_per_hour"] == 0.60


def test_a_full_account_stops_the_run_with_each_reason(session, monkeypatch):
    monkeypatch.setenv("CONFIRM", "yes")
    for n in range(4):
        account.client(session, "ec2").create_vpc(CidrBlock=f"10.{n}.0.0/16")
    here = run(session, SIMULATED, kubernetes_version="1.20", node_instance_type="x9.large")
    with pytest.raises(AwsError) as told:
        plan.guard(here)
    for words in (
        "expected room for 1 more VPCs, got 5 of 5 used",
        "expected a kubernetes_version that both support, got 1.20",
        "expected node_instance_type x9.large in us-east-1a or us-east-1b, got no zone that offers it",
    ):
        assert words in str(told.value)
    assert not account.client(session, "iam").list_roles()["Roles"]
    assert len(plan.tables(here)["What would stop a run"]) == 3


def test_what_cannot_be_changed_stops_a_run_before_it_changes_what_can(session, monkeypatch):
    monkeypatch.setenv("CONFIRM", "yes")
    account.build(session)  # with one NAT gateway
    as_it_is = {"nat": "single", "kubernetes_version": "1.36"}
    here = run(session, SIMULATED, **as_it_is, node_count=3)
    assert plan.guard(here) is None
    table = plan.tables(here)["Differences from the account"]
    rows = {(row.what, row.field): row for row in table.itertuples(index=False)}
    assert rows["node group workers", "node count"].found == "2"
    for changed, words in (
        ({"nat": "none"}, "expected subnets of cluster demo to be subnet-"),
        ({"vpc_zones": 3}, "expected subnets of cluster demo to be demo-private-us-east-1c (to be made), "),
        ({"vpc_cidr": "10.1.0.0/16"}, "expected range of vpc demo to be 10.1.0.0/16, got 10.0.0.0/16"),
        ({"node_instance_type": "m6i.large"}, "expected instance types of node group workers to be m6i.large"),
        ({"kubernetes_version": "1.34"}, "expected version of cluster demo to be 1.34, got 1.36, which cannot"),
    ):
        before = account.everything(session)
        with pytest.raises(AwsError) as told:
            plan.guard(run(session, SIMULATED, **{**as_it_is, **changed}))
        assert words in str(told.value)
        assert account.everything(session) == before


def test_spot_nodes_count_against_their_own_quota_and_have_no_list_price(session):
    here = run(session, SIMULATED, node_capacity="SPOT")
    tables = plan.tables(here)
    kinds = set(tables["Quotas"]["quota"])
    assert quotas.SPOT in kinds and quotas.ON_DEMAND not in kinds
    made = tables["What is made"]
    assert made.set_index("kind").loc["node group"]["usd_per_hour"] == ""
    assert any("No price is known here of m5.large (SPOT)" in line for line in plan.summary(here, made))
