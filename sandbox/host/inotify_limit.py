"""The kernel's limit of inotify instances: raised while a sandbox runs, restored when the last one ends."""

from __future__ import annotations

from pathlib import Path

from sandbox.paths import TAG

# Each Envoy and each pilot-agent has inotify instances, and all run as one user (1337). Two clusters need more than
# Linux's default of 128 (fs/notify/inotify/inotify_user.c, inotify_user_setup), and Envoy aborts without them.
# NEEDED is eight times the default.
LIMIT = Path("/proc/sys/fs/inotify/max_user_instances")
NEEDED = 1024
SHARED = Path("/run/eks-sandbox")  # of all sandboxes of this machine; a reboot empties it, as it resets the limit
KEPT = "max_user_instances"  # the file with the limit before


def widen(limit: Path = LIMIT, shared: Path = SHARED, user: str = TAG) -> None:
    """Raise the limit to NEEDED if it is lower, and write the former limit and that `user` needs it to `shared`."""
    before = int(limit.read_text())
    shared.mkdir(exist_ok=True)
    (shared / f"user-{user}").touch()
    if before < NEEDED:
        (shared / KEPT).write_text(str(before))
        limit.write_text(str(NEEDED))


def restore(limit: Path = LIMIT, shared: Path = SHARED, user: str = TAG) -> None:
    """Restore the former limit if no other user needs it, unless another program has changed it since."""
    (shared / f"user-{user}").unlink(missing_ok=True)
    if not shared.is_dir() or any(shared.glob("user-*")):
        return
    kept = shared / KEPT
    if kept.is_file():
        if int(limit.read_text()) == NEEDED:
            limit.write_text(kept.read_text())
        kept.unlink()
    shared.rmdir()
