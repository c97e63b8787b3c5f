"""The images of all parts as containerd keeps them: imported once on this machine, and shared by all clusters.

To import them costs a cluster some 20 CPU seconds and 2.4 GB. A cluster gets links to the same files instead: those of
layers and their content, which containerd never writes again. Its databases are copies.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

from lib.polling import wait
from sandbox.build.builder import BuildFailed, locked
from sandbox.node import command_lines
from sandbox.node.namespaces import KINDS, ROOT, Namespaces, enter
from sandbox.paths import LOGS, PARTS

CONTAINERD = 60  # seconds until it answers, on a machine whose cores are busy
MARK = "imported"  # beside a cluster's images: the name of the store that they came from


def ensure(images: Path, parts: dict[str, Path]) -> None:
    """Give a cluster the images of the parts, unless it has them from its last start.

    Args:
        images: the folder of the cluster's containerd.
        parts: the folders of the built parts.

    Raises:
        BuildFailed: containerd refuses an image.
        TimedOut: containerd does not answer.
    """
    link(_store(parts), images)


def link(store: Path, images: Path) -> None:
    """Fill `images` with links to the store's files and copies of its databases, unless they are that store's."""
    mark = images.with_name(MARK)
    if mark.is_file() and mark.read_text() == store.name:
        return
    mark.unlink(missing_ok=True)
    shutil.rmtree(images, ignore_errors=True)
    images.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["cp", "-a", "--link", store, images], check=True)
    for database in (path for path in images.glob("*/*") if path.is_file()):
        database.unlink()
        shutil.copy2(store / database.relative_to(images), database)
    mark.write_text(store.name)


def import_images(pid: int, images: Path) -> None:
    """Import a file of images into the containerd of a node; raise BuildFailed if it refuses them.

    Args:
        pid: of any process of the node.
        images: the file.
    """
    command = [*enter(pid, *KINDS, *ROOT), *command_lines.ctr("-n", "k8s.io", "images", "import", "-")]
    with images.open("rb") as content:
        done = subprocess.run(command, stdin=content, capture_output=True, text=True)
    if done.returncode:
        raise BuildFailed(f"expected containerd to import {images}, got: {done.stderr.strip()[-200:]}; see {LOGS}")


def _store(parts: dict[str, Path]) -> Path:
    """Return the folder of a containerd that has imported the images of these parts."""
    archives = [part / "images.tar" for part in parts.values() if (part / "images.tar").is_file()]
    key = hashlib.sha256("\n".join(archive.parent.name for archive in archives).encode()).hexdigest()[:12]
    store = PARTS / f"imported-{key}"
    if not store.is_dir():  # without the lock first: a build may hold it for minutes
        with locked():
            if not store.is_dir():
                _make(store, archives, parts)
    return store


def _make(store: Path, archives: list[Path], parts: dict[str, Path]) -> None:
    """Import the archives by a containerd that ends afterwards, and put what it keeps in place of the store before."""
    for old in PARTS.glob("imported-*"):
        shutil.rmtree(old)
    work, name = PARTS / "tmp" / "imported", "containerd.toml"
    shutil.rmtree(work, ignore_errors=True)
    (work / "etc").mkdir(parents=True)
    (work / "etc" / name).write_text(command_lines.files("", "privileged")[name])
    namespaces = Namespaces("images", work, work / "images", parts, LOGS / "images")
    try:
        namespaces.wait_ready()
        namespaces.spawn("containerd", command_lines.containerd())
        answers = lambda: namespaces.run(command_lines.ctr("version")).returncode == 0  # noqa: E731
        wait("containerd", answers, deadline=CONTAINERD, fix=f"see {namespaces.logs}")
        for archive in archives:
            import_images(namespaces.pid, archive)
    finally:
        namespaces.close()
    (work / "images").rename(store)
    shutil.rmtree(work)
