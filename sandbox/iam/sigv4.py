"""AWS Signature Version 4, computed by botocore's own code: who signs, when, and what the signature must be."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

ALGORITHM = "AWS4-HMAC-SHA256"
SIGNATURE = re.compile(r"[0-9a-f]{64}")


class Refused(Exception):
    """Why a caller is refused: one sentence without a secret."""


@dataclass(frozen=True)
class Identity:
    """The owner of an access key; its repr leaves the secrets out."""

    arn: str
    account: str
    user_id: str
    access_key: str
    secret: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)
    session_policies: tuple[str, ...] = field(default=(), repr=False)  # of AssumeRole: they only take rights away

    @property
    def principal(self) -> str:
        """The ARN that gets access: the user's, or for a role's session the role's.

        Source: aws-iam-authenticator, pkg/arn/arn.go, Canonicalize.
        """
        kind, _, rest = self.arn.partition(":assumed-role/")
        return f"{kind.replace(':sts:', ':iam:')}:role/{rest.rpartition('/')[0]}" if rest else self.arn


FindIdentity = Callable[[str, str | None], Identity | None]  # (access key, session token) -> its owner, None if unknown


@dataclass(frozen=True)
class Scope:
    """The parts of X-Amz-Credential: the access key, and the day, region and service of the signature."""

    access_key: str
    day: str
    region: str
    service: str


def scope(credential: str) -> Scope:
    """Return the Scope of `key/day/region/service/aws4_request`. Raises Refused if it has another form."""
    parts = credential.split("/")
    if len(parts) != 5 or parts[4] != "aws4_request" or not all(parts):
        raise Refused("expected a credential as key/date/region/service/aws4_request, got another form.")
    return Scope(*parts[:4])


def moment(text: str) -> datetime:
    """Return the time of an X-Amz-Date such as 20260102T030405Z, in UTC. Raises Refused if it has another form."""
    try:
        if not re.fullmatch(r"[0-9]{8}T[0-9]{6}Z", text):
            raise ValueError
        return datetime.strptime(text, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        raise Refused(f"expected X-Amz-Date as 20260102T030405Z, got {text[:40]!r}.") from None


def expected(signer: type[SigV4Auth], identity: Identity, request: AWSRequest, date: str, scope: Scope) -> str:
    """Return the signature, in hex, that `identity` gives `request` at `date` (X-Amz-Date) within `scope`."""
    credentials = Credentials(identity.access_key, identity.secret, identity.session_token)
    auth = signer(credentials, scope.service, scope.region)
    request.context["timestamp"] = date
    return auth.signature(auth.string_to_sign(request, auth.canonical_request(request)), request)
