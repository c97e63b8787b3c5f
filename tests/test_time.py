"""A test on the sandbox that would begin after the end of `make test`'s time is left out, and says so."""

import time
from types import SimpleNamespace

import pytest

from tests import conftest

SANDBOX = SimpleNamespace(get_closest_marker=lambda name: name == "sandbox")
FAST = SimpleNamespace(get_closest_marker=lambda name: False)


def test_only_tests_on_the_sandbox_are_left_out_and_only_after_the_end(monkeypatch):
    monkeypatch.setenv("TESTS_END", str(int(time.time()) - 1))
    conftest.pytest_runtest_setup(FAST)
    with pytest.raises(pytest.skip.Exception, match="the time of `make test` was over"):
        conftest.pytest_runtest_setup(SANDBOX)
    monkeypatch.setenv("TESTS_END", str(int(time.time()) + 60))
    conftest.pytest_runtest_setup(SANDBOX)
    monkeypatch.delenv("TESTS_END")
    conftest.pytest_runtest_setup(SANDBOX)
