"""A sandbox that was killed leaves its links, cgroups and mounts; the next one removes them."""

from __future__ import annotations

import fcntl
import json
import os
import threading

import pytest

from tests.support.runbook import KUBECTL, python

pytestmark = pytest.mark.sandbox


@pytest.mark.last
def test_a_killed_sandbox_is_cleaned_up_by_the_next(first):
    state = json.loads((KUBECTL.parent.parent / "sandbox.json").read_text())
    os.kill(state["pid"], 9)
    with (KUBECTL.parent.parent / "sandbox.lock").open() as lock:  # a dying server may hold it for a moment yet
        fcntl.flock(lock, fcntl.LOCK_EX)
        threading.Timer(2, fcntl.flock, [lock, fcntl.LOCK_UN]).start()
        assert python("-m", "sandbox", "up").returncode == 0
    assert python("-m", "sandbox", "status").returncode == 0
