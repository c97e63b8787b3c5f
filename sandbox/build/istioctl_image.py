"""The image of istioctl, in the place where Istio's own image has it: a run in a pod takes the program from there."""

from __future__ import annotations

from pathlib import Path

from sandbox.build.oci_images import Image, archive, files_layer
from sandbox.paths import HUB, version

NAME = f"{HUB}/istio/istioctl:{version('istio')}"
FILE = "/usr/local/bin/istioctl"


def write(folder: Path, base: Path, program: Path) -> Path:
    """Write the image as `folder`/istioctl.tar; return its path.

    Args:
        folder: an empty folder.
        base: the layer of Debian, which has the `cp` of the pod's first container.
        program: istioctl.
    """
    own = files_layer({FILE: program}, folder / "own.tar")
    archive([Image(NAME, (base, own), (FILE,))], folder / "istioctl.tar")
    own.unlink()
    return folder / "istioctl.tar"
