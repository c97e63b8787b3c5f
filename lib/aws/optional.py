"""Reads that AWS may refuse: without the permission a value is "not known", and the plan goes on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lib.aws.session import aws_errors
from lib.errors import AwsError

NOT_KNOWN = "not known"


def try_read(read: Callable[[], Any]) -> tuple[Any, str]:
    """Return (the answer, ""), or (None, the reason in a few words) if AWS refuses or cannot answer."""
    try:
        with aws_errors():
            return read(), ""
    except AwsError as refused:
        return None, _short(refused)


def _short(error: AwsError) -> str:
    """Return the action that the caller lacks, or else AWS's code: a table has no room for the sentence."""
    if error.missing:
        return f"{NOT_KNOWN}: {error.missing} is not allowed"
    return f"{NOT_KNOWN}: {error.code or error}"
