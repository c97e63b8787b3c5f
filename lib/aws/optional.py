"""Questions to AWS that may be refused: whoever may not ask gets "not known", and the plan goes on."""

from __future__ import annotations

import re
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
        return None, _short(str(refused))


def _short(sentence: str) -> str:
    """What a table has room for: the action that is lacked, or else AWS's code."""
    if lacked := re.search(r"give the caller ([\w-]+:\w+)", sentence):
        return f"{NOT_KNOWN}: {lacked[1]} is not allowed"
    return f"{NOT_KNOWN}: {sentence.partition(', got ')[2].partition(':')[0] or sentence}"
