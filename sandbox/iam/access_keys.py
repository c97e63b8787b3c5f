"""The owners of the account's access keys: users of moto's IAM, sessions of its roles; the first administrator."""

from __future__ import annotations

import hmac
import secrets
import string
from datetime import UTC, datetime, timedelta
from pathlib import Path

from moto.core import DEFAULT_ACCOUNT_ID as ACCOUNT
from moto.core.config import default_user_config
from moto.iam.models import IAMBackend, Role, User, iam_backends

from lib.files import PRIVATE, write_atomic
from sandbox.iam import moto_memory
from sandbox.iam.moto_memory import PARTITION
from sandbox.iam.sigv4 import Identity

ADMINISTRATOR = "admin"
PROFILE = "sandbox"
LETTERS = string.ascii_uppercase + string.digits
ADMINISTRATOR_POLICY = f"arn:{PARTITION}:iam::aws:policy/AdministratorAccess"
_sessions: dict[str, tuple[Identity, datetime]] = {}  # by access key, with their end


def iam() -> IAMBackend:
    """Return moto's IAM of the account."""
    return iam_backends[ACCOUNT][PARTITION]


def find(access_key: str, session_token: str | None) -> Identity | None:
    """Return the owner of an active access key; None for an unknown key, or a wrong or expired session token."""
    return _session(access_key, session_token) if session_token else _user(access_key)


def ensure_administrator(credentials_file: Path) -> str:
    """Make the account's first administrator with a new access key, write its credentials; return its ARN."""
    default_user_config.setdefault("iam", {})["load_aws_managed_policies"] = True  # AmazonEKSClusterPolicy and the rest
    moto_memory.keep()
    user = iam().create_user(PARTITION, ADMINISTRATOR)
    iam().attach_user_policy(ADMINISTRATOR_POLICY, ADMINISTRATOR)
    key = iam().create_access_key(ADMINISTRATOR)
    key.secret_access_key = secrets.token_urlsafe(30)  # moto's generator of secrets is predictable
    write_atomic(
        credentials_file,
        f"[{PROFILE}]\naws_access_key_id = {key.access_key_id}\naws_secret_access_key = {key.secret_access_key}\n",
        PRIVATE,
    )
    return user.arn


def holder(identity: Identity) -> User | Role | None:
    """Return the user or role of an identity, by its unique id: a later one of the same name has another."""
    unique = identity.user_id.partition(":")[0]
    return iam().roles.get(unique) or next((user for user in list(iam().users.values()) if user.id == unique), None)


def open_session(role: Role, name: str, policies: tuple[str, ...], seconds: int) -> tuple[Identity, datetime]:
    """Open a session of a role that ends with the role, or after `seconds`; return its identity and its end."""
    token, key = secrets.token_urlsafe(200), "ASIA" + "".join(secrets.choice(LETTERS) for _ in range(16))
    arn = f"arn:{PARTITION}:sts::{ACCOUNT}:assumed-role/{role.name}/{name}"
    made = Identity(arn, ACCOUNT, f"{role.id}:{name}", key, secrets.token_urlsafe(30), token, policies)
    until = datetime.now(UTC) + timedelta(seconds=seconds)
    _sessions[key] = made, until
    return made, until


def _user(access_key: str) -> Identity | None:
    for user in list(iam().users.values()):
        for key in user.access_keys:
            if key.access_key_id == access_key and key.status == "Active":
                return Identity(user.arn, ACCOUNT, user.id, access_key, key.secret_access_key)
    return None


def _session(access_key: str, session_token: str) -> Identity | None:
    identity, until = _sessions.get(access_key, (None, None))
    if identity is None or until is None or until <= datetime.now(UTC) or holder(identity) is None:
        return None
    right = hmac.compare_digest(str(identity.session_token).encode(), session_token.encode())
    return identity if right else None
