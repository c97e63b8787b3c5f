"""Who may talk to a cluster: its creator, by tokens that boto3 makes; nobody else."""

import boto3
import eks_token
import pytest

from sandbox import identities
from sandbox.signature import Refused


def user(world, name):
    iam = world.client("iam")
    iam.create_user(UserName=name)
    key = iam.create_access_key(UserName=name)["AccessKey"]
    return boto3.Session(key["AccessKeyId"], key["SecretAccessKey"], region_name="us-east-1")


def assumed(world, role, name):
    made = world.client("sts").assume_role(RoleArn=role, RoleSessionName=name)["Credentials"]
    return boto3.Session(made["AccessKeyId"], made["SecretAccessKey"], made["SessionToken"], region_name="us-east-1")


def test_the_creator_is_administrator_and_nobody_else(world):
    authenticate = world.active().authenticate
    said = authenticate(eks_token.made(world.session, "runbook", world.server.url))
    user_id = world.client("sts").get_caller_identity()["UserId"]
    assert said == {
        "username": "arn:aws:iam::123456789012:user/admin",
        "uid": f"aws-iam-authenticator:123456789012:{user_id}",
        "groups": ["system:masters"],
    }
    with pytest.raises(Refused, match="expected the creator of the cluster runbook, got arn:.*:user/eve"):
        authenticate(eks_token.made(user(world, "eve"), "runbook", world.server.url))
    with pytest.raises(Refused, match="signature for the cluster runbook"):
        authenticate(eks_token.made(world.session, "other", world.server.url))
    with pytest.raises(Refused, match="access key"):
        stranger = boto3.Session("AKIANOBODY", "x", region_name="us-east-1")
        authenticate(eks_token.made(stranger, "runbook", world.server.url))


def test_amazons_own_sts_hosts_are_taken(world):
    node = world.active()
    assert node.authenticate(eks_token.made(world.session, "runbook"))


def test_a_roles_sessions_have_the_roles_access(world):
    role = world.role("deployer", "ec2.amazonaws.com")
    authenticate = world.active(session=assumed(world, role, "monday")).authenticate
    said = authenticate(eks_token.made(assumed(world, role, "tuesday"), "runbook", world.server.url))
    assert said["username"] == "arn:aws:sts::123456789012:assumed-role/deployer/tuesday"
    assert said["uid"].startswith("aws-iam-authenticator:123456789012:AROA") and "tuesday" not in said["uid"]
    with pytest.raises(Refused, match="expected the creator"):
        authenticate(eks_token.made(world.session, "runbook", world.server.url))


def test_a_key_that_was_switched_off_opens_nothing(world):
    session = user(world, "mallory")
    authenticate = world.active(session=session).authenticate
    token = eks_token.made(session, "runbook", world.server.url)
    assert authenticate(token)["username"].endswith("user/mallory")
    key = session.get_credentials().access_key
    world.client("iam").update_access_key(UserName="mallory", AccessKeyId=key, Status="Inactive")
    with pytest.raises(Refused, match="access key"):
        authenticate(token)
    assert identities.find(key, None) is None


def test_a_creator_may_leave_nobody_in(world):
    node = world.active(accessConfig={"bootstrapClusterCreatorAdminPermissions": False})
    with pytest.raises(Refused, match="expected the creator"):
        node.authenticate(eks_token.made(world.session, "runbook", world.server.url))
