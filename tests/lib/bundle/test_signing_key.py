"""Keys of strangers: what a file may do to the program that reads it."""

from pathlib import Path

import pytest

from lib.bundle import signing_key
from lib.errors import BundleError


def test_a_key_file_without_an_end_is_refused():
    with pytest.raises(BundleError, match="There is no Ed25519 public key in /dev/zero"):
        signing_key.public_key(Path("/dev/zero"))
