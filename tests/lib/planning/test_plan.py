"""What would be made and what it costs; nothing is written before the account is right and a yes is said."""

import json
from functools import cache
from types import SimpleNamespace

import pytest
from moto import mock_aws

from lib import names, params
from lib.aws import clusters as aws_clusters
from lib.aws import iam_roles, launch_template, node_groups
from lib.aws import session as aws_session
from lib.aws import tags as aws_tags
from lib.aws import vpc as aws_vpc
from lib.errors import AwsError
from lib.planning import plan
from lib.record.events import Record
from lib.run import Run
from lib.steps import clean_up, cluster, load_balancer_readiness
from tests.support import account, whole_eks
from tests.support.stated import IMAGES

ACCOUNT = "123456789012"  # moto's


@pytest.fixture
def session(monkeypatch):
    monkeypatch.delenv("CONFIRM", raising=False)
    with mock_aws():
        yield account.session()


def run(session, **changed):
    """A run of an environment on what it takes for a real account."""
    values = {
        "env": "real",
        "cluster_source": "eks",
        "public_access_cidrs": ["203.0.113.7/32"],
        "cluster_name": "demo",
        "istio_tag": "1",
        "account_id": ACCOUNT,
    }
    here = params.Params(**{**values, **IMAGES, **changed})
    return SimpleNamespace(params=here, aws=lambda name: account.client(session, name), tags=names.tags("demo"))


def build(session):
    """Make what step 01 makes, but the nodes."""
    iam, ec2, service = (account.client(session, name) for name in ("iam", "ec2", "eks"))
    role, _ = iam_roles.ensure_role(iam, "demo-cluster", "eks.amazonaws.com", [], names.tags("demo"))
    net, _ = aws_vpc.ensure_network(ec2, "demo", "10.0.0.0/16", names.tags("demo"))
    aws_clusters.ensure_cluster(service, "demo", "1.36", role["Arn"], net["subnet_ids"], names.tags("demo"))


def actions(table):
    return {row.kind: row.action for row in table.itertuples(index=False)}


def test_in_an_empty_account_all_of_it_is_made_and_priced(session):
    table = plan.rows(run(session))
    assert set(table["action"]) == {"create"} and len(table) == 13
    by_kind = table.set_index("kind")["usd_per_hour"]
    assert by_kind["cluster"] == 0.10 and by_kind["role"].tolist() == ["", ""]
    assert by_kind["node group"] == pytest.approx(2 * (0.096 + 0.005 + 20 * 0.00011))
    assert plan.total(table) == pytest.approx(0.10 + 0.2064 + 4 * (0.0225 + 0.01))


def test_what_is_there_is_kept_and_what_differs_is_changed(session):
    build(session)
    found = actions(plan.rows(run(session)))
    assert found["vpc"] == found["subnet"] == found["cluster"] == found["load balancer"] == "keep"
    assert found["node group"] == "create"
    assert actions(plan.rows(run(session, kubernetes_version="1.37")))["cluster"] == "change"


def test_nothing_is_written_while_it_is_planned(session):
    plan.rows(run(session))
    ec2, iam = account.client(session, "ec2"), account.client(session, "iam")
    assert not iam.list_roles()["Roles"] and len(ec2.describe_vpcs()["Vpcs"]) == 1  # the account's default one


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"account_id": None}, f"The params name no account. Set account_id: if you mean account {ACCOUNT}"),
        ({"account_id": "210987654321"}, f"Your credentials are of account {ACCOUNT}, the params name 210987654321"),
        ({}, "Refusing to create 13 objects in account 123456789012 (about $0.44/h)"),
    ],
)
def test_it_stops_before_the_first_write(session, changed, words):
    with pytest.raises(AwsError) as refused:
        plan.guard(run(session, **changed))
    assert words in str(refused.value)


def test_a_yes_is_enough_in_the_right_account_only(session, monkeypatch):
    monkeypatch.setenv("CONFIRM", "yes")
    plan.guard(run(session))
    with pytest.raises(AwsError):
        plan.guard(run(session, account_id="210987654321"))


def test_where_all_is_there_nobody_is_asked(session):
    build(session)
    role = account.client(session, "iam").create_role(RoleName="demo-nodes", AssumeRolePolicyDocument="{}")["Role"]
    service, subnets = (
        account.client(session, "eks"),
        account.client(session, "ec2").describe_subnets()["Subnets"],
    )
    own = [one["SubnetId"] for one in subnets if "demo" in str(one.get("Tags"))]
    group = node_groups.NodeGroupConfig(["m5.large"], 2)
    name = cluster.template_name("demo")
    data = launch_template.template_data(20, node_groups.DEFAULT_AMI_TYPE, name, names.tags("demo"))
    start, _ = launch_template.ensure_template(account.client(session, "ec2"), name, data, names.tags("demo"))
    node_groups.ensure_node_group(
        service, "demo", "workers", role["Arn"], own, group, names.tags("demo"), template=start
    )
    plan.guard(run(session))


@pytest.mark.parametrize("changed", [{"aws_endpoint_url": "http://127.0.0.1:1"}, {"cluster_source": "existing"}])
def test_a_local_endpoint_and_an_existing_cluster_ask_nothing(session, changed):
    plan.guard(run(session, account_id=None, **changed))


def test_the_plan_is_in_sentences(session):
    here = run(session, node_instance_type="p5.48xlarge")
    lines = plan.summary(here, plan.rows(here))
    assert lines[0].startswith("You are arn:aws:") and f"account {ACCOUNT}" in lines[0]
    assert lines[1] == "13 to create, 0 to change, 0 kept."
    assert any("No price is known here of p5.48xlarge" in line for line in lines)
    assert lines[-1] == f"It is the account that the params name ({ACCOUNT})."


def test_a_nat_gateway_is_priced_with_its_address_and_its_nodes_without(session):
    table = plan.rows(run(session, nat="per-zone", vpc_zones=3, load_balancer_scheme="internal",
                          load_balancer_controller="in-tree")).set_index("kind")["usd_per_hour"]  # fmt: skip
    assert table["nat gateway"] == pytest.approx(3 * 0.045) and table["address"] == pytest.approx(3 * 0.005)
    assert table["node group"] == pytest.approx(2 * (0.096 + 20 * 0.00011))
    assert set(table["load balancer"]) == {0.0225}  # internal ones have no public address


def test_existing_subnets_are_kept_and_no_vpc_is_created(session):
    ec2 = account.client(session, "ec2")
    net, _ = aws_vpc.ensure_network(ec2, "theirs", "10.0.0.0/16", names.tags("theirs"))
    table = plan.rows(run(session, subnet_ids=net["subnet_ids"]))
    assert "vpc" not in set(table["kind"])
    subnets = table[table["kind"] == "subnet"]
    assert sorted(subnets["name"]) == sorted(net["subnet_ids"]) and set(subnets["action"]) == {"keep"}


ADDONS = dict.fromkeys(("aws-ebs-csi-driver", "coredns", "eks-pod-identity-agent", "kube-proxy", "vpc-cni"), "default")


def test_add_ons_and_the_drivers_role_are_planned_where_the_params_name_them(session):
    table = plan.rows(run(session, addons=ADDONS))
    rows = {(row.kind, row.name): (row.now, row.action) for row in table.itertuples(index=False)}
    assert rows["add-on", "coredns"] == rows["role", "demo-ebs-csi"] == ("none", "create")
    assert len([kind for kind, _ in rows if kind == "add-on"]) == len(ADDONS)


UNCALLED = {  # needed without a call of that name, or called only where something is not as it was
    "ec2:CreateLaunchTemplateVersion", "ec2:CreateTags", "ec2:ReplaceRoute", "ec2:RunInstances",
    "eks:AssociateEncryptionConfig", "eks:CreatePodIdentityAssociation", "eks:DeleteAccessEntry",
    "eks:DeletePodIdentityAssociation", "eks:DescribeUpdate", "eks:DisassociateAccessPolicy", "eks:TagResource",
    "eks:UpdateAccessEntry", "eks:UpdateAddon", "eks:UpdateClusterConfig", "eks:UpdateClusterVersion",
    "eks:UpdateNodegroupConfig", "eks:UpdateNodegroupVersion", "iam:CreateServiceLinkedRole", "iam:PassRole",
    "iam:TagRole", "iam:UpdateAssumeRolePolicy", "kms:CreateGrant", "kms:DescribeKey",
}  # fmt: skip


@pytest.fixture
def whole():
    """A session whose IAM has Amazon's own policies, and whose EKS has what moto's lacks."""
    with whole_eks.account() as made:
        yield made


def test_the_policy_in_the_docs_is_what_is_called(whole, monkeypatch):
    session, called = whole, set()
    monkeypatch.setenv("CONFIRM", "yes")
    reader = account.client(session, "iam").create_role(RoleName="reader", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
    entries = [{"principal_arn": reader, "policy": "AmazonEKSViewPolicy"}]
    here = Run(
        "01-cluster",
        run(session, delete_log_group=True, nat="single", access_entries=entries, addons=ADDONS).params,
        Record(),
    )
    here.aws = listening(session, called)
    plan.guard(here)
    plan.summary(here, plan.tables(here)["What is made"])
    for _ in range(2):
        cluster.state(here)
        cluster.ensure(here)
        cluster.access_entry_table(here)
        cluster.addon_table(here)
    found = aws_clusters.find_cluster(account.client(session, "eks"), "demo")["resourcesVpcConfig"]
    vpc = account.client(session, "ec2").describe_subnets(SubnetIds=found["subnetIds"])["Subnets"][0]["VpcId"]
    account.made_by_kubernetes(session, {"vpc_id": vpc, "subnet_ids": found["subnetIds"]})
    iam, tags = account.client(session, "iam"), aws_tags.tag_list(here.tags)
    iam.create_open_id_connect_provider(Url="https://a.example", ThumbprintList=["0" * 40], Tags=tags)
    account.client(session, "logs").create_log_group(logGroupName="/aws/eks/demo/cluster")
    elbv2 = here.aws("elbv2")
    load_balancer_readiness.target_states(
        elbv2, elbv2.describe_load_balancers()["LoadBalancers"][0]["LoadBalancerArn"], 80
    )
    account.client(session, "eks").delete_nodegroup(clusterName="demo", nodegroupName="workers")
    plan.guard(here)  # after a run that broke off between cluster and nodes
    cluster.ensure(here)
    clean_up.guard(here)
    clean_up.inventory(here)
    clean_up.delete_load_balancers(here)
    clean_up.delete_cluster(here)
    page = (params.ROOT / "docs" / "eks.md").read_text()
    (statement,) = json.loads(page.partition("```json\n")[2].partition("```")[0])["Statement"]
    assert set(statement["Action"]) - UNCALLED == called and statement["Action"] == sorted(statement["Action"])


def listening(session, called):
    """Return what makes clients that note their calls, as IAM names them; moto has no policy simulator."""
    simulated = lambda **_: (SimpleNamespace(status_code=200), {"EvaluationResults": [], "IsTruncated": False})  # noqa: E731

    def note(model, **_):
        called.add(f"{model.service_model.signing_name}:{model.name}")

    @cache
    def client(name):
        made = aws_session.client(session, name)
        made.meta.events.register("before-call.*.*", note)
        made.meta.events.register("before-call.iam.SimulatePrincipalPolicy", simulated)
        return made

    return client
