"""The Gateway API's conformance suite as a program, and the images of the workloads that it deploys."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from sandbox.build.oci_images import Image, archive, files_layer
from sandbox.paths import HUB, version

SUITE = "sigs.k8s.io/gateway-api/conformance"
PROGRAM = "conformance.test"
ECHO = f"{HUB}/echo-basic:{version('gateway-api-conformance')}"


def inputs() -> str:
    """Return the text that the part is made of: its pins, this module and the image's format."""
    folder = Path(__file__).parent
    sources = sorted(path for path in (folder / "conformance").rglob("*") if path.is_file())
    files = [*sources, Path(__file__), folder / "oci_images.py"]
    return "\n".join(file.read_text() for file in files)


def write(folder: Path, go: Callable[..., str], flags: list[str]) -> None:
    """Write the suite and `folder`/images.tar.

    Args:
        folder: the part's empty folder.
        go: runs Go's command with these words; returns its output.
        flags: of the compiler.
    """
    go("test", "-c", *flags, "-o", str(folder / PROGRAM), SUITE)
    echo, coredns = folder / "echo-basic", folder / "coredns"
    go("build", *flags, "-o", str(echo), f"{SUITE}/echo-basic")
    # The cluster's own CoreDNS lacks plugins that the Corefile of the suite names
    go("build", *flags, "-o", str(coredns), "./coredns")
    module = Path(go("list", "-m", "-f", "{{.Dir}}", SUITE).strip())
    layers = [
        files_layer({f"/{program.name}": program}, folder / f"{program.name}.layer.tar") for program in (echo, coredns)
    ]
    archive(images(layers[0], layers[1], public_names(module)), folder / "images.tar")
    for path in (echo, coredns, *layers):
        path.unlink()


def images(echo: Path, coredns: Path, public: set[str]) -> list[Image]:
    """Return the images of two layers, known by the names of the suite's manifests too."""

    def also(program: str) -> tuple[str, ...]:
        return tuple(sorted(name for name in public if name.rsplit(":", 1)[0].endswith(f"/{program}")))

    return [
        Image(ECHO, (echo,), ("/echo-basic",), "65532:65532", also=also("echo-basic")),
        Image(f"{HUB}/conformance-coredns:{version('coredns')}", (coredns,), ("/coredns",), also=also("coredns")),
    ]


def public_names(module: Path) -> set[str]:
    """Return the images that the manifests of the suite's module name."""
    texts = [file.read_text() for file in module.rglob("*.yaml")]
    return {name for text in texts for name in re.findall(r"^\s+image: (\S+:\S+)$", text, re.M)}
