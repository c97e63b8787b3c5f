"""Whom IAM's roles trust, as their trust policies say."""

from __future__ import annotations

import json

from moto.iam.exceptions import NotFoundException
from moto.iam.models import iam_backends

from sandbox.iam.access_keys import ACCOUNT, PARTITION


def trusted(role_arn: str) -> list[tuple[set[str], set[str]]]:
    """Return, by statement that allows, which services a role trusts, and with which actions; [] of none there is."""
    try:
        document = json.loads(iam_backends[ACCOUNT][PARTITION].get_role_by_arn(role_arn).assume_role_policy_document)
    except NotFoundException:
        return []
    allowed = [one for one in document["Statement"] if one.get("Effect") == "Allow"]
    return [(_set(one.get("Principal", {}).get("Service", [])), _set(one.get("Action", []))) for one in allowed]


def _set(said: str | list[str]) -> set[str]:
    return {said} if isinstance(said, str) else set(said)
