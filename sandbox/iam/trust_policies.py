"""The trust policies of IAM's roles: which services a role trusts, and which callers may assume it."""

from __future__ import annotations

import json

from moto.iam.models import Role, iam_backends

from sandbox.iam.access_keys import ACCOUNT, PARTITION, holder
from sandbox.iam.policy_evaluation import ALLOWED, DENIED, as_list, effect, matches
from sandbox.iam.sigv4 import Identity

ASSUME = "sts:AssumeRole"


def trusted(role_arn: str) -> list[tuple[set[str], set[str]]]:
    """Return (services, actions) of each allowing statement in a role's trust policy; [] if the role does not exist."""
    role = role_of(role_arn)
    document = json.loads(role.assume_role_policy_document) if role else {"Statement": []}
    allowing = [one for one in as_list(document["Statement"]) if one.get("Effect") == "Allow"]
    return [(_services(one), set(as_list(one.get("Action", [])))) for one in allowing]


def role_of(arn: str) -> Role | None:
    """Return the role with this ARN."""
    return next((role for role in list(iam_backends[ACCOUNT][PARTITION].roles.values()) if role.arn == arn), None)


def may_assume(role: Role, identity: Identity, context: dict[str, str], identity_decision: str) -> bool:
    """Return whether a trust policy and the caller's own policies let the caller assume a role.

    A trust policy that names the caller suffices; one that names the account leaves it to the caller's policies.
    Source: IAM user guide, "Policy evaluation logic" in one account, and "Grant a user permissions to switch roles".
    """
    caller = holder(identity)
    account = {ACCOUNT, f"arn:{PARTITION}:iam::{ACCOUNT}:root", "*"}
    own = {identity.arn} | ({caller.arn} if caller else set())
    text = [role.assume_role_policy_document]
    named = effect(text, lambda one: _concerns(one, own), context)
    by_account = effect(text, lambda one: _concerns(one, own | account), context)
    if DENIED in (by_account, identity_decision):
        return False
    return named == ALLOWED or (by_account == ALLOWED and identity_decision == ALLOWED)


def _concerns(statement: dict, names: set[str]) -> bool:
    actions = as_list(statement.get("Action", []))
    if not any(matches(pattern, ASSUME, True) for pattern in actions) and "NotAction" not in statement:
        return False
    if statement["Effect"] == "Deny" and ("NotPrincipal" in statement or "NotAction" in statement):
        return True  # nobody is an exception to such a Deny here
    principal = statement.get("Principal", {})
    aws = as_list(principal.get("AWS", [])) if isinstance(principal, dict) else as_list(principal)
    return "NotAction" not in statement and bool(names & set(aws))


def _services(statement: dict) -> set[str]:
    principal = statement.get("Principal", {})
    return set(as_list(principal.get("Service", []))) if isinstance(principal, dict) else set()
