"""Before anything in an AWS account is written or deleted: is it the account that the params name?"""

from __future__ import annotations

from lib.aws import session
from lib.errors import AwsError
from lib.run import Run


def is_local(run: Run) -> bool:
    """Whether nothing can cost money: the AWS endpoint is not Amazon's, or the cluster exists already."""
    return bool(run.params.aws_endpoint_url) or run.params.cluster_source != "eks"


def check_account(run: Run) -> None:
    """Raise AwsError unless the caller's account is the one that the params name; a local endpoint has any account."""
    if is_local(run):
        return
    if problem := account_problem(run.params.account_id, session.whoami(run.aws("sts"))["account"]):
        raise AwsError(problem)


def account_problem(expected: str | None, actual: str) -> str:
    """Return what is wrong with the caller's account, as a sentence; "" if it is the expected one."""
    if expected is None:
        return f"The params name no account. Set account_id: if you mean account {actual}, write that."
    if expected != actual:
        return f"Your credentials are of account {actual}, the params name {expected}. Use credentials of {expected}."
    return ""
