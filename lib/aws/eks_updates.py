"""EKS's updates: what changes something that is there returns one, and it is over when DescribeUpdate says so.

Amazon EKS API Reference: DescribeUpdate, Update.
"""

from __future__ import annotations

from collections.abc import Callable

from lib.aws import health
from lib.aws.session import aws_errors
from lib.errors import AwsError
from lib.polling import wait

ENDED = ("Successful", "Failed", "Cancelled")

Tell = Callable[[float, str], None]  # seconds so far, status


@aws_errors()
def wait_update(
    eks, cluster: str, update: dict, what: str, deadline: float, *, tell: Tell | None = None, of: dict | None = None,
    **options,
) -> dict:  # fmt: skip
    """Return the update once it is Successful; AwsError with its errors if it failed, TimedOut after `deadline` s.

    `of` names what it is of, beside the cluster: {"nodegroupName": …} or {"addonName": …}. Options as for `until`.
    """
    named = {"name": cluster, "updateId": update["id"], **(of or {})}
    last: dict = update

    def look() -> str:
        nonlocal last
        last = eks.describe_update(**named)["update"]
        return last["status"]

    if update["status"] not in ENDED:
        wait(
            f"{what} to be updated ({update.get('type', 'update')})", look, lambda seen: seen in ENDED,
            deadline=deadline, tell=tell, fix="it goes on in AWS: run it again later", **options,
        )  # fmt: skip
    if last["status"] != "Successful":
        why = health.errors(last) or "no reason given"
        raise AwsError(f"expected the update of {what} to be Successful, got {last['status']}: {why}.")
    return last
