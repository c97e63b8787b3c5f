"""What `up` does before it starts anything."""

import stat

from sandbox.commands import up_down


def test_folders_of_keys_logs_and_state_are_private(tmp_path):
    old, new = tmp_path / "old", tmp_path / "a" / "new"
    old.mkdir(mode=0o755)
    up_down.make_private(old, new)
    assert [stat.S_IMODE(folder.stat().st_mode) for folder in (old, new)] == [0o700, 0o700]
