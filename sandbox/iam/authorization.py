"""Enforces the caller's IAM policies on each call, and simulates them.

Managed and inline policies of users, their groups and roles count. Calls on IAM's roles, EKS, S3 and log groups have
their resource's ARN; calls on other services need a policy for "*". Permissions boundaries and the policies of
sessions, organisations and resources do not count.
"""

from __future__ import annotations

from xml.sax.saxutils import escape

from moto.iam.models import Group, IAMBackend, ManagedPolicy, Role, User, iam_backends

from sandbox.iam.access_keys import ACCOUNT, PARTITION
from sandbox.iam.policy_evaluation import ALLOWED, DENIED, decide
from sandbox.iam.signed_call import Call, Refusal

FREE = ("sts:GetCallerIdentity", "sts:GetSessionToken")  # need no permission: API_GetCallerIdentity of STS
CODES = {"ec2": "UnauthorizedOperation", "iam": "AccessDenied", "sts": "AccessDenied", "s3": "AccessDenied"}
CODES |= {"elasticloadbalancing": "AccessDenied"}  # other services: AccessDeniedException
S3_NAMES = {  # calls whose permission has another name: "Required permissions for Amazon S3 API operations"
    "HeadObject": "GetObject", "HeadBucket": "ListBucket", "ListObjects": "ListBucket", "ListObjectsV2": "ListBucket",
    "ListBuckets": "ListAllMyBuckets", "CreateMultipartUpload": "PutObject", "UploadPart": "PutObject",
    "CompleteMultipartUpload": "PutObject", "CopyObject": "PutObject", "DeleteObjects": "DeleteObject",
}  # fmt: skip
LINKED = {  # calls that create the service's service-linked role if the account has none
    "eks:CreateCluster": "eks.amazonaws.com",
    "eks:CreateNodegroup": "eks-nodegroup.amazonaws.com",
    "elasticloadbalancing:CreateLoadBalancer": "elasticloadbalancing.amazonaws.com",
}
FORBIDDEN = "403 Forbidden"


def refusal(call: Call) -> Refusal | None:
    """Return why the caller may not make this call, or None."""
    if call.name in FREE:
        return None
    documents = policies(call.identity.arn)
    for action, resource, context in permissions(call):
        decision = decide(documents, action, resource, {**_context(call), **context})
        if decision != ALLOWED:
            return _refusal(call, action, resource, decision)
    return None


def permissions(call: Call) -> list[tuple[str, str, dict[str, str]]]:
    """Return the permissions that a call needs, its own first: (action, resource, values of condition keys).

    AWS needs further permissions if the call tags, passes a role to a service, or is the first call to a service.
    """
    name = S3_NAMES.get(call.action, call.action) if call.service == "s3" else call.action
    found: list[tuple[str, str, dict[str, str]]] = [(f"{call.service}:{name}", _resource(call), {})]
    if call.service == "ec2" and any(key.startswith("TagSpecification") for key in call.form):
        found.append(("ec2:CreateTags", "*", {}))
    if call.service == "iam" and any(key.startswith("Tags.member") for key in call.form) and call.action != "TagRole":
        kind = call.action.removeprefix("Create")
        found.append((f"iam:Tag{kind}", _resource(call), {}))
    if call.service == "eks":
        found += [("iam:PassRole", role, {"iam:PassedToService": "eks.amazonaws.com"}) for role in _passed_roles(call)]
        if call.json.get("podIdentityAssociations"):
            found.append(("eks:CreatePodIdentityAssociation", _resource(call), {}))
        if call.json.get("launchTemplate"):
            found.append(("ec2:RunInstances", "*", {}))
        if call.json.get("encryptionConfig"):
            found += [("kms:DescribeKey", "*", {}), ("kms:CreateGrant", "*", {})]
        if call.json.get("tags") and call.action.startswith("Create"):
            found.append(("eks:TagResource", _resource(call), {}))
    if call.name in LINKED and not _has_linked_role(LINKED[call.name]):
        found.append(("iam:CreateServiceLinkedRole", "*", {"iam:AWSServiceName": LINKED[call.name]}))
    return found


def policies(arn: str) -> list[str]:
    """Return the policy documents of a user, a role or a role's session."""
    iam, (kind, *names) = _iam(), arn.rpartition(":")[2].split("/")
    if kind in ("role", "assumed-role"):
        name = names[-1] if kind == "role" else names[0]
        holders: list[Role | User | Group] = [one for one in iam.roles.values() if one.name == name]
    else:
        users = [one for one in iam.users.values() if one.arn == arn]
        groups = [group for group in iam.groups.values() if any(user in group.users for user in users)]
        holders = [*users, *groups]
    inline = [text for holder in holders for text in holder.policies.values()]
    return inline + [_document(one) for holder in holders for one in holder.managed_policies.values()]


def simulation(call: Call) -> str:
    """Return SimulatePrincipalPolicy's XML: a decision for each action on each resource.

    Source: IAM API reference, API_SimulatePrincipalPolicy.
    """
    documents, rows = policies(call.form.get("PolicySourceArn", "")), []
    context = _simulated_context(call)
    for action in call.list("ActionNames"):
        for resource in call.list("ResourceArns") or ["*"]:
            decision = decide(documents, action, resource, context)
            rows.append(
                f"<member><EvalActionName>{escape(action)}</EvalActionName><EvalDecision>{decision}</EvalDecision>"
                f"<EvalResourceName>{escape(resource)}</EvalResourceName><MatchedStatements/><MissingContextValues/>"
                "</member>"
            )
    return (
        '<SimulatePrincipalPolicyResponse xmlns="https://iam.amazonaws.com/doc/2010-05-08/">'
        f"<SimulatePrincipalPolicyResult><IsTruncated>false</IsTruncated><EvaluationResults>{''.join(rows)}"
        "</EvaluationResults></SimulatePrincipalPolicyResult></SimulatePrincipalPolicyResponse>"
    )


def known(arn: str) -> bool:
    """Return whether a user or role with this ARN exists."""
    iam = _iam()
    return arn in {user.arn for user in iam.users.values()} | {role.arn for role in iam.roles.values()}


def _refusal(call: Call, action: str, resource: str, decision: str) -> Refusal:
    why = (
        "with an explicit deny in an identity-based policy"
        if decision == DENIED
        else f"because no identity-based policy allows the {action} action"
    )
    who = f"User: {call.identity.arn} is not authorized to perform: {action} on resource: {resource} {why}"
    code = CODES.get(call.service, "AccessDeniedException")
    message = f"You are not authorized to perform this operation. {who}" if call.service == "ec2" else who
    return Refusal(code, message, FORBIDDEN)


def _resource(call: Call) -> str:
    """Return the ARN of the call's resource, * for a service without resources in the sandbox."""
    account = f"{call.region}:{ACCOUNT}"
    if call.service == "iam" and "RoleName" in call.form:
        found = _iam().roles.values()
        return next((one.arn for one in found if one.name == call.form["RoleName"]), _role(call.form["RoleName"]))
    if call.service == "iam" and "OpenIDConnectProviderArn" in call.form:
        return call.form["OpenIDConnectProviderArn"]
    if call.service == "eks" and call.parts[:1] == ["clusters"]:
        name, *rest = [*call.parts[1:], ""] if call.parts[1:] else [call.json.get("name", "*"), ""]
        if rest[0] == "node-groups" and rest[1]:
            return f"arn:aws:eks:{account}:nodegroup/{name}/{rest[1]}/*"
        return f"arn:aws:eks:{account}:cluster/{name}" if name != "*" else "*"
    if call.service == "s3":
        return f"arn:aws:s3:::{'/'.join(call.parts)}" if call.parts else "*"
    if call.service == "logs" and (group := call.json.get("logGroupName")):
        return f"arn:aws:logs:{account}:log-group:{group}"
    return "*"


def _passed_roles(call: Call) -> list[str]:
    body = call.json
    nested = [one.get("roleArn") for one in body.get("podIdentityAssociations", []) if isinstance(one, dict)]
    asked = [body.get("roleArn"), body.get("nodeRole"), body.get("serviceAccountRoleArn"), *nested]
    return [one for one in asked if isinstance(one, str)]


def _context(call: Call) -> dict[str, str]:
    arn = call.identity.principal
    return {"aws:RequestedRegion": call.region, "aws:PrincipalArn": arn, "aws:PrincipalAccount": ACCOUNT}


def _simulated_context(call: Call) -> dict[str, str]:
    found, number = {}, 1
    while name := call.form.get(f"ContextEntries.member.{number}.ContextKeyName"):
        found[name] = call.form.get(f"ContextEntries.member.{number}.ContextKeyValues.member.1", "")
        number += 1
    return found


def _has_linked_role(service: str) -> bool:
    return any(f"/aws-service-role/{service}/" in one.arn for one in _iam().roles.values())


def _document(policy: ManagedPolicy) -> str:
    return next(one.document for one in policy.versions if one.version_id == policy.default_version_id)


def _role(name: str) -> str:
    return f"arn:{PARTITION}:iam::{ACCOUNT}:role/{name}"


def _iam() -> IAMBackend:
    return iam_backends[ACCOUNT][PARTITION]
