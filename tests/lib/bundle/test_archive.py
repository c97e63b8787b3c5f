"""A packed bundle in S3: S3 holds the bytes that were sent, locks them if the bucket can, and never overwrites them."""

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
