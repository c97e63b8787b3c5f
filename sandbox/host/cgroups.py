"""A cgroup root for each node, which keeps a kubelet from killing another node's pods; for v1, hybrid and v2 hosts."""

from __future__ import annotations

import contextlib
from pathlib import Path

from lib.polling import until
from sandbox.paths import TAG

ROOT = Path("/sys/fs/cgroup")
PREFIX = f"eks-sandbox{TAG and '.'}{TAG}-"
DEADLINE = 20  # seconds until the last process of a killed node has left its cgroup; usually less than one
_V2 = ("cpuset", "cpu", "io", "memory", "pids")


def make(name: str, root: Path = ROOT) -> str:
    """Make the cgroup of one node in every hierarchy; return its path, the kubelet's cgroupRoot."""
    group = f"{PREFIX}{name}"
    for hierarchy in _hierarchies(root):
        folder = hierarchy / group
        folder.mkdir(exist_ok=True)
        for file in ("cpuset.cpus", "cpuset.mems"):  # v1 leaves them empty, and nothing can run then
            if (folder / file).is_file() and not (folder / file).read_text().strip() and (hierarchy / file).is_file():
                (folder / file).write_text((hierarchy / file).read_text())
        if (hierarchy / "cgroup.controllers").is_file():
            _delegate(hierarchy)
            _delegate(folder)
    return f"/{group}"


def remove(name: str, root: Path = ROOT) -> bool:
    """Remove the cgroups of one node that have no process; return whether all are gone."""
    for hierarchy in _hierarchies(root):
        folder = hierarchy / f"{PREFIX}{name}"
        for path in [*sorted(folder.rglob("*"), reverse=True), folder]:
            if path.is_dir():
                with contextlib.suppress(OSError):  # a process is still ending
                    path.rmdir()
    return name not in leftovers(root)


def wait_removed(name: str) -> None:
    """Remove the cgroups of one node as their last processes end; after DEADLINE leave the rest to leftovers()."""
    until(lambda: remove(name), deadline=DEADLINE)


def leftovers(root: Path = ROOT) -> list[str]:
    """Return the names of nodes that still have a cgroup."""
    found = {
        path.name.removeprefix(PREFIX) for hierarchy in _hierarchies(root) for path in hierarchy.glob(f"{PREFIX}*")
    }
    return sorted(found)


def kind(root: Path = ROOT) -> str:
    """Return v1, hybrid or v2."""
    if (root / "cgroup.controllers").is_file():
        return "v2"
    return "hybrid" if (root / "unified").is_dir() else "v1"


def _hierarchies(root: Path) -> list[Path]:
    if kind(root) == "v2":
        return [root]
    return [
        path for path in root.iterdir() if path.is_dir() and not path.is_symlink() and (path / "cgroup.procs").is_file()
    ]


def _delegate(folder: Path) -> None:
    available = (folder / "cgroup.controllers").read_text().split()
    wanted = " ".join(f"+{name}" for name in _V2 if name in available)
    if wanted:
        (folder / "cgroup.subtree_control").write_text(wanted)
