"""The owners of the account's access keys, from moto's IAM and STS, and the account's first administrator."""

from __future__ import annotations

import hmac
import secrets
from pathlib import Path

from moto.core import DEFAULT_ACCOUNT_ID as ACCOUNT
from moto.core.config import default_user_config
from moto.core.utils import utcnow
from moto.iam.models import iam_backends
from moto.sts.models import sts_backends

from lib.files import PRIVATE, write_atomic
from sandbox.iam.sigv4 import Identity

PARTITION = "aws"
ADMINISTRATOR = "admin"
PROFILE = "sandbox"
ADMINISTRATOR_POLICY = f"arn:{PARTITION}:iam::aws:policy/AdministratorAccess"


def find(access_key: str, session_token: str | None) -> Identity | None:
    """Return the owner of an active access key; None for an unknown key, or a wrong or expired session token."""
    return _session(access_key, session_token) if session_token else _user(access_key)


def ensure_administrator(credentials_file: Path) -> str:
    """Make the account's first administrator with a new access key, write its credentials; return its ARN."""
    default_user_config.setdefault("iam", {})["load_aws_managed_policies"] = True  # AmazonEKSClusterPolicy and the rest
    iam = iam_backends[ACCOUNT][PARTITION]
    user = iam.create_user(PARTITION, ADMINISTRATOR)
    iam.attach_user_policy(ADMINISTRATOR_POLICY, ADMINISTRATOR)
    key = iam.create_access_key(ADMINISTRATOR)
    key.secret_access_key = secrets.token_urlsafe(30)  # moto's generator of secrets is predictable
    write_atomic(
        credentials_file,
        f"[{PROFILE}]\naws_access_key_id = {key.access_key_id}\naws_secret_access_key = {key.secret_access_key}\n",
        PRIVATE,
    )
    return user.arn


def _user(access_key: str) -> Identity | None:
    for user in list(iam_backends[ACCOUNT][PARTITION].users.values()):
        for key in user.access_keys:
            if key.access_key_id == access_key and key.status == "Active":
                return Identity(user.arn, ACCOUNT, user.id, access_key, key.secret_access_key)
    return None


def _session(access_key: str, session_token: str) -> Identity | None:
    role = sts_backends[ACCOUNT][PARTITION].get_assumed_role_from_access_key(access_key)
    if role is None or role.expiration <= utcnow():
        return None
    if not hmac.compare_digest(role.session_token.encode(), session_token.encode()):
        return None
    return Identity(role.arn, ACCOUNT, role.user_id, access_key, role.secret_access_key, session_token)
