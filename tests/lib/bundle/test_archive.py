"""A packed bundle in S3: S3 holds the bytes that were sent, locks them if the bucket can, and never overwrites them."""

import os
from datetime import UTC, datetime, timedelta
from zipfile import ZIP_STORED, ZipFile

import boto3
import pytest
from botocore.config import Config

from lib.bundle import archive, witness
from lib.errors import AwsError, BundleError
from lib.params import Params
from tests.support.little_cluster import IMAGES
from tests.support.moto_s3 import KEYS
from tests.support.sealed_bundle import sealed
from tests.support.stub_fleet import S3_FAULTS
from tests.support.tiny import KEY

NOW = datetime.now(UTC).replace(microsecond=0)
DAY = {"Rule": {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 30}}}


@pytest.fixture(scope="module")
def s3(empty_s3):
    return empty_s3


@pytest.fixture
def file(tmp_path):
    (tmp_path / "a-run.zip").write_bytes(b"PK and more")
    return tmp_path / "a-run.zip"


def bucket(s3, name, lock=None):
    s3.create_bucket(Bucket=name, ObjectLockEnabledForBucket=lock is not None)
    if lock:
        s3.put_object_lock_configuration(Bucket=name, ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", **lock})
    return name


def test_an_upload_arrives_whole_and_is_not_overwritten(s3, file):
    name = bucket(s3, "plain")
    sentence = archive.upload(file, f"s3://{name}/audits/2026/", s3)
    assert sentence == "s3://plain/audits/2026/a-run.zip, not locked"
    assert s3.get_object(Bucket=name, Key="audits/2026/a-run.zip")["Body"].read() == file.read_bytes()
    file.write_bytes(b"another")
    with pytest.raises(BundleError, match="never overwritten"):
        archive.upload(file, f"s3://{name}/audits/2026", s3)
    assert s3.get_object(Bucket=name, Key="audits/2026/a-run.zip")["Body"].read() == b"PK and more"
    with pytest.raises(BundleError, match="plain has no object lock, so it cannot keep the object 7 days"):
        archive.upload(file, f"s3://{name}", s3, 7)


def test_a_bucket_with_a_default_rule_locks_by_it(s3, file):
    name = bucket(s3, "ruled", DAY)
    assert "locked until " in archive.upload(file, f"s3://{name}", s3)
    kept = s3.head_object(Bucket=name, Key=file.name)
    assert kept["ObjectLockMode"] == "GOVERNANCE" and kept["ObjectLockRetainUntilDate"] - NOW > timedelta(days=29)


def test_the_buckets_default_rule_is_not_weakened(s3, file):
    name = bucket(s3, "strict", {"Rule": {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": 30}}})
    archive.upload(file, f"s3://{name}", s3, 1)
    kept = s3.head_object(Bucket=name, Key=file.name)
    assert kept["ObjectLockMode"] == "COMPLIANCE" and kept["ObjectLockRetainUntilDate"] - NOW > timedelta(days=29)


def test_a_bucket_without_a_rule_needs_a_time_to_lock_for_or_gets_nothing(s3, file):
    name = bucket(s3, "locking", {})
    with pytest.raises(BundleError, match="locking has object lock without a default rule.*RETAIN=days"):
        archive.upload(file, f"s3://{name}", s3)
    assert "Contents" not in s3.list_objects_v2(Bucket=name)
    sentence = archive.upload(file, f"s3://{name}", s3, 7, now=lambda: NOW)
    assert sentence.endswith(f"locked until {NOW + timedelta(days=7):%Y-%m-%d}")


def test_a_refusal_by_s3_is_a_sentence(s3, file):
    with pytest.raises(AwsError, match="NoSuchBucket.*create the bucket"):
        archive.upload(file, "s3://no-such-bucket-here", s3)
    with pytest.raises(BundleError, match="'plain' is no S3 address. Write it as s3://bucket/prefix"):
        archive.upload(file, "plain", s3)


def test_a_longer_time_than_the_buckets_rule_is_kept_in_the_rules_mode(s3, file):
    name = bucket(s3, "short", {"Rule": {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": 1}}})
    sentence = archive.upload(file, f"s3://{name}", s3, 3650, now=lambda: NOW)
    assert sentence.endswith(f"locked until {NOW + timedelta(days=3650):%Y-%m-%d}")
    assert s3.head_object(Bucket=name, Key=file.name)["ObjectLockMode"] == "COMPLIANCE"


@pytest.mark.parametrize("days", [-5, 36501, 10_000_000])
def test_a_time_that_s3_cannot_keep_is_refused(s3, file, days):
    name = bucket(s3, "locked", {})
    with pytest.raises(BundleError, match=f"cannot lock an object for {days} days. Use a RETAIN between 1 and 36500"):
        archive.upload(file, f"s3://{name}", s3, days)
    assert "Contents" not in s3.list_objects_v2(Bucket=name)


class Forgetful:
    """An S3 that takes the object and says that it locked it until another time."""

    exceptions = type("Exceptions", (), {"ClientError": KeyError})

    def __init__(self, until):
        self.until = until

    def get_object_lock_configuration(self, **_):
        return {"ObjectLockConfiguration": {"ObjectLockEnabled": "Enabled"}}

    def put_object(self, **_):
        return {}

    def head_object(self, **_):
        return {"ObjectLockRetainUntilDate": self.until} if self.until else {}


@pytest.mark.parametrize(("until", "words"), [(None, "not at all"), (NOW + timedelta(days=1), "until ")])
def test_a_lock_that_s3_did_not_set_as_asked_is_an_error(file, until, words):
    with pytest.raises(BundleError, match=f"was uploaded, but S3 locked it {words}.* instead of 7 days"):
        archive.upload(file, "s3://bucket", Forgetful(until), 7, now=lambda: NOW)


def test_an_answer_that_is_lost_is_no_error_if_s3_has_the_bytes(s3, file):
    name = bucket(s3, "lossy")
    assert archive.upload(file, f"s3://{name}", s3) == archive.upload(file, f"s3://{name}", s3)
    deaf = boto3.client("s3", endpoint_url=s3.meta.endpoint_url, config=Config(retries={"max_attempts": 0}), **KEYS)
    deaf.meta.events.register("before-send.s3.HeadObject", S3_FAULTS["away"][0])
    with pytest.raises(BundleError, match="/a-run.zip exists and is never overwritten"):
        archive.upload(file, f"s3://{name}", deaf)
    with pytest.raises(
        BundleError, match="x/a-run.zip was uploaded, but nobody knows if it is locked: expected an AWS"
    ):
        archive.upload(file, f"s3://{name}/x", deaf)


def test_an_s3_that_never_answers_is_given_up(tmp_path):
    """Each try ends by these seconds; `upload` makes up to three calls, and the first that fails ends it."""
    config = witness.client(Params(env="here", cluster_source="existing", **IMAGES)).meta.config
    assert (config.connect_timeout, config.read_timeout, config.retries["total_max_attempts"]) == (5, 20, 7)


@pytest.mark.parametrize(
    "target",
    ["s3://bucket/../x", "s3://bucket/a/./b", "s3://bucket/a//b", "s3://b.u..c", "s3://10.0.0.1/x", "s3://b/x\ny",
     "s3://bucket/" + "x" * 1024],
)  # fmt: skip
def test_an_address_that_others_would_read_otherwise_is_refused(s3, file, target):
    with pytest.raises(BundleError, match="no S3 address|an empty part|longer than 1024 bytes"):
        archive.upload(file, target, s3)


def test_a_zip_has_the_same_bytes_with_every_zlib_and_follows_no_link(tmp_path):
    folder, _ = sealed(tmp_path)
    victim, link, planted = (tmp_path / name for name in ("victim", "one.zip", f".two.zip.{os.getpid()}"))
    victim.write_text("kept")
    link.symlink_to(victim)
    planted.symlink_to(victim)
    first = archive.pack(folder, link, [KEY.public_key()]).read_bytes()
    again = archive.pack(folder, tmp_path / "two.zip", [KEY.public_key()])
    assert again.read_bytes() == first and victim.read_text() == "kept" and not link.is_symlink()
    with ZipFile(again) as packed:
        assert {one.compress_type for one in packed.infolist()} == {ZIP_STORED} and packed.testzip() is None
        assert packed.read(f"{folder.name}/run.json") == (folder / "run.json").read_bytes()
