"""Health issues and update errors as EKS reports them: code, message, and what to do (health.yml)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

DATA = Path(__file__).with_name("health.yml")
MESSAGE = 200  # characters of EKS's own message that are quoted


@cache
def advice() -> Mapping[str, str]:
    """Return what to do, by the code of an issue."""
    return yaml.safe_load(DATA.read_text(encoding="utf-8"))


def issues(found: Mapping[str, Any]) -> str:
    """Return the issues of a cluster, node group or add-on, as EKS describes it; "" if it has none."""
    listed = found.get("health", {}).get("issues", [])
    return "; ".join(_sentence(issue["code"], issue.get("message", "")) for issue in listed)


def errors(update: Mapping[str, Any]) -> str:
    """Return the errors of an update, as EKS describes it; "" if it has none."""
    return "; ".join(_sentence(error["errorCode"], error.get("errorMessage", "")) for error in update.get("errors", []))


def _sentence(code: str, message: str) -> str:
    plain = " ".join(message.split())[:MESSAGE].rstrip(". ")
    fix = advice().get(code)
    return f"{code}: {plain}" + (f" ({fix})" if fix else "")
