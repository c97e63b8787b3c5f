"""A bundle as one zip file, byte for byte reproducible, and its upload to S3."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from lib.aws import session
from lib.bundle.verify import verify
from lib.errors import BundleError
from lib.files import draft

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip entry can have (APPNOTE 4.4.6)
MODE = 0o100644 << 16  # a regular file, in the upper half of a zip entry's external attributes


def pack(folder: Path, file: Path, trusted: Sequence[Ed25519PublicKey]) -> Path:
    """Write a bundle as a zip `file` and return its path; raise BundleError if `verify` finds a problem."""
    problems = verify(folder, trusted).problems
    if problems:
        raise BundleError(
            f"The bundle does not verify, so it is not packed: {problems[0]} `make verify` lists every problem."
        )
    with draft(file) as half, ZipFile(half, "w", ZIP_DEFLATED, compresslevel=9) as packed:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            entry = ZipInfo(f"{folder.name}/{path.relative_to(folder).as_posix()}", EPOCH)
            entry.external_attr, entry.compress_type = MODE, ZIP_DEFLATED
            packed.writestr(entry, path.read_bytes())
    return file


def upload(
    file: Path, target: str, s3: S3Client, retain_days: int = 0, now: Callable[[], datetime] | None = None
) -> str:
    """Upload a packed bundle; S3 verifies its SHA-256 and never overwrites an object.

    Args:
        file: the zip.
        target: s3://bucket/prefix.
        s3: a boto3 client.
        retain_days: how long the object is locked (governance mode), for a bucket with object lock and no default rule.
        now: the clock.

    Returns:
        A sentence that says where the object is and until when it is locked.

    Raises:
        BundleError: the object exists, or the bucket cannot lock it as asked; nothing was uploaded.
        AwsError: S3 refused the request.
    """
    bucket, prefix = _bucket_and_prefix(target)
    key, data = f"{prefix}{file.name}", file.read_bytes()
    checksum = base64.b64encode(hashlib.sha256(data).digest()).decode()
    with session.aws_errors():
        until: dict[str, Any] = _retention(s3, bucket, retain_days, (now or partial(datetime.now, UTC))())
        try:
            until |= {"ChecksumAlgorithm": "SHA256", "ChecksumSHA256": checksum}
            s3.put_object(Bucket=bucket, Key=key, Body=data, IfNoneMatch="*", **until)
        except s3.exceptions.ClientError as error:
            if error.response["Error"]["Code"] != "PreconditionFailed":
                raise
            raise BundleError(f"s3://{bucket}/{key} exists and is never overwritten. Name another prefix.") from None
        locked = s3.head_object(Bucket=bucket, Key=key).get("ObjectLockRetainUntilDate")
    kept = f"locked until {locked:%Y-%m-%d}" if locked else "not locked"
    return f"s3://{bucket}/{key}, {kept}"


def _bucket_and_prefix(target: str) -> tuple[str, str]:
    match = re.fullmatch(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/(.*))?", target)
    if not match:
        raise BundleError(f"{target!r} is no S3 address. Write it as s3://bucket/prefix.")
    prefix = (match[2] or "").strip("/")
    return match[1], f"{prefix}/" if prefix else ""


def _retention(s3: S3Client, bucket: str, days: int, now: datetime) -> dict:
    """Return the lock arguments of put_object: none if the bucket has no object lock, or has a default rule."""
    try:
        lock: dict = {**s3.get_object_lock_configuration(Bucket=bucket)["ObjectLockConfiguration"]}
    except s3.exceptions.ClientError as error:
        if error.response["Error"]["Code"] != "ObjectLockConfigurationNotFoundError":
            raise
        lock = {}
    if lock.get("ObjectLockEnabled") != "Enabled":
        if days:
            raise BundleError(
                f"{bucket} has no object lock, so it cannot keep the object {days} days. Name another bucket."
            )
        return {}
    if "Rule" in lock:  # it may be stricter than `days`
        return {}
    if not days:
        raise BundleError(
            f"{bucket} has object lock without a default rule. Say how many days it locks the object: RETAIN=days."
        )
    return {"ObjectLockMode": "GOVERNANCE", "ObjectLockRetainUntilDate": now + timedelta(days=days)}
