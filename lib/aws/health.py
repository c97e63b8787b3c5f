"""What EKS says ails a thing, in words: its own code and message, and what to do (health.yml)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

import yaml

DATA = Path(__file__).with_name("health.yml")
LONG = 200  # characters of EKS's own message that are told


@cache
def advice() -> Mapping[str, str]:
    """Return what to do, by the code of an issue."""
    return yaml.safe_load(DATA.read_text(encoding="utf-8"))


def issues(found: Mapping) -> str:
    """Return the issues of a cluster, node group or add-on, as EKS describes it; "" where it has none."""
    told = found.get("health", {}).get("issues", [])
    return "; ".join(_told(one["code"], one.get("message", "")) for one in told)


def errors(update: Mapping) -> str:
    """Return the errors of an update, as EKS describes it; "" where it has none."""
    return "; ".join(_told(one["errorCode"], one.get("errorMessage", "")) for one in update.get("errors", []))


def _told(code: str, message: str) -> str:
    plain = " ".join(message.split())[:LONG].rstrip(". ")
    do = advice().get(code)
    return f"{code}: {plain}" + (f" ({do})" if do else "")
