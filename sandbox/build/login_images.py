"""The images of the login: oauth2-proxy, redis and the deny-list. They have an archive and a key of their own."""

from __future__ import annotations

from pathlib import Path

from sandbox.build.oci_images import Image, files_layer
from sandbox.paths import HUB, version

# The public images that a node has without a registry: each is one of ours, of the same program at the same version.
STANDS_IN = {
    "oauth2-proxy": ("quay.io/oauth2-proxy/oauth2-proxy:v7.15.6",),
    "redis": ("docker.io/library/redis:7.0",),
    "deny-list": (),  # of this project: no public image
}


def names() -> dict[str, str]:
    """Return the full name of each image by its short one."""
    return {short: f"{HUB}/{short}:{version(short)}" for short in STANDS_IN}


def images_of(parts: dict[str, Path], folder: Path) -> list[Image]:
    """Return the images, from built parts; layers of single files are written into `folder`."""
    full, base = names(), parts["base"]
    certificates = "/etc/ssl/certs/ca-certificates.crt"
    program = {
        "/bin/oauth2-proxy": parts["oauth2-proxy"] / "oauth2-proxy",
        certificates: base / f"root{certificates}",
    }
    return [
        Image(
            full["oauth2-proxy"],
            (files_layer(program, folder / "oauth2-proxy.layer.tar"),),
            ("/bin/oauth2-proxy",),
            "65532:65532",
            also=STANDS_IN["oauth2-proxy"],
        ),
        Image(
            full["redis"],
            (base / "layer.tar", parts["redis"] / "layer.tar"),
            (),
            "65532:65532",
            also=STANDS_IN["redis"],
        ),
        Image(
            full["deny-list"],
            (files_layer({"/bin/deny-list": parts["deny-list"] / "deny-list"}, folder / "deny-list.layer.tar"),),
            ("/bin/deny-list",),
            "65532:65532",
        ),
    ]
