"""EKS's updates: a call that changes an object returns one, and DescribeUpdate says when it has ended.

Amazon EKS API Reference: DescribeUpdate, Update.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from lib.aws import health
from lib.aws.session import aws_errors
from lib.errors import AwsError
from lib.polling import wait

if TYPE_CHECKING:
    from mypy_boto3_eks import EKSClient

ENDED = ("Successful", "Failed", "Cancelled")


@aws_errors()
def wait_update(
    eks: EKSClient,
    cluster: str,
    update: Any,
    what: str,
    deadline: float,
    *,
    tell: Callable[[float, str], None] | None = None,
    of: dict[str, str] | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Return the update once it is Successful.

    Args:
        eks: boto3's EKS client.
        cluster: the cluster's name.
        update: the `update` of EKS's response.
        what: the updated object, for messages.
        deadline: seconds.
        tell: receives the seconds so far and the status.
        of: {"nodegroupName": …} or {"addonName": …}, if it is not the cluster's own update.
        **options: those of lib.polling.until.

    Raises:
        AwsError: the update failed; with EKS's errors.
        TimedOut: it did not end in time.
    """
    request = {"name": cluster, "updateId": update["id"], **(of or {})}
    last: dict[str, Any] = dict(update)

    def status() -> str:
        last.update(eks.describe_update(**request)["update"])
        return last["status"]

    if update["status"] not in ENDED:
        wait(
            f"{what} to be updated ({update.get('type', 'update')})", status, lambda seen: seen in ENDED,
            deadline=deadline, tell=tell, fix="EKS goes on by itself: run it again later", **options,
        )  # fmt: skip
    if last["status"] != "Successful":
        reason = health.errors(last) or "no reason given"
        raise AwsError(f"expected the update of {what} to be Successful, got {last['status']}: {reason}.")
    return last
