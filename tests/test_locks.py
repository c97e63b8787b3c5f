"""The locks of the Python environment: every package hashed, no address in them, one uv."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def entries(name: str) -> list[str]:
    """A lock's packages, each with the lines that belong to it."""
    return re.split(r"\n(?=\w)", (ROOT / name).read_text().strip())


def uv(name: str) -> list[str]:
    return [entry.split()[0] for entry in entries(name) if entry.startswith("uv==")]


@pytest.mark.parametrize("name", ["requirements.lock", "tools/uv.lock"])
def test_every_package_is_pinned_with_hashes_and_without_an_address(name):
    for entry in entries(name):
        assert re.match(r"[\w.-]+(?:\[[\w,-]+\])?==\S+ ", entry), entry.splitlines()[0]
        assert re.search(r"--hash=sha256:[0-9a-f]{64}\b", entry), entry.splitlines()[0]
        assert not re.search(r"://| @ |--(?!hash=)", entry), entry.splitlines()[0]


def test_the_uv_that_makes_the_environment_is_the_one_in_it():
    assert uv("tools/uv.lock") == uv("requirements.lock") != []
