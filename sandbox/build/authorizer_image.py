"""The image of the authorizer: one Go program and nothing else."""

from __future__ import annotations

from pathlib import Path

from sandbox.build.oci_images import Image, archive, files_layer
from sandbox.paths import HUB, version

NAME = f"{HUB}/authorizer:opa-{version('opa')}-cel-{version('cel')}"
PROGRAM = "/usr/local/bin/authorizer"


def inputs() -> str:
    """Return the text that the image is made of: the program's source, this module and the image's format."""
    folder = Path(__file__).parent
    files = [*sorted((folder / "authorizer").iterdir()), Path(__file__), folder / "oci_images.py"]
    return "\n".join([*(file.read_text() for file in files), NAME])


def write(folder: Path) -> None:
    """Write the image of `folder`/authorizer into `folder`/images.tar, and delete the program."""
    program = folder / "authorizer"
    layer = files_layer({PROGRAM: program}, folder / "layer.tar")
    archive([Image(NAME, (layer,), (PROGRAM,), "65532:65532")], folder / "images.tar")
    for path in (program, layer):
        path.unlink()
