"""Questions to AWS that may be refused: whoever may not ask gets "not known", and the plan goes on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lib.aws.session import aws_errors
from lib.errors import AwsError

NOT_KNOWN = "not known"


def try_read(ask: Callable[[], Any]) -> tuple[Any, str]:
    """Return (the answer, ""), or (None, why there is none) where AWS refuses or cannot tell."""
    try:
        with aws_errors():
            return ask(), ""
    except AwsError as refused:
        return None, _short(refused)


def _short(error: AwsError) -> str:
    """Return the action that the caller lacks, or else AWS's code: a table has no room for the sentence."""
    if error.missing:
        return f"{NOT_KNOWN}: {error.missing} is not allowed"
    return f"{NOT_KNOWN}: {error.code or error}"
