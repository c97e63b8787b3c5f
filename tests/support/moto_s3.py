"""An S3 on loopback for tests; import `empty_s3` in a conftest."""

from contextlib import contextmanager

import boto3
import pytest
from moto.server import ThreadedMotoServer

KEYS = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}


@contextmanager
def serving():
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield boto3.client("s3", endpoint_url=f"http://{host}:{port}", **KEYS)
    server.stop()


@pytest.fixture(scope="module")
def empty_s3():
    with serving() as s3:
        yield s3
