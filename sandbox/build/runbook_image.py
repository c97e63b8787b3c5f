"""The image of the runbook: Debian's Python, the locked packages that lib needs, and this project's own files."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import IO

from sandbox.build import debian_layers
from sandbox.build.oci_images import Image, archive
from sandbox.paths import HUB, PROJECT

SOURCE = PROJECT / "image"  # the Dockerfile, which makes the same, and what it shares with this module
PLACE, SITE = "/runbook", "/opt/runbook"  # in the image: this project's files, and the packages
OWN = ("lib", "notebooks", "params", "tools/verify_bundle.py", "requirements.lock")
WRITABLE = ("outputs", ".kube")  # below PLACE: where a volume goes
USER = "65532:65532"
NAME = f"{HUB}/runbook:{tomllib.loads((PROJECT / 'pyproject.toml').read_text())['project']['version']}"
ENV = (
    f"PYTHONPATH={PLACE}:{SITE}",
    f"JUPYTER_PATH={SITE}/share/jupyter",  # the templates of the record's pages
    "PYTHONDONTWRITEBYTECODE=1",
    "PYTHONUNBUFFERED=1",
    "HOME=/tmp",
    "USER=runbook",  # the user has no entry in /etc/passwd
)
# uv takes the hashes from the lock, and refuses a package without one. The lock also has the packages of the tests
UV = ("--python-version", "3.11", "--python-platform", "x86_64-manylinux_2_28", "--only-binary", ":all:")
LOCKED = ("--require-hashes", "-r", "pyproject.toml", "-c", "requirements.lock")
DEBIAN = "python3"


def inputs() -> str:
    """Return the text that the layer of the packages is made of, besides Debian's part."""
    files = (PROJECT / "requirements.lock", PROJECT / "pyproject.toml", SOURCE / "finish.sh", Path(__file__))
    return "\n".join(file.read_text() for file in files)


def write_packages(folder: Path, base: Path, log: IO) -> None:
    """Write `folder`/layer.tar: Debian's Python and the packages, compiled. `base` is Debian's part."""
    site, uv = folder / "site", str(Path(sys.executable).with_name("uv"))
    command = [uv, "pip", "install", "--link-mode", "copy", *UV, *LOCKED, "--target", str(site)]
    subprocess.run(command, cwd=PROJECT, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=True)
    shutil.rmtree(site / "bin")  # their first lines name this machine's Python
    (site / ".lock").unlink(missing_ok=True)
    script = debian_layers.install(DEBIAN) + _finish("/usr/lib/python3", "/usr/lib/python3.11", SITE)
    upper = debian_layers.layer([base / "root"], folder, script, log, add={SITE: site})
    shutil.rmtree(site)
    debian_layers.pack(upper, folder / "layer.tar")


def write(folder: Path, parts: dict[str, Path], files: Iterable[str], commit: str, log: IO) -> str:
    """Write the image into `folder`/runbook.tar; return its manifest's digest.

    Args:
        folder: an empty folder.
        parts: the parts base and python.
        files: this project's files of OWN, relative to it.
        commit: the commit that they are of, "" if they differ from it.
        log: takes what programs say.
    """
    own = folder / "own"
    for name in files:
        target = own / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(PROJECT / name, target)
    folders = " ".join(f"{PLACE}/{name}" for name in WRITABLE)
    script = f"{_finish(PLACE)}install -d -o {USER.partition(':')[0]} -g {USER.partition(':')[2]} {folders}\n"
    lowers = [parts["python"] / "upper", parts["base"] / "root"]
    added = {PLACE: own, f"{PLACE}/entrypoint": SOURCE / "entrypoint.sh"}
    upper = debian_layers.layer(lowers, folder, script, log, add=added)
    layers = parts["base"] / "layer.tar", parts["python"] / "layer.tar", debian_layers.pack(upper, folder / "own.tar")
    labels = {"org.opencontainers.image.revision": commit} if commit else {}
    env = (*ENV, f"RUNBOOK_COMMIT={commit}")
    image = Image(NAME, layers, (f"{PLACE}/entrypoint",), USER, env, labels)
    digest = archive([image], folder / "runbook.tar")[NAME]
    for path in (own, upper):
        shutil.rmtree(path)
    layers[-1].unlink()
    return digest


def _finish(*places: str) -> str:
    return f"set -- {' '.join(places)}\n{(SOURCE / 'finish.sh').read_text()}"
