"""What a sandbox may leave on this machine if it is killed: links, cgroups, mounts, a kernel limit, files."""

from __future__ import annotations

import shutil
from pathlib import Path

from sandbox.build.builder import BuildFailed
from sandbox.commands.endpoint import STATE
from sandbox.host import cgroups, inotify_limit, veth
from sandbox.paths import CREDENTIALS, HOME, RUN


def remove() -> None:
    """Remove everything but the cache."""
    for name in veth.leftovers():
        veth.remove(name)
    for name in cgroups.leftovers():
        cgroups.wait_removed(name)
    inotify_limit.restore()
    shutil.rmtree(RUN, ignore_errors=True)
    STATE.unlink(missing_ok=True)
    CREDENTIALS.unlink(missing_ok=True)


def require_none() -> None:
    """Raise BuildFailed if a link, a cgroup or a mount is left."""
    left = [f"link {name}" for name in veth.leftovers()]
    left += [f"cgroup {name}" for name in cgroups.leftovers()]
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    left += [f"mount {point}" for point in points if str(HOME) in point]
    if left:
        raise BuildFailed(f"expected nothing to be left, got {', '.join(left)}; run make down again")
