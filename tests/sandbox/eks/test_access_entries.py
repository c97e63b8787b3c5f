"""Who may talk to a cluster and do what: its creator and who has an access entry, by tokens that boto3 makes."""

import json

import pytest

from sandbox.eks import access_policies
from sandbox.iam import access_keys
from sandbox.iam.sigv4 import Refused
from tests.support import account, eks_token


def user(world, name):
    iam = world.client("iam")
    iam.create_user(UserName=name)
    iam.attach_user_policy(UserName=name, PolicyArn=access_keys.ADMINISTRATOR_POLICY)
    key = iam.create_access_key(UserName=name)["AccessKey"]
    return account.session(key["AccessKeyId"], key["SecretAccessKey"], region_name="us-east-1")


def assumed(world, role, name):
    """A session of a role, which from now on trusts the account's callers too."""
    principals = {"Service": "ec2.amazonaws.com", "AWS": "arn:aws:iam::123456789012:root"}
    trust = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Principal": principals, "Action": "sts:AssumeRole"}],
    }
    name_of_role = role.rpartition("/")[2]
    world.client("iam").update_assume_role_policy(RoleName=name_of_role, PolicyDocument=json.dumps(trust))
    made = world.client("sts").assume_role(RoleArn=role, RoleSessionName=name)["Credentials"]
    return account.session(made["AccessKeyId"], made["SecretAccessKey"], made["SessionToken"], region_name="us-east-1")


def test_the_creator_is_administrator_and_nobody_else(world):
    authenticate = world.active().authenticate
    said = authenticate(eks_token.made(world.session, "runbook", world.server.url))
    user_id = world.client("sts").get_caller_identity()["UserId"]
    assert said == {
        "username": "arn:aws:iam::123456789012:user/admin",
        "uid": f"aws-iam-authenticator:123456789012:{user_id}",
        "groups": [],
        "extra": {
            "arn": ["arn:aws:iam::123456789012:user/admin"],
            "canonicalArn": ["arn:aws:iam::123456789012:user/admin"],
        },
    }
    assert world.nodes["runbook"].authorize({**said, "nonResourceAttributes": {"path": "/metrics", "verb": "get"}})
    with pytest.raises(Refused, match="an access entry of the cluster runbook, got arn:.*:user/eve, who has none"):
        authenticate(eks_token.made(user(world, "eve"), "runbook", world.server.url))
    with pytest.raises(Refused, match="signature for the cluster runbook"):
        authenticate(eks_token.made(world.session, "other", world.server.url))
    with pytest.raises(Refused, match="access key"):
        stranger = account.session("AKIANOBODY", "x", region_name="us-east-1")
        authenticate(eks_token.made(stranger, "runbook", world.server.url))


def test_amazons_sts_hosts_are_accepted(world):
    node = world.active()
    assert node.authenticate(eks_token.made(world.session, "runbook"))


def test_a_roles_sessions_have_the_roles_access(world):
    role = world.role("deployer", "ec2.amazonaws.com")
    world.client("iam").attach_role_policy(RoleName="deployer", PolicyArn=access_keys.ADMINISTRATOR_POLICY)
    authenticate = world.active(session=assumed(world, role, "monday")).authenticate
    said = authenticate(eks_token.made(assumed(world, role, "tuesday"), "runbook", world.server.url))
    assert said["username"] == "arn:aws:sts::123456789012:assumed-role/deployer/tuesday"
    assert said["uid"].startswith("aws-iam-authenticator:123456789012:AROA") and "tuesday" not in said["uid"]
    with pytest.raises(Refused, match="who has none"):
        authenticate(eks_token.made(world.session, "runbook", world.server.url))


def test_an_inactive_key_is_refused(world):
    session = user(world, "mallory")
    authenticate = world.active(session=session).authenticate
    token = eks_token.made(session, "runbook", world.server.url)
    assert authenticate(token)["username"].endswith("user/mallory")
    key = session.get_credentials().access_key
    world.client("iam").update_access_key(UserName="mallory", AccessKeyId=key, Status="Inactive")
    with pytest.raises(Refused, match="access key"):
        authenticate(token)
    assert access_keys.find(key, None) is None


def test_a_cluster_may_have_no_creator_access(world):
    node = world.active(accessConfig={"bootstrapClusterCreatorAdminPermissions": False})
    with pytest.raises(Refused, match="who has none"):
        node.authenticate(eks_token.made(world.session, "runbook", world.server.url))


VIEW = "arn:aws:eks::aws:cluster-access-policy/AmazonEKSViewPolicy"


def asks(user, verb, resource, namespace="", group=""):
    """A SubjectAccessReview's spec, as the API server sends it."""
    about = {"namespace": namespace, "verb": verb, "group": group, "version": "v1", "resource": resource}
    spec = {"user": user["username"], "groups": user["groups"], "extra": user["extra"], "resourceAttributes": about}
    return {**spec, "uid": user["uid"]}


def test_a_second_user_gets_only_the_rights_of_the_entry(world):
    node, eks, eve = world.active(), world.client("eks"), user(world, "eva")
    arn = "arn:aws:iam::123456789012:user/eva"
    eks.create_access_entry(clusterName="runbook", principalArn=arn, kubernetesGroups=["readers"])
    token = eks_token.made(eve, "runbook", world.server.url)
    said = node.authenticate(token)
    assert (said["username"], said["groups"]) == (arn, ["readers"])
    assert not node.authorize(asks(said, "list", "pods", "foo"))  # an entry alone is a name, and no rights
    named = {"clusterName": "runbook", "principalArn": arn, "policyArn": VIEW}
    eks.associate_access_policy(**named, accessScope={"type": "namespace", "namespaces": ["foo", "team-*"]})
    for verb, resource, namespace, allowed in (
        ("list", "pods", "foo", True),
        ("list", "pods", "team-a", True),
        ("list", "pods", "bar", False),
        ("list", "pods", "", False),
        ("delete", "pods", "foo", False),
        ("get", "secrets", "foo", False),
    ):
        assert node.authorize(asks(said, verb, resource, namespace)) is allowed, (verb, resource, namespace)
    eks.associate_access_policy(**named, accessScope={"type": "cluster"})
    assert node.authorize(asks(said, "list", "pods")) and not node.authorize(asks(said, "list", "nodes"))
    eks.disassociate_access_policy(**named)
    assert not node.authorize(asks(said, "list", "pods", "foo"))
    eks.delete_access_entry(clusterName="runbook", principalArn=arn)
    with pytest.raises(Refused, match="who has none"):
        node.authenticate(token)


def test_sessions_of_a_role_with_a_path_match_its_entry(world):
    node, iam = world.active(), world.client("iam")
    role = iam.create_role(RoleName="deep", Path="/a/b/", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
    named = {"clusterName": "runbook", "principalArn": role}
    world.client("eks").create_access_entry(**named)
    world.client("eks").associate_access_policy(**named, policyArn=VIEW, accessScope={"type": "cluster"})
    said = node.authenticate(eks_token.made(assumed(world, role, "monday"), "runbook", world.server.url))
    assert said["username"] == "arn:aws:sts::123456789012:assumed-role/deep/monday"
    assert node.authorize(asks(said, "list", "pods")) and not node.authorize(asks(said, "delete", "pods"))
    iam.delete_role(RoleName="deep")


def test_a_creator_whose_entry_is_deleted_has_no_access(world):
    node, admin = world.active(), "arn:aws:iam::123456789012:user/admin"
    token = eks_token.made(world.session, "runbook", world.server.url)
    said = node.authenticate(token)
    world.client("eks").delete_access_entry(clusterName="runbook", principalArn=admin)
    assert not node.authorize(asks(said, "list", "pods"))
    with pytest.raises(Refused, match="who has none"):
        node.authenticate(token)


def test_entries_are_created_described_updated_and_paginated(world, refusal):
    world.active()
    eks, role = world.client("eks"), world.role("deployer", "ec2.amazonaws.com")
    tags = {"Project": "test"}
    made = eks.create_access_entry(clusterName="runbook", principalArn=role, tags=tags)["accessEntry"]
    assert made["username"] == "arn:aws:sts::123456789012:assumed-role/deployer/{{SessionName}}"
    assert (made["type"], made["tags"], made["kubernetesGroups"]) == ("STANDARD", tags, [])
    assert refusal(eks.create_access_entry, clusterName="runbook", principalArn=role)[:2] == (
        409,
        "ResourceInUseException",
    )
    for wrong in ({"principalArn": role.replace("deployer", "none")}, {"kubernetesGroups": ["system:masters"]}):
        other = {"clusterName": "runbook", "principalArn": world.role("other", "ec2.amazonaws.com"), **wrong}
        assert refusal(eks.create_access_entry, **other)[1] == "InvalidParameterException"
    entry = {"clusterName": "runbook", "principalArn": role}
    eks.update_access_entry(**entry, kubernetesGroups=["a"])
    assert eks.describe_access_entry(**entry)["accessEntry"]["kubernetesGroups"] == ["a"]
    eks.associate_access_policy(**entry, policyArn=VIEW, accessScope={"type": "cluster"})
    (held,) = eks.list_associated_access_policies(**entry)["associatedAccessPolicies"]
    assert (held["policyArn"], held["accessScope"]) == (VIEW, {"type": "cluster", "namespaces": []})
    pages = list(
        eks.get_paginator("list_access_entries").paginate(clusterName="runbook", PaginationConfig={"PageSize": 1})
    )
    assert [page["accessEntries"] for page in pages] == [[role], ["arn:aws:iam::123456789012:user/admin"]]
    assert eks.list_access_entries(clusterName="runbook", associatedPolicyArn=VIEW)["accessEntries"] == [role]
    assert VIEW in [one["arn"] for one in eks.list_access_policies()["accessPolicies"]]
    none = {**entry, "policyArn": VIEW.replace("View", "Nothing"), "accessScope": {"type": "cluster"}}
    assert refusal(eks.associate_access_policy, **none)[:2] == (404, "ResourceNotFoundException")
    assert (
        refusal(eks.associate_access_policy, **{**none, "policyArn": VIEW, "accessScope": {"type": "namespace"}})[0]
        == 400
    )
    eks.delete_access_entry(**entry)
    assert refusal(eks.describe_access_entry, **entry)[:2] == (404, "ResourceNotFoundException")


def test_a_node_groups_role_has_an_entry_that_admits_no_user(world):
    node = world.active()
    world.group()
    world.until("nodegroup_active")
    role = world.roles["node"]
    entry = world.client("eks").describe_access_entry(clusterName="runbook", principalArn=role)["accessEntry"]
    assert (entry["type"], entry["kubernetesGroups"]) == ("EC2_LINUX", ["system:nodes"])
    with pytest.raises(Refused, match="which is for nodes"):
        node.authenticate(eks_token.made(assumed(world, role, "monday"), "runbook", world.server.url))


def test_config_map_mode_has_no_entries_and_the_creator_is_administrator(world, refusal):
    node = world.active(accessConfig={"authenticationMode": "CONFIG_MAP"})
    assert node.authenticate(eks_token.made(world.session, "runbook", world.server.url))["groups"] == ["system:masters"]
    code, sentence = refusal(world.client("eks").list_access_entries, clusterName="runbook")[1:]
    assert code == "InvalidRequestException" and "authentication mode must be set to one of" in sentence


def test_a_later_user_of_the_same_name_does_not_get_the_entry(world):
    """EKS user guide, "Create access entries": the ARN is equal, and the unique id is another."""
    node, iam, session = world.active(), world.client("iam"), user(world, "eva")
    named = {"clusterName": "runbook", "principalArn": "arn:aws:iam::123456789012:user/eva"}
    world.client("eks").create_access_entry(**named, kubernetesGroups=["readers"])
    assert node.authenticate(eks_token.made(session, "runbook", world.server.url))["groups"] == ["readers"]
    iam.delete_access_key(UserName="eva", AccessKeyId=session.get_credentials().access_key)
    iam.detach_user_policy(UserName="eva", PolicyArn=access_keys.ADMINISTRATOR_POLICY)
    iam.delete_user(UserName="eva")
    later = eks_token.made(user(world, "eva"), "runbook", world.server.url)
    with pytest.raises(Refused, match="got a later one of the same name"):
        node.authenticate(later)
    world.client("eks").delete_access_entry(**named)
    world.client("eks").create_access_entry(**named)
    assert node.authenticate(later)["groups"] == []


@pytest.mark.parametrize(
    "username", ["system:kube-controller-manager", "eks:x", "{{SessionName}}", "a{{SessionNameRaw}}"]
)
def test_a_reserved_user_name_is_refused(world, username, refusal):
    world.active()
    world.client("iam").create_user(UserName="eva")
    named = {"clusterName": "runbook", "principalArn": "arn:aws:iam::123456789012:user/eva"}
    eks = world.client("eks")
    assert refusal(eks.create_access_entry, **named, username=username)[:2] == (400, "InvalidParameterException")
    eks.create_access_entry(**named, username="team:{{SessionName}}")
    assert refusal(eks.update_access_entry, **named, username=username)[:2] == (400, "InvalidParameterException")


def test_a_scope_has_no_wildcard_but_the_star():
    assert access_policies._matches("team-*-x", "team-a-b-x")
    for pattern in ("team-?", "team-[a-z]", "team", "*b"):
        assert not access_policies._matches(pattern, "team-a")
