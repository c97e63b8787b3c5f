"""One call as it reached the gate: the service, the action, who asks, and what with."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from urllib.parse import parse_qs, unquote

from sandbox.iam.sigv4 import Identity


@dataclass(frozen=True)
class Call:
    """A signed call; `action` as IAM policies spell it, "" where it cannot be told."""

    service: str
    action: str
    region: str
    identity: Identity
    path: str
    body: bytes = b""

    @property
    def name(self) -> str:
        """Return it as policies name it, such as ec2:CreateVpc."""
        return f"{self.service}:{self.action}"

    @cached_property
    def form(self) -> dict[str, str]:
        """Return the parameters of a query protocol's call, the first value of each."""
        return {key: values[0] for key, values in parse_qs(self.body.decode("latin-1")).items()}

    @cached_property
    def json(self) -> dict[str, Any]:
        """Return the body of a JSON protocol's call; {} where it has none."""
        try:
            found = json.loads(self.body or b"{}")
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    @property
    def parts(self) -> list[str]:
        """Return the parts of the path."""
        return [unquote(part) for part in self.path.split("/") if part]

    def list(self, prefix: str) -> list[str]:
        """Return a list of a query protocol's call: ActionNames.member.1, .2, …"""
        start = f"{prefix}.member."
        found = {int(key[len(start) :]): one for key, one in self.form.items() if key.startswith(start)}
        return [found[number] for number in sorted(found)]


@dataclass(frozen=True)
class Refusal:
    """Why a call is refused, as AWS says it: code and message; status is the HTTP status."""

    code: str
    message: str
    status: str = "400 Bad Request"
