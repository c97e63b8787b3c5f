"""One call as the gate read it: service, action, region, caller and parameters."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import Any

from sandbox.iam.sigv4 import Identity


class Unreadable(Exception):
    """A call that AWS's model of the service does not have, or writes in another way; one sentence says which."""


@dataclass(frozen=True)
class Call:
    """A call. `service` is the prefix of its actions in policies, `params` are named as in AWS's API model."""

    service: str
    action: str
    region: str
    identity: Identity
    params: dict[str, Any]
    id: str = field(default_factory=lambda: str(uuid.uuid4()))

    @property
    def name(self) -> str:
        """Service and operation, such as ec2:CreateVpc: for most operations also the name of their permission."""
        return f"{self.service}:{self.action}"


@dataclass(frozen=True)
class Refusal:
    """Why a call is refused: AWS's error code and message, and the HTTP status."""

    code: str
    message: str
    status: str = "400 Bad Request"


Answer = tuple[str, str] | Refusal  # content type and text, or a refusal
