"""An S3 on loopback for the tests of this package."""

from tests.support.moto_s3 import empty_s3

__all__ = ["empty_s3"]
