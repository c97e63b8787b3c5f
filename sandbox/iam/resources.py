"""The resource of a call, and the further resources and permissions that AWS asks for: passed roles, tags, copies."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

from moto.eks.models import eks_backends
from moto.iam.models import User

from sandbox.iam.access_keys import ACCOUNT, PARTITION, holder, iam
from sandbox.iam.enforced import SERVICES
from sandbox.iam.policy_evaluation import UNKNOWN
from sandbox.iam.signed_call import Call, Unreadable

Permission = tuple[str, str, dict[str, str]]  # action, resource, values of condition keys
ROLE = re.compile(rf"arn:{PARTITION}:iam::[0-9]{{12}}:role/.+")
BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")  # S3 user guide, "Bucket naming rules"
NOT_PASSED = ("principalArn", "SourceArn", "resourceArn")  # parameters that name a role and hand it to nobody
ARN_OR_NAME = ("TableName",)  # parameters that take an object's ARN for its name: API_DescribeTable of DynamoDB
LINKED = {  # calls that create the service's service-linked role if the account has none
    "eks:CreateCluster": "eks.amazonaws.com",
    "eks:CreateNodegroup": "eks-nodegroup.amazonaws.com",
    "elasticloadbalancing:CreateLoadBalancer": "elasticloadbalancing.amazonaws.com",
}
RENAMED = ("iam:UpdateUser", "iam:UpdateGroup")  # API_UpdateUser: needs the permission on the new name too
S3_PARAMETERS = {  # parameters of S3 that need a permission of their own, on the call's resource
    "ObjectLockMode": "PutObjectRetention", "ObjectLockRetainUntilDate": "PutObjectRetention",
    "ObjectLockLegalHoldStatus": "PutObjectLegalHold", "Tagging": "PutObjectTagging",
    "BypassGovernanceRetention": "BypassGovernanceRetention", "ObjectOwnership": "PutBucketOwnershipControls",
    "ObjectLockEnabledForBucket": "PutBucketObjectLockConfiguration",
}  # fmt: skip
OWN_USER = {  # operations that are about the caller if they name no user: IAM API reference
    "CreateAccessKey", "CreateLoginProfile", "DeactivateMFADevice", "DeleteAccessKey", "DeleteLoginProfile",
    "DeleteServiceSpecificCredential", "DeleteSigningCertificate", "GetLoginProfile", "GetUser", "ListAccessKeys",
    "ListMFADevices", "ListSSHPublicKeys", "ListServiceSpecificCredentials", "ListSigningCertificates",
    "ResetServiceSpecificCredential", "UpdateAccessKey", "UpdateServiceSpecificCredential",
    "UpdateSigningCertificate", "UploadSigningCertificate",
}  # fmt: skip
VERSIONED = {"GetObject", "DeleteObject", "GetObjectTagging", "PutObjectTagging", "DeleteObjectTagging"}


def completed(call: Call) -> dict[str, Any]:
    """Return the call's parameters with what AWS derives from its caller, and with one way to write a copy's source.

    Raises:
        Unreadable: AWS derives nothing from this caller, or no bucket has such a name.
    """
    if call.service == "iam" and call.action in OWN_USER and "UserName" not in call.params:
        user = holder(call.identity)
        if not isinstance(user, User):
            raise Unreadable("expected a UserName, got none from a caller who is no user; name the user.")
        return {**call.params, "UserName": user.name}
    if call.service == "s3" and not BUCKET.fullmatch(call.params.get("Bucket", "none")):
        raise Unreadable(f"expected a bucket's name by S3's rules, got {call.params['Bucket'][:80]!r}.")
    if "CopySource" in call.params:
        bucket, key, version = _source(call.params["CopySource"])
        return {**call.params, "CopySource": quote(f"{bucket}/{key}") + (version and f"?versionId={quote(version)}")}
    return call.params


def permissions(call: Call) -> list[Permission]:
    """Return the permissions that a call needs, its own first.

    AWS needs further permissions if the call tags, copies, passes a role to a service, or is the first to a service.
    """
    found: list[Permission] = []
    resource = _resource(call)
    add = lambda action, on=resource, **context: found.append((action, on, context))  # noqa: E731
    if call.service == "s3":
        return list(_s3_permissions(call, resource))
    add(call.name)
    if call.service == "ec2" and "TagSpecifications" in call.params:
        add("ec2:CreateTags", UNKNOWN)
    if call.service == "iam" and "Tags" in call.params and call.action.startswith("Create"):
        add(f"iam:Tag{call.action.removeprefix('Create')}")
    if call.name in RENAMED:
        add(call.name, _renamed(call, resource))
    service = "ec2" if call.service == "iam" else call.service  # an instance profile's
    for role in _passed_roles(call):
        found.append(("iam:PassRole", role, {"iam:PassedToService": f"{service}.amazonaws.com"}))
    if call.service == "eks":
        if call.params.get("podIdentityAssociations"):
            add("eks:CreatePodIdentityAssociation")
        if call.params.get("launchTemplate"):
            add("ec2:RunInstances", UNKNOWN)
        if call.params.get("encryptionConfig"):
            add("kms:DescribeKey", UNKNOWN)
            add("kms:CreateGrant", UNKNOWN)
        if call.params.get("tags") and call.action.startswith("Create"):
            add("eks:TagResource")
    if call.name in LINKED and not _has_linked_role(LINKED[call.name]):
        found.append(("iam:CreateServiceLinkedRole", UNKNOWN, {"iam:AWSServiceName": LINKED[call.name]}))
    return found


def _s3_permissions(call: Call, resource: str) -> Iterator[Permission]:
    name = (SERVICES["s3"].permissions or {})[call.action]
    objects = call.params.get("Delete", {}).get("Objects") or [call.params]
    targets = [f"{resource}/{one['Key']}" if "Delete" in call.params else resource for one in objects]
    for one, target in zip(objects, targets, strict=True):  # DeleteObjects names several
        version = "VersionId" in one and name in VERSIONED
        yield f"s3:{name.replace('Object', 'ObjectVersion') if version else name}", target, {}
    for parameter, further in S3_PARAMETERS.items():
        if call.params.get(parameter):
            yield from ((f"s3:{further}", target, {}) for target in targets)
    if "CopySource" in call.params:
        bucket, key, source_version = _source(call.params["CopySource"])
        for read in ("GetObject", "GetObjectTagging"):
            action = read.replace("Object", "ObjectVersion") if source_version else read
            yield f"s3:{action}", f"arn:aws:s3:::{bucket}/{key}", {}


def _resource(call: Call) -> str:
    """Return the ARN of the call's resource, UNKNOWN if the sandbox cannot tell it."""
    params = dict(call.params)
    if call.service == "eks":
        params["cluster"] = params.get("clusterName") or params.get("name")
        if call.action.startswith("Create"):
            params = {"cluster": params["cluster"]}
    values = {name: value for name, value in params.items() if isinstance(value, str) and value}
    for parameter, form in SERVICES[call.service].resources:
        if parameter in values:
            is_arn = parameter in ARN_OR_NAME and values[parameter].startswith("arn:")
            return _arn(call, f"{{{parameter}}}" if is_arn else form, values)
    return UNKNOWN


def _arn(call: Call, form: str, values: dict[str, str]) -> str:
    try:
        end = form.format(**values)
    except KeyError:
        return UNKNOWN
    if end.startswith("arn:"):
        return end if _is_own(end, call.region) else UNKNOWN
    if call.service == "iam":
        return _existing(end) or f"arn:{PARTITION}:iam::{ACCOUNT}:{_with_path(end, values.get('Path', '/'))}"
    if call.service == "s3":
        return f"arn:aws:s3:::{end}"
    if form.startswith("{"):  # the parameter may be an ARN or not, and is not
        return UNKNOWN
    made = f"arn:{PARTITION}:{call.service}:{call.region}:{ACCOUNT}:{end}"
    return _eks_arn(call, values) or made if call.service == "eks" else made


def _renamed(call: Call, arn: str) -> str:
    """Return the ARN that a user or group has after the call, with its new path, its new name, or both."""
    folder, _, name = arn.rpartition("/")
    head, kind, path = folder.partition(f":{call.action.removeprefix('Update').lower()}")
    name = call.params.get(f"New{call.action.removeprefix('Update')}Name") or name
    return f"{head}{kind}{call.params.get('NewPath') or f'{path}/'}{name}"


def _is_own(arn: str, region: str) -> bool:
    """Return whether an ARN is the only one of its object: KMS ignores account and region, and has aliases of keys."""
    parts = arn.split(":", 5)
    return (
        len(parts) == 6
        and parts[1] == PARTITION
        and parts[3] in ("", region)
        and parts[4] in (ACCOUNT, PARTITION)
        and not parts[5].startswith("alias/")
    )


def _existing(end: str) -> str | None:
    """Return the ARN of a role, user or group by its kind and name: it may have a path."""
    kind, _, name = end.partition("/")
    holders: dict[str, Any] = {"role": iam().roles, "user": iam().users, "group": iam().groups}
    return next((one.arn for one in list(holders.get(kind, {}).values()) if one.name == name), None)


def _with_path(end: str, path: str) -> str:
    kind, _, name = end.partition("/")
    return f"{kind}{path}{name}"


def _eks_arn(call: Call, values: dict[str, str]) -> str | None:
    """Return the ARN, with its unique id, of an existing part of a cluster."""
    cluster: Any = eks_backends[ACCOUNT][call.region].clusters.get(values.get("cluster", ""))
    if cluster is None:
        return None
    if "nodegroupName" in values:
        return getattr(cluster.nodegroups.get(values["nodegroupName"]), "arn", None)
    if "addonName" in values:
        return getattr(cluster.addons.get(values["addonName"]), "addon_arn", None)
    if "principalArn" in values:
        return cluster.access.entries.get(values["principalArn"], {}).get("accessEntryArn")
    return None


def _passed_roles(call: Call) -> list[str]:
    """Return the roles that a call hands to a service: every role that it names, and those of instance profiles."""
    if call.name == "iam:AddRoleToInstanceProfile":
        return [_arn(call, "role/{RoleName}", call.params)]
    if call.service in ("iam", "sts"):
        return []
    profiles, found = list(iam().instance_profiles.values()), set()
    for name, value in _texts(call.params):
        if ROLE.fullmatch(value) and name not in NOT_PASSED:
            found.add(value)
        named = [one for one in profiles if value in (one.arn, one.name)] if name == "IamInstanceProfile" else []
        found |= {role.arn for one in named for role in one.roles}
    return sorted(found)


def _texts(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Yield every text in the parameters with the name of the parameter around it."""
    if isinstance(value, str):
        yield name, value
    elif isinstance(value, dict):
        for key, one in value.items():
            yield from _texts(one, name if name == "IamInstanceProfile" else key)
    elif isinstance(value, list):
        for one in value:
            yield from _texts(one, name)


def _source(text: str) -> tuple[str, str, str]:
    """Return bucket, key and version of a CopySource, as moto reads it."""
    parts = urlsplit(text)
    bucket, slash, key = unquote(parts.path).lstrip("/").partition("/")
    if parts.scheme or parts.netloc or not (bucket and slash and key) or bucket.startswith("arn:"):
        raise Unreadable(f"expected a copy's source as bucket/key, got {text[:60]!r}.")
    return bucket, key, parse_qs(parts.query).get("versionId", [""])[0]


def _has_linked_role(service: str) -> bool:
    return any(f"/aws-service-role/{service}/" in one.arn for one in iam().roles.values())
