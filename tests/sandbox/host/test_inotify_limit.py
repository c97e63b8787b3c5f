"""A limit of the kernel's is raised while the sandbox runs, and is what it was afterwards."""

import pytest

from sandbox.host import inotify_limit


@pytest.fixture
def files(tmp_path):
    limit, kept = tmp_path / "limit", tmp_path / "kept"
    limit.write_text("128\n")
    return limit, kept


def test_the_limit_is_raised_and_restored(files):
    limit, kept = files
    inotify_limit.widen(limit, kept)
    assert int(limit.read_text()) == inotify_limit.NEEDED
    inotify_limit.widen(limit, kept)  # a second up
    inotify_limit.restore(limit, kept)
    assert int(limit.read_text()) == 128 and not kept.exists()


def test_a_sufficient_limit_is_not_changed(files):
    limit, kept = files
    limit.write_text("8192\n")
    inotify_limit.widen(limit, kept)
    inotify_limit.restore(limit, kept)
    assert limit.read_text() == "8192\n"


def test_a_limit_that_somebody_changed_since_is_not_restored(files):
    limit, kept = files
    inotify_limit.widen(limit, kept)
    limit.write_text("4096\n")
    inotify_limit.restore(limit, kept)
    assert limit.read_text() == "4096\n" and not kept.exists()
