"""A file is written as a whole or not at all."""

import os
import stat

import pytest

from lib import files


def test_a_file_and_its_folder_are_created_with_the_mode(tmp_path):
    path = tmp_path / "folder" / "secret"
    files.write_atomic(path, "ü", files.PRIVATE)
    assert path.read_bytes() == "ü".encode()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_file_is_replaced_unless_it_is_kept(tmp_path):
    path = tmp_path / "file"
    for content, keep, expected in (("one", True, b"one"), (b"two", True, b"one"), (b"three", False, b"three")):
        files.write_atomic(path, content, keep=keep)
        assert path.read_bytes() == expected
    assert list(tmp_path.iterdir()) == [path]


def test_an_exception_leaves_the_old_content_and_no_draft(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(ValueError, match="broken"), files.draft(path) as draft:
        draft.write_text("new")
        raise ValueError("broken")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_a_draft_of_a_killed_process_is_replaced(tmp_path):
    path = tmp_path / "file"
    path.with_name(f".file.{os.getpid()}").write_text("a rest that is longer than the content")
    files.write_atomic(path, "new")
    assert path.read_text() == "new" and list(tmp_path.iterdir()) == [path]
