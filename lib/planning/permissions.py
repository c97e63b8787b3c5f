"""Which permissions the caller lacks for a run, the plan and the clean-up, simulated by IAM."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from lib.aws.optional import NOT_KNOWN, try_read
from lib.aws.session import paginate
from lib.params import ROOT

if TYPE_CHECKING:
    from mypy_boto3_iam import IAMClient

PAGE = ROOT / "docs" / "eks.md"  # the only copy of the policy
BATCH = 40  # actions in one simulation
ROOT_USER = "root"


@dataclass(frozen=True)
class PermissionReport:
    """The missing actions with their resource; None if IAM refuses to simulate, with the reason in `why`."""

    missing: list[tuple[str, str]] | None
    why: str = ""


@cache
def required_actions() -> list[str]:
    """Return the actions of the minimal policy in docs/eks.md."""
    text = PAGE.read_text(encoding="utf-8").partition("```json\n")[2].partition("```")[0]
    return [action for statement in json.loads(text)["Statement"] for action in statement["Action"]]


def missing(iam: IAMClient, caller_arn: str, roles: list[str], actions: list[str] | None = None) -> PermissionReport:
    """Return which of `actions` (by default those of docs/eks.md) the caller lacks.

    Actions on roles are simulated on the ARNs `roles`, all others on "*". A role's session is simulated as its role.
    IAM may not see an organisation's policies. IAM API Reference: SimulatePrincipalPolicy.
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
            answer, why = try_read(partial(_simulated, iam, about))
            if answer is None:
                return PermissionReport(None, why)
            found += answer
    return PermissionReport(sorted(set(found)))


def _simulated(iam: IAMClient, about: dict[str, Any]) -> list[tuple[str, str]]:
    return [
        (one["EvalActionName"], one.get("EvalResourceName", "*"))
        for one in paginate(iam, "simulate_principal_policy", "EvaluationResults", **about)
        if one["EvalDecision"] != "allowed"
    ]


def _source(iam: IAMClient, arn: str) -> tuple[str | None, str]:
    """Return the user or role whose policies count; ROOT_USER for the account's root, which has all permissions."""
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
