"""A limit of this machine's kernel that many pods meet: raised while the sandbox runs, put back when it ends."""

from __future__ import annotations

from pathlib import Path

from sandbox.paths import HOME

# Each Envoy and each pilot-agent holds inotify instances, and all of them are one user's (1337): those of two clusters
# are more than the 128 that Linux grants, and Envoy then ends with an assertion.
LIMIT = Path("/proc/sys/fs/inotify/max_user_instances")
NEEDED = 1024
KEPT = HOME / "max_user_instances"  # what it was


def widen(limit: Path = LIMIT, kept: Path = KEPT) -> None:
    """Raise the limit where it is lower than NEEDED, and keep what it was."""
    was = int(limit.read_text())
    if was < NEEDED:
        kept.write_text(str(was))
        limit.write_text(str(NEEDED))


def restore(limit: Path = LIMIT, kept: Path = KEPT) -> None:
    """Put back what it was, unless somebody else has set it since."""
    if kept.is_file():
        if int(limit.read_text()) == NEEDED:
            limit.write_text(kept.read_text())
        kept.unlink()
