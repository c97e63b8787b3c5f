"""What callers may do: their IAM policies are enforced on each call, and can be simulated.

Counted are policies attached to, and written into, users, their groups and roles. Resources are told apart for IAM's
roles, EKS, S3 and log groups; of other services a policy must say "*". Not counted: permissions boundaries, policies of
sessions, of organisations and of resources.
"""

from __future__ import annotations

from xml.sax.saxutils import escape

from moto.iam.models import IAMBackend, iam_backends

from sandbox.iam.access_keys import ACCOUNT, PARTITION
from sandbox.iam.policy_evaluation import ALLOWED, DENIED, decide
from sandbox.iam.signed_call import Call, Refusal

FREE = ("sts:GetCallerIdentity", "sts:GetSessionToken")  # nobody can be refused these
CODES = {"ec2": "UnauthorizedOperation", "iam": "AccessDenied", "sts": "AccessDenied", "s3": "AccessDenied"}
CODES |= {"elasticloadbalancing": "AccessDenied"}  # the others': AccessDeniedException
S3_NAMES = {  # calls whose permission has another name
    "HeadObject": "GetObject", "HeadBucket": "ListBucket", "ListObjects": "ListBucket", "ListObjectsV2": "ListBucket",
    "ListBuckets": "ListAllMyBuckets", "CreateMultipartUpload": "PutObject", "UploadPart": "PutObject",
    "CompleteMultipartUpload": "PutObject", "CopyObject": "PutObject", "DeleteObjects": "DeleteObject",
}  # fmt: skip
FIRST = {  # what makes a service's own role in an account that has none
    "eks:CreateCluster": "eks.amazonaws.com",
    "eks:CreateNodegroup": "eks-nodegroup.amazonaws.com",
    "elasticloadbalancing:CreateLoadBalancer": "elasticloadbalancing.amazonaws.com",
}
FORBIDDEN = "403 Forbidden"


def refused(call: Call) -> Refusal | None:
    """Return why the caller may not make this call; None where it may."""
    if call.name in FREE:
        return None
    documents = policies(call.identity.arn)
    for action, resource, about in wanted(call):
        said = decide(documents, action, resource, {**_about(call), **about})
        if said != ALLOWED:
            return _refusal(call, action, resource, said)
    return None


def wanted(call: Call) -> list[tuple[str, str, dict[str, str]]]:
    """Return what must be allowed for a call: the action, its resource, values of condition keys; itself comes first.

    AWS asks for more than the call's own name where it tags, hands a role to a service, or is a service's first call.
    """
    name = S3_NAMES.get(call.action, call.action) if call.service == "s3" else call.action
    found = [(f"{call.service}:{name}", _resource(call), {})]
    if call.service == "ec2" and any(key.startswith("TagSpecification") for key in call.form):
        found.append(("ec2:CreateTags", "*", {}))
    if call.service == "iam" and any(key.startswith("Tags.member") for key in call.form) and call.action != "TagRole":
        kind = call.action.removeprefix("Create")
        found.append((f"iam:Tag{kind}", _resource(call), {}))
    if call.service == "eks":
        found += [
            ("iam:PassRole", role, {"iam:PassedToService": "eks.amazonaws.com"}) for role in _roles_handed_over(call)
        ]
        if call.json.get("podIdentityAssociations"):
            found.append(("eks:CreatePodIdentityAssociation", _resource(call), {}))
        if call.json.get("launchTemplate"):
            found.append(("ec2:RunInstances", "*", {}))
        if call.json.get("encryptionConfig"):
            found += [("kms:DescribeKey", "*", {}), ("kms:CreateGrant", "*", {})]
        if call.json.get("tags") and call.action.startswith("Create"):
            found.append(("eks:TagResource", _resource(call), {}))
    if call.name in FIRST and not _has_own_role(FIRST[call.name]):
        found.append(("iam:CreateServiceLinkedRole", "*", {"iam:AWSServiceName": FIRST[call.name]}))
    return found


def policies(arn: str) -> list[str]:
    """Return the documents of the policies that a user, a role or a role's session has."""
    iam, (kind, *names) = _iam(), arn.rpartition(":")[2].split("/")
    if kind in ("role", "assumed-role"):
        name = names[-1] if kind == "role" else names[0]
        holders = [one for one in iam.roles.values() if one.name == name]
    else:
        holders = [one for one in iam.users.values() if one.arn == arn]
        holders += [group for group in iam.groups.values() if any(user in group.users for user in holders)]
    written = [text for holder in holders for text in holder.policies.values()]
    return written + [_document(one) for holder in holders for one in holder.managed_policies.values()]


def simulated(call: Call) -> str:
    """Return SimulatePrincipalPolicy's answer (XML): each action on each resource. IAM API reference."""
    documents, rows = policies(call.form.get("PolicySourceArn", "")), []
    context = _context(call)
    for action in call.list("ActionNames"):
        for resource in call.list("ResourceArns") or ["*"]:
            said = decide(documents, action, resource, context)
            rows.append(
                f"<member><EvalActionName>{escape(action)}</EvalActionName><EvalDecision>{said}</EvalDecision>"
                f"<EvalResourceName>{escape(resource)}</EvalResourceName><MatchedStatements/><MissingContextValues/>"
                "</member>"
            )
    return (
        '<SimulatePrincipalPolicyResponse xmlns="https://iam.amazonaws.com/doc/2010-05-08/">'
        f"<SimulatePrincipalPolicyResult><IsTruncated>false</IsTruncated><EvaluationResults>{''.join(rows)}"
        "</EvaluationResults></SimulatePrincipalPolicyResult></SimulatePrincipalPolicyResponse>"
    )


def known(arn: str) -> bool:
    """Whether there is such a user or role."""
    iam = _iam()
    return arn in {one.arn for one in (*iam.users.values(), *iam.roles.values())}


def _refusal(call: Call, action: str, resource: str, said: str) -> Refusal:
    why = (
        "with an explicit deny in an identity-based policy"
        if said == DENIED
        else f"because no identity-based policy allows the {action} action"
    )
    who = f"User: {call.identity.arn} is not authorized to perform: {action} on resource: {resource} {why}"
    code = CODES.get(call.service, "AccessDeniedException")
    message = f"You are not authorized to perform this operation. {who}" if call.service == "ec2" else who
    return Refusal(code, message, FORBIDDEN)


def _resource(call: Call) -> str:
    """The ARN of what the call is about; * where the sandbox does not tell."""
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


def _roles_handed_over(call: Call) -> list[str]:
    body = call.json
    nested = [one.get("roleArn") for one in body.get("podIdentityAssociations", []) if isinstance(one, dict)]
    asked = [body.get("roleArn"), body.get("nodeRole"), body.get("serviceAccountRoleArn"), *nested]
    return [one for one in asked if isinstance(one, str)]


def _about(call: Call) -> dict[str, str]:
    arn = call.identity.principal
    return {"aws:RequestedRegion": call.region, "aws:PrincipalArn": arn, "aws:PrincipalAccount": ACCOUNT}


def _context(call: Call) -> dict[str, str]:
    found, number = {}, 1
    while name := call.form.get(f"ContextEntries.member.{number}.ContextKeyName"):
        found[name] = call.form.get(f"ContextEntries.member.{number}.ContextKeyValues.member.1", "")
        number += 1
    return found


def _has_own_role(service: str) -> bool:
    return any(f"/aws-service-role/{service}/" in one.arn for one in _iam().roles.values())


def _document(policy) -> str:
    return next(one.document for one in policy.versions if one.version_id == policy.default_version_id)


def _role(name: str) -> str:
    return f"arn:{PARTITION}:iam::{ACCOUNT}:role/{name}"


def _iam() -> IAMBackend:
    return iam_backends[ACCOUNT][PARTITION]
