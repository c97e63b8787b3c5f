"""A bundle as one file to hand on: the same bytes for the same bundle, whoever packs it and when."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from lib.aws import session
from lib.bundle.verify import verify
from lib.errors import BundleError
from lib.files import draft

MADE = (1980, 1, 1, 0, 0, 0)  # the first time that a zip knows
MODE = 0o100644 << 16  # a plain file, as zip keeps it


def pack(folder: Path, file: Path, trusted: Sequence[Ed25519PublicKey]) -> Path:
    """Write a bundle as a zip, and return its path; BundleError where it is not as an owner of these keys sealed it."""
    problems = verify(folder, trusted).problems
    if problems:
        raise BundleError(f"expected a whole bundle to pack, got: {problems[0]} `make verify` tells all.")
    with draft(file) as half, ZipFile(half, "w", ZIP_DEFLATED, compresslevel=9) as packed:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            about = ZipInfo(f"{folder.name}/{path.relative_to(folder).as_posix()}", MADE)
            about.external_attr, about.compress_type = MODE, ZIP_DEFLATED
            packed.writestr(about, path.read_bytes())
    return file


def upload(file: Path, target: str, s3, retain_days: int = 0, now: Callable[[], datetime] | None = None) -> str:
    """Put a packed bundle below `target` (s3://bucket/prefix) with a boto3 client; return a sentence on where it is.

    S3 itself compares the SHA-256, and never overwrites. A bucket with object lock keeps it by its own rule, or where
    it has none for `retain_days` days (governance mode). BundleError before anything is sent where that cannot be, and
    where that name is taken; AwsError where S3 refuses.
    """
    bucket, prefix = _place(target)
    key, data = f"{prefix}{file.name}", file.read_bytes()
    checksum = base64.b64encode(hashlib.sha256(data).digest()).decode()
    with session.aws_errors():
        until = _retention(s3, bucket, retain_days, (now or partial(datetime.now, UTC))())
        try:
            sums = {"ChecksumAlgorithm": "SHA256", "ChecksumSHA256": checksum}
            s3.put_object(Bucket=bucket, Key=key, Body=data, IfNoneMatch="*", **sums, **until)
        except s3.exceptions.ClientError as error:
            if error.response["Error"]["Code"] != "PreconditionFailed":
                raise
            raise BundleError(
                f"expected no s3://{bucket}/{key}, got one, and it is never overwritten; take another prefix."
            ) from None
        locked = s3.head_object(Bucket=bucket, Key=key).get("ObjectLockRetainUntilDate")
    kept = f"locked until {locked:%Y-%m-%d}" if locked else "S3 tells of no lock on it"
    return f"s3://{bucket}/{key}, {kept}"


def _place(target: str) -> tuple[str, str]:
    found = re.fullmatch(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/(.*))?", target)
    if not found:
        raise BundleError(f"expected s3://bucket/prefix, got {target!r}; name a bucket.")
    prefix = (found[2] or "").strip("/")
    return found[1], f"{prefix}/" if prefix else ""


def _retention(s3, bucket: str, days: int, now: datetime) -> dict:
    """Return what put_object is told of the lock: nothing where the bucket has none, or a rule of its own."""
    try:
        found = s3.get_object_lock_configuration(Bucket=bucket)["ObjectLockConfiguration"]
    except s3.exceptions.ClientError as error:
        if error.response["Error"]["Code"] != "ObjectLockConfigurationNotFoundError":
            raise
        found = {}
    if found.get("ObjectLockEnabled") != "Enabled":
        if days:
            raise BundleError(f"expected a bucket with object lock to keep it {days} days, got {bucket} without one.")
        return {}
    if "Rule" in found:  # and it may be the stronger one
        return {}
    if not days:
        raise BundleError(
            f"expected a time to lock it for, got none, and {bucket} has object lock without a rule; say RETAIN=days."
        )
    return {"ObjectLockMode": "GOVERNANCE", "ObjectLockRetainUntilDate": now + timedelta(days=days)}
