"""A packed bundle in S3: what was sent is what is there, locked where the bucket can, and never overwritten."""

from datetime import UTC, datetime, timedelta

import boto3
import pytest
from moto.server import ThreadedMotoServer

from lib.bundle import archive
from lib.errors import AwsError, BundleError

NOW = datetime.now(UTC).replace(microsecond=0)
DAY = {"Rule": {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 30}}}


@pytest.fixture(scope="module")
def s3():
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}
    yield boto3.client("s3", endpoint_url=f"http://{host}:{port}", **keys)
    server.stop()


@pytest.fixture
def file(tmp_path):
    (tmp_path / "a-run.zip").write_bytes(b"PK and more")
    return tmp_path / "a-run.zip"


def bucket(s3, name, lock=None):
    s3.create_bucket(Bucket=name, ObjectLockEnabledForBucket=lock is not None)
    if lock:
        s3.put_object_lock_configuration(Bucket=name, ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", **lock})
    return name


def test_what_was_sent_is_what_is_there_and_is_not_overwritten(s3, file):
    name = bucket(s3, "plain")
    said = archive.upload(file, f"s3://{name}/audits/2026/", s3)
    assert said == "s3://plain/audits/2026/a-run.zip, S3 tells of no lock on it"
    assert s3.get_object(Bucket=name, Key="audits/2026/a-run.zip")["Body"].read() == file.read_bytes()
    file.write_bytes(b"another")
    with pytest.raises(BundleError, match="never overwritten"):
        archive.upload(file, f"s3://{name}/audits/2026", s3)
    assert s3.get_object(Bucket=name, Key="audits/2026/a-run.zip")["Body"].read() == b"PK and more"
    with pytest.raises(BundleError, match="with object lock to keep it 7 days"):
        archive.upload(file, f"s3://{name}", s3, 7)


def test_a_bucket_with_a_rule_of_its_own_locks_by_it(s3, file):
    name = bucket(s3, "ruled", DAY)
    assert "locked until " in archive.upload(file, f"s3://{name}", s3)
    kept = s3.head_object(Bucket=name, Key=file.name)
    assert kept["ObjectLockMode"] == "GOVERNANCE" and kept["ObjectLockRetainUntilDate"] - NOW > timedelta(days=29)


def test_a_rule_of_the_buckets_own_is_not_weakened(s3, file):
    name = bucket(s3, "strict", {"Rule": {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": 30}}})
    archive.upload(file, f"s3://{name}", s3, 1)
    kept = s3.head_object(Bucket=name, Key=file.name)
    assert kept["ObjectLockMode"] == "COMPLIANCE" and kept["ObjectLockRetainUntilDate"] - NOW > timedelta(days=29)


def test_a_bucket_without_a_rule_is_told_how_long_or_gets_nothing(s3, file):
    name = bucket(s3, "locking", {})
    with pytest.raises(BundleError, match="say RETAIN=days"):
        archive.upload(file, f"s3://{name}", s3)
    assert "Contents" not in s3.list_objects_v2(Bucket=name)
    said = archive.upload(file, f"s3://{name}", s3, 7, now=lambda: NOW)
    assert said.endswith(f"locked until {NOW + timedelta(days=7):%Y-%m-%d}")


def test_what_s3_refuses_is_a_sentence(s3, file):
    with pytest.raises(AwsError, match="NoSuchBucket.*make the bucket"):
        archive.upload(file, "s3://no-such-bucket-here", s3)
    with pytest.raises(BundleError, match="expected s3://bucket/prefix, got 'plain'"):
        archive.upload(file, "plain", s3)
