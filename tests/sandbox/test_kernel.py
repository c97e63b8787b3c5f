"""A limit of the kernel's is raised while the sandbox runs, and is what it was afterwards."""

import pytest

from sandbox import kernel


@pytest.fixture
def files(tmp_path):
    limit, kept = tmp_path / "limit", tmp_path / "kept"
    limit.write_text("128\n")
    return limit, kept


def test_it_is_raised_and_put_back(files):
    limit, kept = files
    kernel.widen(limit, kept)
    assert int(limit.read_text()) == kernel.NEEDED
    kernel.widen(limit, kept)  # a second up
    kernel.restore(limit, kept)
    assert int(limit.read_text()) == 128 and not kept.exists()


def test_what_is_wide_enough_is_left_alone(files):
    limit, kept = files
    limit.write_text("8192\n")
    kernel.widen(limit, kept)
    kernel.restore(limit, kept)
    assert limit.read_text() == "8192\n"


def test_what_somebody_else_set_since_stays(files):
    limit, kept = files
    kernel.widen(limit, kept)
    limit.write_text("4096\n")
    kernel.restore(limit, kept)
    assert limit.read_text() == "4096\n" and not kept.exists()
