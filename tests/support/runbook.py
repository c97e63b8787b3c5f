"""The runbook's commands, for the tests on the sandbox."""

from __future__ import annotations

import contextlib
import csv
import os
import re
import subprocess
import sys
from pathlib import Path

from lib.params import ROOT
from sandbox.host import cgroups, inotify_limit, veth
from sandbox.paths import BIN, RUN, TAG

KUBECTL = BIN / "kubectl"


def python(*words: str, limit: int = 1800, **more: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **more}
    done = subprocess.run(
        [sys.executable, *words], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=limit
    )
    print(done.stdout, done.stderr)
    return done


def kubectl(*words: str, check: bool = True) -> str:
    environment = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], "KUBECONFIG": str(ROOT / ".kube" / "dev")}
    done = subprocess.run([KUBECTL, *words], env=environment, capture_output=True, text=True, timeout=60, check=check)
    return done.stdout


def run(*words: str, **more: str) -> tuple[int, Path]:
    done = python("-m", "lib", "run", "--env", "dev", *words, **more)
    return done.returncode, ROOT / re.search(r"(outputs/dev/\S+)/index.html", done.stdout).group(1)


def rows(bundle: Path, name: str) -> list[dict]:
    with (bundle / name).open() as file:
        return list(csv.DictReader(file))


def assert_nothing_left() -> None:
    links = subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True).stdout
    assert not re.search(rf"\b{veth.PREFIX}\d+[@:]", links)
    folders = [name for _, names, _ in os.walk("/sys/fs/cgroup") for name in names]  # passes over what goes meanwhile
    assert not [name for name in folders if name.startswith(cgroups.PREFIX)]
    assert str(RUN) not in Path("/proc/self/mountinfo").read_text()
    assert not (inotify_limit.SHARED / f"user-{TAG}").exists()
    assert not running() & {"kube-apiserver", "kubelet", "etcd", "pilot-discovery"}


def running() -> set[str]:
    """Return the names of the processes in this sandbox's nodes, by their mounts: another sandbox may run beside it."""
    names = set()
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it may have ended by now
            if f"{RUN}/" in (path / "mountinfo").read_text():
                names.add((path / "comm").read_text().strip())
    return names
