"""The kernel's limit of inotify instances: raised while the sandbox runs, restored when it ends."""

from __future__ import annotations

from pathlib import Path

from sandbox.paths import HOME

# Each Envoy and each pilot-agent has inotify instances, and all run as one user (1337). Two clusters need more than
# Linux's default of 128 (fs/notify/inotify/inotify_user.c, inotify_user_setup), and Envoy aborts without them.
# NEEDED is eight times the default.
LIMIT = Path("/proc/sys/fs/inotify/max_user_instances")
NEEDED = 1024
KEPT = HOME / "max_user_instances"  # the limit before


def widen(limit: Path = LIMIT, kept: Path = KEPT) -> None:
    """Raise the limit to NEEDED if it is lower, and write the former limit to `kept`."""
    before = int(limit.read_text())
    if before < NEEDED:
        kept.write_text(str(before))
        limit.write_text(str(NEEDED))


def restore(limit: Path = LIMIT, kept: Path = KEPT) -> None:
    """Restore the former limit, unless another program has changed the limit since."""
    if kept.is_file():
        if int(limit.read_text()) == NEEDED:
            limit.write_text(kept.read_text())
        kept.unlink()
