"""IAM roles for the cluster, its nodes and its add-ons.

IAM API Reference: CreateRole, UpdateAssumeRolePolicy, AttachRolePolicy, DeleteRole.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from lib.aws.session import aws_errors, paginate
from lib.aws.tags import check_owned, tag_dict, tag_list
from lib.ensured import Action, Ensured

if TYPE_CHECKING:
    from mypy_boto3_iam import IAMClient

POD_IDENTITY = "pods.eks.amazonaws.com"  # the service that assumes a role for pods: EKS Pod Identity


def create_request(name: str, service: str, tags: dict[str, str]) -> dict[str, Any]:
    """Return what CreateRole gets: the role's name, its trust policy and its tags."""
    return {"RoleName": name, "AssumeRolePolicyDocument": json.dumps(trust_policy(service)), "Tags": tag_list(tags)}


@aws_errors()
def ensure_role(iam: IAMClient, name: str, service: str, policies: list[str], tags: dict[str, str]) -> Ensured:
    """Create or update a role and attach its managed policies.

    Args:
        iam: boto3's IAM client.
        name: the role's name.
        service: the service that assumes the role, e.g. eks.amazonaws.com.
        policies: ARNs of managed policies; other attached policies stay.
        tags: the runbook's tags.

    Returns:
        The role as GetRole describes it, and "created", "changed" or "unchanged".

    Raises:
        AwsError: a role of this name exists without these tags, or AWS refuses.
    """
    trust = trust_policy(service)
    role = _role(iam, name)
    if role is None:
        iam.create_role(**create_request(name, service, tags))
        changes = ["created"]
    else:
        check_owned(f"role {name}", tag_dict(role.get("Tags", [])), tags)
        changes = [] if role["AssumeRolePolicyDocument"] == trust else ["trust"]
        if changes:
            iam.update_assume_role_policy(RoleName=name, PolicyDocument=json.dumps(trust))
    for policy in sorted(set(policies) - set(attached_policies(iam, name))):
        iam.attach_role_policy(RoleName=name, PolicyArn=policy)
        changes.append(policy)
    action: Action = "created" if "created" in changes else "changed" if changes else "unchanged"
    return Ensured(role if role and not changes else get_role(iam, name), action)


@aws_errors()
def get_role(iam: IAMClient, name: str) -> dict[str, Any]:
    """Return a role as GetRole describes it; AwsError if it does not exist."""
    return dict(iam.get_role(RoleName=name)["Role"])


@aws_errors()
def delete_role(iam: IAMClient, name: str, tags: dict[str, str]) -> str:
    """Detach a role's policies and delete it; return "deleted" or "absent". AwsError if it lacks these tags."""
    role = _role(iam, name)
    if role is None:
        return "absent"
    check_owned(f"role {name}", tag_dict(role.get("Tags", [])), tags)
    for policy in attached_policies(iam, name):
        iam.detach_role_policy(RoleName=name, PolicyArn=policy)
    iam.delete_role(RoleName=name)
    return "deleted"


@aws_errors()
def find_role(iam: IAMClient, name: str) -> dict[str, Any] | None:
    """Return a role as GetRole describes it, or None."""
    return _role(iam, name)


@aws_errors()
def attached_policies(iam: IAMClient, name: str) -> list[str]:
    """Return the ARNs of a role's managed policies."""
    found = paginate(iam, "list_attached_role_policies", "AttachedPolicies", RoleName=name)
    return [policy["PolicyArn"] for policy in found]


def trust_policy(service: str) -> dict[str, Any]:
    """Return the policy that lets `service` assume a role; EKS Pod Identity also tags the session."""
    action = ["sts:AssumeRole", "sts:TagSession"] if service == POD_IDENTITY else "sts:AssumeRole"
    statement = {"Effect": "Allow", "Principal": {"Service": service}, "Action": action}
    return {"Version": "2012-10-17", "Statement": [statement]}


def _role(iam: IAMClient, name: str) -> dict[str, Any] | None:
    try:
        return dict(iam.get_role(RoleName=name)["Role"])
    except iam.exceptions.NoSuchEntityException:
        return None
