"""Enforces the caller's IAM policies on each call, and simulates them.

Managed and inline policies of users, their groups and roles count, and the policies of a role's session. A call whose
resource the sandbox cannot tell needs a policy for "*". sandbox/iam/enforced.py lists what the sandbox does not enforce
and so refuses, such as permissions boundaries. Policies of organisations do not exist here.
"""

from __future__ import annotations

import re
from xml.sax.saxutils import escape

from moto.iam.models import ManagedPolicy, Role, User

from sandbox.iam.access_keys import ACCOUNT, holder, iam
from sandbox.iam.enforced import SERVICES
from sandbox.iam.policy_evaluation import ALLOWED, DENIED, NOT_ALLOWED, decide
from sandbox.iam.resources import permissions
from sandbox.iam.signed_call import Call, Refusal
from sandbox.iam.trust_policies import WEB_IDENTITY, may_assume, role_of

# Need no permission: API_GetCallerIdentity of STS; web_identity.py, which decides by the token and the trust policy
FREE = ("sts:GetCallerIdentity", WEB_IDENTITY)
CODES = {"ec2": "UnauthorizedOperation", "iam": "AccessDenied", "sts": "AccessDenied", "s3": "AccessDenied"}
CODES |= {"elasticloadbalancing": "AccessDenied"}  # other services: AccessDeniedException
FORBIDDEN = "403 Forbidden"
SESSION_NAME = re.compile(r"[\w+=,.@-]{2,64}", re.ASCII)  # API_AssumeRole


def not_enforced(call: Call) -> Refusal | None:
    """Return why the sandbox refuses a call: nothing enforces what it asks for."""
    service = SERVICES[call.service]
    unknown = service.permissions is not None and call.action not in service.permissions
    parts = [call.action, *(name for name in call.params if call.params[name] is not None)]
    found = call.action if unknown else next((part for part in parts if part in service.refused), None)
    if not found:
        return None
    message = f"The sandbox enforces nothing of {call.service}'s {found}, and so refuses it; docs/sandbox.md says why."
    return Refusal("NotImplemented", message, "501 Not Implemented")


def refusal(call: Call) -> Refusal | None:
    """Return why the caller may not make this call, or None."""
    if call.name in FREE:
        return None
    for action, resource, context in permissions(call):
        decision = _decision(call, action, resource, context)
        if call.name == "sts:AssumeRole":
            decision = _trust(call, decision)
        if decision != ALLOWED:
            return _refusal(call, action, resource, decision)
    return None


def policies(owner: User | Role | None) -> list[str]:
    """Return the policy documents of a user or role."""
    if owner is None:
        return []
    groups = [group for group in list(iam().groups.values()) if owner in group.users]
    holders = [owner, *groups]
    inline = [text for one in holders for text in one.policies.values()]
    return inline + [document(policy) for one in holders for policy in one.managed_policies.values()]


def simulation(call: Call) -> str:
    """Return SimulatePrincipalPolicy's XML: a decision for each action on each resource.

    Source: IAM API reference, API_SimulatePrincipalPolicy.
    """
    documents = policies(user_or_role(call.params["PolicySourceArn"])) + call.params.get("PolicyInputList", [])
    entries = call.params.get("ContextEntries", [])
    context = {one["ContextKeyName"]: value for one in entries for value in one.get("ContextKeyValues", [])[:1]}
    rows = "".join(
        f"<member><EvalActionName>{escape(action)}</EvalActionName>"
        f"<EvalDecision>{decide(documents, action, resource, context)}</EvalDecision>"
        f"<EvalResourceName>{escape(resource)}</EvalResourceName><MatchedStatements/><MissingContextValues/></member>"
        for action in call.params["ActionNames"]
        for resource in call.params.get("ResourceArns") or ["*"]
    )
    return (
        '<SimulatePrincipalPolicyResponse xmlns="https://iam.amazonaws.com/doc/2010-05-08/">'
        f"<SimulatePrincipalPolicyResult><IsTruncated>false</IsTruncated><EvaluationResults>{rows}"
        "</EvaluationResults></SimulatePrincipalPolicyResult></SimulatePrincipalPolicyResponse>"
    )


def user_or_role(arn: str) -> User | Role | None:
    """Return the user or role with this ARN."""
    holders: list[User | Role] = [*iam().users.values(), *iam().roles.values()]
    return next((one for one in holders if one.arn == arn), None)


def document(policy: ManagedPolicy) -> str:
    """Return the default version of a managed policy."""
    return next(one.document for one in policy.versions if one.version_id == policy.default_version_id)


def _decision(call: Call, action: str, resource: str, more: dict[str, str]) -> str:
    owner = holder(call.identity)
    context = {**_context(call, owner), **more}
    decisions = [decide(policies(owner), action, resource, context)]
    if call.identity.session_policies:  # they take rights away, and give none
        decisions.append(decide(call.identity.session_policies, action, resource, context))
    return next((one for one in (DENIED, NOT_ALLOWED) if one in decisions), ALLOWED)


def _trust(call: Call, decision: str) -> str:
    """Return the decision of AssumeRole, for which the role's trust policy counts too."""
    role, name = role_of(call.params["RoleArn"]), call.params.get("RoleSessionName", "")
    context = _context(call, holder(call.identity)) | {"sts:RoleSessionName": name}
    if "ExternalId" in call.params:
        context["sts:ExternalId"] = call.params["ExternalId"]
    allowed_by_session = decision == ALLOWED or not call.identity.session_policies
    if role and allowed_by_session and SESSION_NAME.fullmatch(name):
        return ALLOWED if may_assume(role, call.identity, context, decision) else NOT_ALLOWED
    return DENIED if decision == DENIED else NOT_ALLOWED


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


def _context(call: Call, owner: User | Role | None) -> dict[str, str]:
    arn = owner.arn if owner else call.identity.principal
    context = {"aws:RequestedRegion": call.region, "aws:PrincipalArn": arn, "aws:PrincipalAccount": ACCOUNT}
    context["aws:userid"] = call.identity.user_id
    return context | ({"aws:username": owner.name} if isinstance(owner, User) else {})
