"""The runbook's commands, for the tests on the sandbox."""

from __future__ import annotations

import contextlib
import csv
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
KUBECTL = Path(os.environ.get("EKS_SANDBOX_HOME") or Path.home() / ".cache/eks-sandbox") / "bin" / "kubectl"


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


def run(*words: str) -> tuple[int, Path]:
    done = python("-m", "lib", "run", "--env", "dev", *words)
    return done.returncode, ROOT / re.search(r"(outputs/dev/\S+)/index.html", done.stdout).group(1)


def rows(bundle: Path, name: str) -> list[dict]:
    with (bundle / name).open() as file:
        return list(csv.DictReader(file))


def assert_nothing_left() -> None:
    links = subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True).stdout
    assert not re.search(r"\beks\d+[@:]", links)
    assert not list(Path("/sys/fs/cgroup").glob("**/eks-sandbox-*"))
    assert "eks-sandbox/run" not in Path("/proc/self/mountinfo").read_text()
    assert not (KUBECTL.parent.parent / "max_user_instances").exists()  # the kernel's limit is restored
    assert not running() & {"kube-apiserver", "kubelet", "etcd", "pilot-discovery"}


def running() -> set[str]:
    names = set()
    for path in Path("/proc").glob("[0-9]*/comm"):
        with contextlib.suppress(OSError):  # it may have ended by now
            names.add(path.read_text().strip())
    return names
