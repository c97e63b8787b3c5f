"""The image of the runbook: build it, and import it into the node of the cluster that runs."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from lib.runner import environment
from sandbox.build import istioctl_image
from sandbox.build.builder import BuildFailed, build
from sandbox.build.runbook_image import NAME, OWN, write
from sandbox.commands import endpoint
from sandbox.node.image_store import import_images
from sandbox.paths import BIN, LOGS, PROJECT

FOLDER = PROJECT / "outputs" / "image"
LOG = LOGS / "build-runbook.log"


def make(tell: Callable[[str], None]) -> str:
    """Build the image from the files that git knows; if a cluster runs, import it there; return its digest.

    Raises:
        BuildFailed: a part cannot be built, this folder is no git repository, or containerd refuses the image.
    """
    parts = build(tell, only=("base", "python"))
    listed = subprocess.run(["git", "ls-files", "-z", *OWN], cwd=PROJECT, capture_output=True, text=True)
    if listed.returncode:
        raise BuildFailed(f"expected git to list the files, got: {listed.stderr.strip()}; build in a git clone.")
    commit, dirty = environment.commit(PROJECT)
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    with LOG.open("w") as log:
        try:
            digest = write(FOLDER, parts, filter(None, listed.stdout.split("\0")), "" if dirty else commit, log)
        except (subprocess.CalledProcessError, OSError) as error:
            raise BuildFailed(f"expected to build {NAME}, got: {error}; see {LOG}, then run again.") from None
    file = next(FOLDER.iterdir())
    tell(f"{NAME}@{digest}\n{file.relative_to(PROJECT)}, {file.stat().st_size >> 20} MiB, commit {commit or 'unknown'}")
    if dirty:
        tell("Files differ from that commit: the image names no commit.")
    if running := endpoint.clusters():
        with tempfile.TemporaryDirectory(dir=LOGS) as folder:
            istioctl = istioctl_image.write(Path(folder), parts["base"] / "layer.tar", (BIN / "istioctl").resolve())
            for cluster in running:
                for one in (file, istioctl):
                    import_images(cluster["processes"]["containerd"]["pid"], one)
                tell(f"imported into the node of {cluster['name']}")
    return digest
