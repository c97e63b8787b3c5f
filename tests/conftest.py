"""A first run of the runbook on the sandbox, for all tests that need one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.runbook import assert_nothing_left, python, run


def pytest_collection_modifyitems(items):
    """What ends the cluster comes after all that needs it."""
    items.sort(key=lambda item: item.get_closest_marker("last") is not None)


@pytest.fixture(scope="session")
def first() -> Path:
    """A first run from nothing; the sandbox is down again after the tests."""
    python("-m", "sandbox", "down")
    assert python("-m", "sandbox", "up").returncode == 0
    code, bundle = run()
    assert code == 0
    yield bundle
    assert python("-m", "sandbox", "down").returncode == 0
    assert_nothing_left()
