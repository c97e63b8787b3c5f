"""The trust policies of IAM's roles: which services a role trusts, and which callers may assume it."""

from __future__ import annotations

import json

from moto.iam.models import Role

from sandbox.iam.access_keys import ACCOUNT, PARTITION, holder, iam
from sandbox.iam.policy_evaluation import ALLOWED, DENIED, as_list, effect, matches
from sandbox.iam.sigv4 import Identity

ASSUME, WEB_IDENTITY = "sts:AssumeRole", "sts:AssumeRoleWithWebIdentity"


def trusted(role_arn: str) -> list[tuple[set[str], set[str]]]:
    """Return (services, actions) of each allowing statement in a role's trust policy; [] if the role does not exist."""
    role = role_of(role_arn)
    document = json.loads(role.assume_role_policy_document) if role else {"Statement": []}
    allowing = [one for one in as_list(document["Statement"]) if one.get("Effect") == "Allow"]
    return [(_services(one), set(as_list(one.get("Action", [])))) for one in allowing]


def role_of(arn: str) -> Role | None:
    """Return the role with this ARN."""
    return next((role for role in list(iam().roles.values()) if role.arn == arn), None)


def may_assume(role: Role, identity: Identity, context: dict[str, str], identity_decision: str) -> bool:
    """Return whether a trust policy and the caller's own policies let the caller assume a role.

    A trust policy that names the caller suffices; one that names the account leaves it to the caller's policies.
    Source: IAM user guide, "Policy evaluation logic" in one account, and "Grant a user permissions to switch roles".
    """
    caller = holder(identity)
    account = {ACCOUNT, f"arn:{PARTITION}:iam::{ACCOUNT}:root", "*"}
    own = {identity.arn} | ({caller.arn} if caller else set())
    text = [role.assume_role_policy_document]
    named = effect(text, lambda one: _concerns(one, own, ASSUME, "AWS"), context)
    by_account = effect(text, lambda one: _concerns(one, own | account, ASSUME, "AWS"), context)
    if DENIED in (by_account, identity_decision):
        return False
    return named == ALLOWED or (by_account == ALLOWED and identity_decision == ALLOWED)


def trusts_web_identity(role: Role, provider_arn: str, context: dict[str, str]) -> bool:
    """Return whether a trust policy lets a subject of an identity provider assume the role.

    Args:
        role: the role.
        provider_arn: of the IAM identity provider.
        context: the condition keys, such as `<issuer without https://>:sub`.
    """
    text = [role.assume_role_policy_document]
    named = effect(text, lambda one: _concerns(one, {provider_arn}, WEB_IDENTITY, "Federated"), context)
    everybody = effect(text, lambda one: _concerns(one, {provider_arn, "*"}, WEB_IDENTITY, "Federated"), context)
    return named == ALLOWED and everybody != DENIED


def _concerns(statement: dict, names: set[str], action: str, kind: str) -> bool:
    """Return whether a statement is about an action by one of `names`; `kind` is their key of Principal."""
    actions = as_list(statement.get("Action", []))
    if not any(matches(pattern, action, True) for pattern in actions) and "NotAction" not in statement:
        return False
    if statement["Effect"] == "Deny" and ("NotPrincipal" in statement or "NotAction" in statement):
        return True  # nobody is an exception to such a Deny here
    principal = statement.get("Principal", {})
    kinds = principal if isinstance(principal, dict) else {kind: principal}
    chosen = [kind] if statement["Effect"] == "Allow" else kinds  # a Deny for everybody may be of another kind
    named = {name for one in chosen for name in as_list(kinds.get(one, []))}
    return "NotAction" not in statement and bool(names & named)


def _services(statement: dict) -> set[str]:
    principal = statement.get("Principal", {})
    return set(as_list(principal.get("Service", []))) if isinstance(principal, dict) else set()
