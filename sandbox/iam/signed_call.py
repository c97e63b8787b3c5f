"""One call as it reached the gate: service, action, caller and parameters."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from urllib.parse import parse_qs, unquote

from sandbox.iam.sigv4 import Identity


@dataclass(frozen=True)
class Call:
    """A signed call; `action` is spelled as in IAM policies, "" if it is unknown."""

    service: str
    action: str
    region: str
    identity: Identity
    path: str
    body: bytes = b""

    @property
    def name(self) -> str:
        """The action as policies name it, such as ec2:CreateVpc."""
        return f"{self.service}:{self.action}"

    @cached_property
    def form(self) -> dict[str, str]:
        """The parameters of a query protocol's call, the first value of each."""
        return {key: values[0] for key, values in parse_qs(self.body.decode("latin-1")).items()}

    @cached_property
    def json(self) -> dict[str, Any]:
        """The body of a JSON protocol's call, {} if it has none."""
        try:
            body = json.loads(self.body or b"{}")
        except ValueError:
            return {}
        return body if isinstance(body, dict) else {}

    @property
    def parts(self) -> list[str]:
        """The parts of the path."""
        return [unquote(part) for part in self.path.split("/") if part]

    def list(self, prefix: str) -> list[str]:
        """Return a list parameter of a query protocol's call, as in ActionNames.member.1."""
        start = f"{prefix}.member."
        members = {int(key[len(start) :]): value for key, value in self.form.items() if key.startswith(start)}
        return [members[number] for number in sorted(members)]


@dataclass(frozen=True)
class Refusal:
    """Why a call is refused: AWS's error code and message, and the HTTP status."""

    code: str
    message: str
    status: str = "400 Bad Request"
