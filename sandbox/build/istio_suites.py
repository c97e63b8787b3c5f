"""Istio's own security suites: a program each, the files of Istio's module that they read, and their workloads."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from sandbox.build.oci_images import Image, archive, files_layer
from sandbox.paths import HUB, version

MODULE = "istio.io/istio"
PLACE = "tests/integration/security"  # in the module; the suite of the folder itself has the name "security"
ISTIO_HUB, TAG = f"{HUB}/istio", version("istio")  # the suites take images of Istio and of workloads from one hub
WORKLOADS = {  # the programs, and the folder that each is built from
    "server": "pkg/test/echo/cmd/server",
    "client": "pkg/test/echo/cmd/client",
    "ext-authz": "samples/extauthz/cmd/extauthz",
    "jwt-server": "samples/jwt-server/src",
}
TREE = ("manifests", "pkg/test/framework/components", "samples", "tests")
PINS = Path(__file__).parent / "go"  # the modules that the sandbox's Istio is built with
MORE_SUMS = Path(__file__).parent / "istio_suites" / "go.sum"  # of the modules that the suites alone need


def inputs() -> str:
    """Return the text that the part is made of, besides the pins of the part "programs": its sums and this module."""
    files = (MORE_SUMS, Path(__file__), Path(__file__).parent / "oci_images.py")
    return "\n".join(file.read_text() for file in files)


def write(folder: Path, go: Callable[..., str], flags: list[str], base: Path) -> None:
    """Write `folder`/suites, `folder`/tree and `folder`/images.tar.

    Args:
        folder: the part's empty folder.
        go: runs Go's command with these words in PINS; returns its output.
        flags: of the compiler, as for Istio's own programs.
        base: the part of that name, Debian's root file system.
    """
    pins = folder / "go.mod"
    shutil.copyfile(PINS / "go.mod", pins)
    (folder / "go.sum").write_text((PINS / "go.sum").read_text() + MORE_SUMS.read_text())
    where = [f"-modfile={pins}", "-tags=integ,disable_pgv"]
    flags = [*flags, *where]
    suites = go("list", *where, "-f", "{{if .TestGoFiles}}{{.ImportPath}}{{end}}", f"{MODULE}/{PLACE}/...").split()
    (folder / "suites").mkdir()
    go("test", "-c", "-vet=off", *flags, "-o", f"{folder}/suites/", *suites)
    for name, source in WORKLOADS.items():
        go("build", *flags, "-o", str(folder / name), f"{MODULE}/{source}")
    module = Path(go("list", "-m", *where, "-f", "{{.Dir}}", MODULE).strip())
    copy_tree(module, folder / "tree")
    archive(images(folder, folder / "tree", base), folder / "images.tar")
    for path in (pins, folder / "go.sum", *folder.glob("*.layer.tar"), *(folder / name for name in WORKLOADS)):
        path.unlink()


def copy_tree(module: Path, target: Path) -> None:
    """Copy what the suites read of Istio's module, so that they run on a node that pulls no image.

    The copy asks for images only if the node lacks them, and its scripts are executable, which a Go module does not
    keep.
    """
    for name in TREE:
        shutil.copytree(
            module / name, target / name, ignore=shutil.ignore_patterns("*.go"), copy_function=shutil.copyfile
        )
    for folder in [target, *(path for path in target.rglob("*") if path.is_dir())]:
        folder.chmod(0o755)  # the module's are read-only
    for script in target.rglob("*.sh"):
        script.chmod(0o755)
    for manifest in (target / "samples").rglob("*.yaml"):
        text = manifest.read_text()
        manifest.write_text(text.replace("imagePullPolicy: Always", "imagePullPolicy: IfNotPresent"))


def images(programs: Path, tree: Path, base: Path) -> list[Image]:
    """Return the images of the suites' workloads, under the names that the suites' manifests use."""

    def layer(name: str, files: dict[str, Path]) -> Path:
        return files_layer(files, programs / f"{name}.layer.tar")

    manifest = (tree / "samples" / "jwt-server" / "jwt-server.yaml").read_text()
    jwt_server = next(line.split()[-1] for line in manifest.splitlines() if " image: " in line)
    certificates = tree / "tests" / "testdata" / "certs" / "dns"
    app = {f"/usr/local/bin/{name}": programs / name for name in ("server", "client")}
    app |= {"/cert.crt": certificates / "cert-chain.pem", "/cert.key": certificates / "key.pem"}
    small = {name: layer(name, {f"/usr/local/bin/{name}": programs / name}) for name in ("ext-authz", "jwt-server")}
    return [
        Image(f"{ISTIO_HUB}/app:{TAG}", (base / "layer.tar", layer("app", app)), ("/usr/local/bin/server",), "1338"),
        Image(f"{ISTIO_HUB}/ext-authz:{TAG}", (small["ext-authz"],), ("/usr/local/bin/ext-authz",), "65532:65532"),
        Image(jwt_server, (small["jwt-server"],), ("/usr/local/bin/jwt-server",)),  # root alone can read its key
    ]
