"""Root file systems from Debian packages: a base, and layers on top of it, each a folder and a tar."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import tarfile
from pathlib import Path
from typing import IO

from sandbox.paths import VERSIONS

BASE = "ca-certificates,curl,iptables"

# What runs in a private mount namespace: the layers below, a fresh one above, and a shell inside.
_CHROOT = """
set -eu
mount -t overlay overlay -o "lowerdir=$LOWERS,upperdir=$UPPER,workdir=$WORK" "$ROOT"
mount -t proc proc "$ROOT/proc"
mount --rbind /dev "$ROOT/dev"
for file in resolv.conf hosts; do
  [ -e "$ROOT/etc/$file" ] || : > "$ROOT/etc/$file"
  mount --bind "$(readlink -f /etc/$file)" "$ROOT/etc/$file"
done
printf '#!/bin/sh\\nexit 101\\n' > "$ROOT/usr/sbin/policy-rc.d"  # no package may start a service
chmod 755 "$ROOT/usr/sbin/policy-rc.d"
chroot "$ROOT" /bin/sh -euc "$SCRIPT"
rm "$ROOT/usr/sbin/policy-rc.d"
"""

_INSTALL = """
export DEBIAN_FRONTEND=noninteractive
apt-get update -q
apt-get install -q -y --no-install-recommends {packages}
apt-get clean
rm -rf /var/lib/apt/lists/* /var/log/* /var/cache/debconf/*-old /tmp/* /var/cache/ldconfig/aux-cache
"""


def base(root: Path, log: IO) -> None:
    """Make the smallest Debian at `root`, with curl, iptables and the CA certificates."""
    command = ["mmdebstrap", "--variant=minbase", "--format=directory", f"--include={BASE}"]
    _run([*command, VERSIONS["debian"]["codename"], str(root)], log)


def install(packages: str) -> str:
    """Return the shell lines that install Debian packages in a layer and leave no caches."""
    return _INSTALL.format(packages=packages)


def layer(lowers: list[Path], folder: Path, script: str, log: IO, add: dict[str, Path] | None = None) -> Path:
    """Run `script` over `lowers` (topmost first), return the folder `upper` that holds what it changed.

    `add` maps places in the layer to files or folders that are copied in beforehand.
    """
    upper, work, root = folder / "upper", folder / "work", folder / "root"
    for path in (upper, work, root):
        path.mkdir(parents=True)
    for place, source in (add or {}).items():
        target = upper / place.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        _run(["cp", "-a", str(source), str(target)], log)
    settings = {"LOWERS": ":".join(map(str, lowers)), "UPPER": upper, "WORK": work, "ROOT": root, "SCRIPT": script}
    environment = {"PATH": os.environ["PATH"], "HOME": "/root", "LANG": "C.UTF-8"}
    environment |= {key: str(value) for key, value in settings.items()}
    for proxy in ("http_proxy", "https_proxy", "no_proxy"):
        if proxy in os.environ:
            environment[proxy] = os.environ[proxy]
    _run(["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", _CHROOT], log, environment)
    shutil.rmtree(work)
    root.rmdir()
    for name in ("resolv.conf", "hosts"):
        mark = upper / "etc" / name  # the empty file that the bind mount needed
        if mark.is_file() and not mark.stat().st_size:
            mark.unlink()
    return upper


def pack(folder: Path, target: Path) -> Path:
    """Write `folder` as a layer tar: sorted, without times, overlayfs' white-outs in OCI's form; return `target`."""
    with tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as tar:
        for path in sorted(folder.rglob("*")):
            name = str(path.relative_to(folder))
            info = path.lstat()
            if stat.S_ISCHR(info.st_mode) and info.st_rdev == 0:
                tar.addfile(_plain(f"{os.path.dirname(name)}/.wh.{os.path.basename(name)}".lstrip("/")))
                continue
            if stat.S_ISSOCK(info.st_mode):
                continue
            tar.add(path, arcname=name, recursive=False, filter=_timeless)
            if stat.S_ISDIR(info.st_mode) and _opaque(path):
                tar.addfile(_plain(f"{name}/.wh..wh..opq"))
    return target


def _timeless(info: tarfile.TarInfo) -> tarfile.TarInfo:
    info.mtime, info.uname, info.gname = 0, "", ""
    return info


def _plain(name: str) -> tarfile.TarInfo:
    return tarfile.TarInfo(name)


def _opaque(path: Path) -> bool:
    try:
        return os.getxattr(path, "trusted.overlay.opaque") == b"y"
    except OSError:
        return False


def _run(command: list[str], log: IO, environment: dict | None = None) -> None:
    log.write(f"+ {' '.join(command)[:300]}\n")
    log.flush()
    subprocess.run(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, check=True)
