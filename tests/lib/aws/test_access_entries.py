"""Access entries: made once, changed where they differ, deleted where the params drop them; nobody else's."""

import pytest
from moto import mock_aws
from pydantic import ValidationError

from lib import names
from lib.aws import access_entries, clusters, iam_roles
from lib.aws import session as aws_session
from lib.errors import AwsError
from lib.params.eks import AccessEntry
from tests.support import account, whole_eks

TAGS = names.tags("demo")


@pytest.fixture
def session():
    with whole_eks.account() as made:
        yield made


def cluster(session, name="demo", **more):
    role = iam_roles.ensure_role(aws_session.client(session, "iam"), f"{name}-cluster", "eks.amazonaws.com", [], TAGS)[
        0
    ]["Arn"]
    subnets = [one["SubnetId"] for one in aws_session.client(session, "ec2").describe_subnets()["Subnets"][:2]]
    made = aws_session.client(session, "eks")
    made.create_cluster(name=name, roleArn=role, resourcesVpcConfig={"subnetIds": subnets}, tags=TAGS, **more)
    return clusters.find_cluster(made, name)


def somebody(session, name):
    return aws_session.client(session, "iam").create_role(RoleName=name, AssumeRolePolicyDocument="{}")["Role"]["Arn"]


def ensure(session, there, *wanted):
    told = []
    done = access_entries.ensure_entries(
        aws_session.client(session, "eks"),
        there,
        [AccessEntry(**one) for one in wanted],
        TAGS,
        lambda *row: told.append(row),
    )
    assert told == [("access entry", *row) for row in done]
    return [action for _, action in done]


def rows(session, there):
    return {
        row[0].rpartition("/")[2]: row[1:]
        for row in access_entries.list_entries(aws_session.client(session, "eks"), there)
    }


def test_an_entrys_life(session):
    there, arn = cluster(session), somebody(session, "dev")
    view = {"principal_arn": arn, "policy": "AmazonEKSViewPolicy", "scope": ["foo", "bar"]}
    assert ensure(session, there, view) == ["created"]
    assert rows(session, there)["dev"] == ("STANDARD", "", "AmazonEKSViewPolicy (bar, foo)")
    assert ensure(session, there, view) == ["unchanged"]
    assert ensure(session, there, {**view, "scope": "cluster"}) == ["changed"]
    assert rows(session, there)["dev"] == ("STANDARD", "", "AmazonEKSViewPolicy (cluster)")
    assert ensure(session, there, {"principal_arn": arn, "policy": "AmazonEKSEditPolicy", "groups": ["a"]}) == [
        "changed"
    ]
    assert rows(session, there)["dev"] == ("STANDARD", "a", "AmazonEKSEditPolicy (cluster)")
    assert ensure(session, there) == ["deleted"] and ensure(session, there) == []


def test_who_made_the_cluster_is_listed_and_let_alone(session):
    there = cluster(session)
    arn = aws_session.whoami(aws_session.client(session, "sts"))["arn"]
    assert rows(session, there) == {"admin": ("STANDARD", "", "AmazonEKSClusterAdminPolicy (cluster)")}
    with pytest.raises(AwsError, match="somebody else created it; remove it from access_entries"):
        ensure(
            session,
            there,
            {"principal_arn": somebody(session, "x"), "groups": ["a"]},
            {"principal_arn": arn, "groups": ["a"]},
        )
    assert ensure(session, there) == [] and list(rows(session, there)) == [
        "admin"
    ]  # nothing was made before it stopped


def test_a_cluster_of_the_old_mode_has_none(session):
    there, arn = cluster(session, accessConfig={"authenticationMode": "CONFIG_MAP"}), somebody(session, "dev")
    assert ensure(session, there) == []
    with pytest.raises(AwsError, match="got authenticationMode CONFIG_MAP; set it to API_AND_CONFIG_MAP"):
        ensure(session, there, {"principal_arn": arn, "groups": ["a"]})
    assert access_entries.list_entries(None, there) == [("not known", "CONFIG_MAP", "", "see the ConfigMap aws-auth")]


def test_an_endpoint_without_access_entries_is_a_clear_error():
    with mock_aws():
        session = account.session()
        there = cluster(session)
        assert ensure(session, there) == []
        with pytest.raises(
            AwsError, match="an endpoint that has EKS's access entries, got one that does not know them"
        ):
            ensure(session, there, {"principal_arn": somebody(session, "dev"), "groups": ["a"]})


def test_a_caller_without_the_right_to_list_gets_not_known(session):
    there, client = cluster(session), aws_session.client(session, "eks")
    refused = type("Answer", (), {"status_code": 403})(), {"Error": {"Code": "AccessDeniedException", "Message": "no"}}
    client.meta.events.register("before-call.eks.ListAccessEntries", lambda **_: refused)
    assert access_entries.list_entries(client, there) == [("not known", "AccessDeniedException", "", "")]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"principal_arn": "arn:aws:sts::123456789012:assumed-role/a/b", "groups": ["a"]}, "principal_arn"),
        ({}, "needs a policy or groups"),
        ({"groups": ["system:masters"]}, "EKS gives nobody the group system:masters"),
        ({"policy": "AdministratorAccess"}, "policy"),
        ({"policy": "AmazonEKSViewPolicy", "scope": []}, "scope"),
    ],
)
def test_entries_that_cannot_be(wrong, words):
    with pytest.raises(ValidationError, match=words):
        AccessEntry(**{"principal_arn": "arn:aws:iam::123456789012:role/a", **wrong})
