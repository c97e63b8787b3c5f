"""What the caller may not do of what a run, the plan and the clean-up call: asked of IAM, where IAM may be asked."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache

from lib.aws.optional import NOT_KNOWN, try_read
from lib.aws.session import paginate
from lib.params import ROOT

PAGE = ROOT / "docs" / "eks.md"  # where the policy stands, once
BATCH = 40  # actions in one question
ROOT_USER = "root"


@dataclass(frozen=True)
class PermissionReport:
    """Which actions are missing, on what; None where that could not be asked, and `why`."""

    missing: list[tuple[str, str]] | None
    why: str = ""


@cache
def required_actions() -> list[str]:
    """Return the actions of the least policy in docs/eks.md."""
    text = PAGE.read_text(encoding="utf-8").partition("```json\n")[2].partition("```")[0]
    return [action for statement in json.loads(text)["Statement"] for action in statement["Action"]]


def missing(iam, caller_arn: str, roles: list[str], actions: list[str] | None = None) -> PermissionReport:
    """Return what the caller lacks of `actions`, all of docs/eks.md's by default, and on what.

    Actions on roles are asked for on the ARNs `roles`, all others on "*". What an organisation's policies take away may
    be unseen. AWS: SimulatePrincipalPolicy, IAM API; a session of a role is asked for as its role.
    """
    source, why = _source(iam, caller_arn)
    if source is None:
        return PermissionReport(None, why)
    if source == ROOT_USER:
        return PermissionReport([])
    asked, found = required_actions() if actions is None else actions, []
    for resources, mine in (
        (roles, [one for one in asked if _on_roles(one)]),
        (["*"], [one for one in asked if not _on_roles(one)]),
    ):
        for start in range(0, len(mine), BATCH):
            about = {"PolicySourceArn": source, "ActionNames": mine[start : start + BATCH], "ResourceArns": resources}
            answer, why = try_read(lambda about=about: _simulated(iam, about))
            if answer is None:
                return PermissionReport(None, why)
            found += answer
    return PermissionReport(sorted(set(found)))


def _simulated(iam, about: dict) -> list[tuple[str, str]]:
    return [
        (one["EvalActionName"], one.get("EvalResourceName", "*"))
        for one in paginate(iam, "simulate_principal_policy", "EvaluationResults", **about)
        if one["EvalDecision"] != "allowed"
    ]


def _source(iam, arn: str) -> tuple[str | None, str]:
    """The user or role whose policies count; ROOT_USER for the account's root, who may all."""
    kind, _, rest = arn.partition(":assumed-role/")
    if rest:  # its ARN lacks the role's path, which the role itself knows
        role = rest.partition("/")[0]
        found, _ = try_read(lambda: iam.get_role(RoleName=role)["Role"]["Arn"])
        return found or f"{kind.replace(':sts:', ':iam:')}:role/{role}", ""
    if arn.endswith(":root"):
        return ROOT_USER, ""
    return (arn, "") if ":user/" in arn else (None, f"{NOT_KNOWN}: IAM answers for users and roles, this is {arn}")


def _on_roles(action: str) -> bool:
    return action.startswith("iam:") and "Role" in action and "ServiceLinked" not in action
