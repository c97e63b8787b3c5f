"""The services that IAM's roles trust, by their trust policies."""

from __future__ import annotations

import json

from moto.iam.exceptions import NotFoundException
from moto.iam.models import iam_backends

from sandbox.iam.access_keys import ACCOUNT, PARTITION


def trusted(role_arn: str) -> list[tuple[set[str], set[str]]]:
    """Return (services, actions) of each allowing statement in a role's trust policy; [] if the role does not exist."""
    try:
        document = json.loads(iam_backends[ACCOUNT][PARTITION].get_role_by_arn(role_arn).assume_role_policy_document)
    except NotFoundException:
        return []
    allowing = [one for one in document["Statement"] if one.get("Effect") == "Allow"]
    return [(_set(one.get("Principal", {}).get("Service", [])), _set(one.get("Action", []))) for one in allowing]


def _set(value: str | list[str]) -> set[str]:
    return {value} if isinstance(value, str) else set(value)
