"""A bundle as one zip file, byte for byte reproducible, and its upload to S3.

The zip stores its files without compression: two versions of zlib compress the same file to different bytes.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import ZIP_STORED, BadZipFile, ZipFile, ZipInfo

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from lib.aws import session
from lib.bundle.verify import verify
from lib.errors import AwsError, BundleError
from lib.files import draft, writing
from lib.printable import printable

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip entry can have (APPNOTE 4.4.6)
LONGEST = 36500  # days that S3 can lock an object for (S3 API, DefaultRetention)
TOLERANCE = 3600  # seconds between this machine's clock and S3's
KEY_BYTES = 1024  # of an object's key (S3 User Guide, "Naming Amazon S3 objects")
DAYS = {"Days": 1, "Years": 365}  # the units of a bucket's default rule
MODE = 0o100644 << 16  # a regular file, in the upper half of a zip entry's external attributes
NAME = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)+", re.ASCII)  # of an entry: no link upwards, no hidden file
ENTRIES = 1000  # a run of all notebooks leaves about 100 files


class Taken(BundleError):
    """S3 has an object of this name already, and never overwrites it."""


def pack(folder: Path, file: Path, trusted: Sequence[Ed25519PublicKey]) -> Path:
    """Write a bundle as a zip `file` and return its path.

    Raises:
        BundleError: `verify` finds a problem.
        NotWritable: the disk does not take the zip.
    """
    problems = verify(folder, trusted).problems
    if problems:
        raise BundleError(
            f"The bundle does not verify, so it is not packed: {problems[0]} `make verify` lists every problem."
        )
    with writing(file), draft(file) as half, ZipFile(half, "w", ZIP_STORED) as packed:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            entry = ZipInfo(f"{folder.name}/{path.relative_to(folder).as_posix()}", EPOCH)
            entry.external_attr = MODE
            packed.writestr(entry, path.read_bytes())
    return file


def unpack(file: Path, folder: Path) -> Path:
    """Write the bundle in a zip of `pack` into a folder and return the bundle's path.

    Raises:
        BundleError: the zip is not as `pack` writes it: an entry leads out of the bundle, is no regular file, is
            compressed or is there twice, or the entries have more bytes than the zip. Nothing was written.
    """
    try:
        with ZipFile(file) as packed:
            entries = packed.infolist()
            if problem := _strange(entries, file.stat().st_size):
                raise BundleError(f"{file.name} is no packed bundle: {problem}.")
            for one in entries:
                place = folder / one.filename
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(packed.read(one))
    except (BadZipFile, OSError, ValueError, NotImplementedError, RuntimeError, EOFError) as error:
        raise BundleError(f"{file.name} is no packed bundle ({type(error).__name__}).") from None
    return folder / entries[0].filename.partition("/")[0]


def upload(
    file: Path, target: str, s3: S3Client, retain_days: int = 0, now: Callable[[], datetime] | None = None
) -> str:
    """Upload a packed bundle; S3 verifies its SHA-256 and never overwrites an object.

    An object with these bytes is no error: S3 may have taken them although its answer was lost.

    Args:
        file: the zip.
        target: s3://bucket/prefix.
        s3: a boto3 client.
        retain_days: the days that the object is locked at least. A longer default rule of the bucket counts instead;
            0 leaves the time to that rule. The mode is the rule's, or governance mode without a rule.
        now: the clock.

    Returns:
        A sentence that says where the object is and until when it is locked.

    Raises:
        Taken: the object exists with other bytes; nothing was uploaded.
        BundleError: the bucket cannot lock the object as asked; nothing was uploaded. Or S3 locked the uploaded object
            for a shorter time than asked, or does not say for how long.
        AwsError: S3 refused the request.
    """
    if not 0 <= retain_days <= LONGEST:
        raise BundleError(f"S3 cannot lock an object for {retain_days} days. Use a RETAIN between 1 and {LONGEST}.")
    bucket, key = bucket_and_key(target, file.name)
    taken, data, time = False, file.read_bytes(), (now or partial(datetime.now, UTC))()
    checksum = base64.b64encode(hashlib.sha256(data).digest()).decode()
    kept: Mapping[str, Any]
    with session.aws_errors():
        until: dict[str, Any] = _retention(s3, bucket, retain_days, time)
        try:
            until |= {"ChecksumAlgorithm": "SHA256", "ChecksumSHA256": checksum}
            s3.put_object(Bucket=bucket, Key=key, Body=data, IfNoneMatch="*", **until)
        except s3.exceptions.ClientError as error:
            if error.response["Error"]["Code"] != "PreconditionFailed":
                raise
            taken = True
    try:
        with session.aws_errors():
            kept = s3.head_object(Bucket=bucket, Key=key, ChecksumMode="ENABLED")
    except AwsError as error:
        if not taken:
            raise BundleError(f"s3://{bucket}/{key} was uploaded, but nobody knows if it is locked: {error}") from None
        kept = {}
    if taken and kept.get("ChecksumSHA256") != checksum:
        raise Taken(f"s3://{bucket}/{key} exists and is never overwritten. Name another prefix.")
    locked = kept.get("ObjectLockRetainUntilDate")
    if retain_days and (not locked or (locked - time).total_seconds() < retain_days * 86400 - TOLERANCE):
        until_when = f"until {locked:%Y-%m-%d}" if locked else "not at all"
        raise BundleError(
            f"s3://{bucket}/{key} was uploaded, but S3 locked it {until_when} instead of {retain_days} days. "
            "Check the bucket's rule and the permission s3:PutObjectRetention."
        )
    return f"s3://{bucket}/{key}, {f'locked until {locked:%Y-%m-%d}' if locked else 'not locked'}"


def bucket_and_key(target: str, name: str) -> tuple[str, str]:
    """Return the bucket of s3://bucket/prefix and the key of an object `name`; BundleError if it is no S3 address."""
    match = re.fullmatch(r"s3://([a-z0-9](?:[a-z0-9-]|\.(?!\.)){1,61}[a-z0-9])(?:/([^\x00-\x1f\x7f]*))?", target)
    if not match or re.fullmatch(r"[\d.]+", match[1]):
        raise BundleError(f"{target!r} is no S3 address. Write it as s3://bucket/prefix.")
    parts = [*(match[2] or "").strip("/").split("/"), name] if (match[2] or "").strip("/") else [name]
    if {"", ".", ".."} & {*parts}:
        raise BundleError(f"{target!r} has an empty part, `.` or `..` in its prefix. Name each folder of the prefix.")
    key = "/".join(parts)
    if len(key.encode()) > KEY_BYTES:
        raise BundleError(f"The key of {name} in {match[1]} is longer than {KEY_BYTES} bytes. Use a shorter prefix.")
    return match[1], key


def _strange(entries: Sequence[ZipInfo], size: int) -> str:
    """Return what `pack` would not have written among the entries of a zip with `size` bytes, "" if nothing."""
    names = [one.filename for one in entries]
    if not names or len(names) > ENTRIES:
        return f"it has {len(names)} entries"
    if wrong := [name for name in names if not NAME.fullmatch(name) or len(name) > KEY_BYTES]:
        return f"it has an entry {printable(wrong[0], 80)}"
    if len({*names}) < len(names) or len({name.partition("/")[0] for name in names}) > 1:
        return "it has an entry twice, or several folders"
    if any(one.compress_type != ZIP_STORED or one.external_attr != MODE or one.flag_bits & 1 for one in entries):
        return "it has an entry that is compressed, encrypted or no regular file"
    return "its entries have more bytes than the file" if sum(one.file_size for one in entries) > size else ""


def _retention(s3: S3Client, bucket: str, days: int, now: datetime) -> dict:
    """Return the lock arguments of put_object: none without object lock, or if the default rule locks long enough."""
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
    rule = lock.get("Rule", {}).get("DefaultRetention", {})
    if rule and days <= max(rule.get(unit, 0) * length for unit, length in DAYS.items()):
        return {}
    if not days:
        raise BundleError(
            f"{bucket} has object lock without a default rule. Say how many days it locks the object: RETAIN=days."
        )
    return {
        "ObjectLockMode": rule.get("Mode", "GOVERNANCE"),
        "ObjectLockRetainUntilDate": now + timedelta(days=days),
    }
