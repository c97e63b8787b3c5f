"""A limit of the kernel is raised while a sandbox runs, and is what it was after the last one has ended."""

import pytest

from sandbox.host import inotify_limit


@pytest.fixture
def files(tmp_path):
    limit, shared = tmp_path / "limit", tmp_path / "shared"
    limit.write_text("128\n")
    return limit, shared


def test_the_limit_is_raised_and_restored(files):
    limit, shared = files
    inotify_limit.widen(limit, shared)
    assert int(limit.read_text()) == inotify_limit.NEEDED
    inotify_limit.widen(limit, shared)  # a second up
    inotify_limit.restore(limit, shared)
    assert int(limit.read_text()) == 128 and not shared.exists()


def test_a_sufficient_limit_is_not_changed(files):
    limit, shared = files
    limit.write_text("8192\n")
    inotify_limit.widen(limit, shared)
    inotify_limit.restore(limit, shared)
    assert limit.read_text() == "8192\n"


def test_a_limit_that_somebody_changed_since_is_not_restored(files):
    limit, shared = files
    inotify_limit.widen(limit, shared)
    limit.write_text("4096\n")
    inotify_limit.restore(limit, shared)
    assert limit.read_text() == "4096\n" and not shared.exists()


def test_the_last_of_two_sandboxes_restores_the_limit(files):
    limit, shared = files
    inotify_limit.widen(limit, shared, "one")
    inotify_limit.widen(limit, shared, "other")
    inotify_limit.restore(limit, shared, "one")
    assert int(limit.read_text()) == inotify_limit.NEEDED
    inotify_limit.restore(limit, shared, "other")
    assert int(limit.read_text()) == 128 and not shared.exists()
