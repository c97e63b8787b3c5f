"""A sandbox and a checkout for each worker of the tests on the sandbox, so that the workers do not meet.

`lib` and `sandbox` read their paths when they are imported. So a worker enters its checkout before it imports them,
and only the process that starts the workers imports them here.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WORKERS = 2
MEMORY_EACH = 6  # GiB: two clusters at once in one sandbox, and a browser
PORTS_APART, LINKS_EACH = 10, 2  # the second: bits of the network's prefix, so that each worker has a quarter


def count() -> int:
    """Return how many workers the cores and the free memory allow, at least one."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    free = next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable")) / (1 << 20)
    return max(1, min(WORKERS, len(os.sched_getaffinity(0)), int(free // MEMORY_EACH)))


def make(worker: str) -> dict[str, str]:
    """Make the folder of a worker, gw0 or another; return the environment of its sandbox.

    The built parts are those of this process's sandbox. What a killed worker of that name left is removed.
    """
    import ipaddress

    from sandbox.paths import AWS_PORT, HOME, LINKS

    number = int(worker.removeprefix("gw")) + 1
    network = ipaddress.ip_network(LINKS)
    folder = _folder(worker)
    environment = {
        "EKS_SANDBOX_HOME": str(folder / "home"),
        "EKS_SANDBOX_PORT": str(AWS_PORT + PORTS_APART * number),
        "EKS_SANDBOX_LINKS": str(list(network.subnets(LINKS_EACH))[number % 4]),
        "XDG_STATE_HOME": str(folder / "state"),  # the locks of clusters, by their names
        "RUNBOOK_AT_ONCE": "1",  # the workers fill the cores; one test runs more steps at once
    }
    remove(worker, environment)
    (folder / "home").mkdir(parents=True)
    for name in ("parts", "go"):
        (HOME / name).mkdir(parents=True, exist_ok=True)
        (folder / "home" / name).symlink_to(HOME / name)
    (HOME / "build.lock").touch()
    (folder / "home" / "build.lock").symlink_to(HOME / "build.lock")
    _copy_checkout(folder / "checkout")
    return environment


def enter(worker: str, environment: dict[str, str]) -> None:
    """Let this process, a worker, use its own sandbox, and lib and sandbox of its own checkout."""
    early = sorted({"lib", "sandbox"} & sys.modules.keys())
    if early:
        raise RuntimeError(f"{' and '.join(early)} were imported before the worker {worker} entered its checkout.")
    checkout = Path(environment["EKS_SANDBOX_HOME"]).with_name("checkout")
    os.environ.update(environment, PYTHONPATH=str(checkout))
    sys.path.insert(0, str(checkout))
    os.chdir(checkout)


def remove(worker: str, environment: dict[str, str]) -> None:
    """End a worker's sandbox and delete its folder; what its runs left goes to outputs/tests."""
    folder = _folder(worker)
    if not folder.exists():
        return
    subprocess.run([sys.executable, "-m", "sandbox", "down"], cwd=ROOT, env={**os.environ, **environment}, check=True)
    left = ROOT / "outputs" / "tests" / worker
    shutil.rmtree(left, ignore_errors=True)
    if (folder / "checkout" / "outputs").is_dir():
        shutil.copytree(folder / "checkout" / "outputs", left, ignore=shutil.ignore_patterns("README.md"))
    shutil.rmtree(folder)


def _folder(worker: str) -> Path:
    from sandbox.paths import HOME

    return HOME / "tests" / worker


def _copy_checkout(folder: Path) -> None:
    """Copy the files that git has or would add, as they are now."""
    subprocess.run(["git", "clone", "--quiet", "--shared", "--no-checkout", ROOT, folder], check=True)
    words = ["git", "ls-files", "-coz", "--exclude-standard"]
    listed = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    subprocess.run(["git", "reset", "--quiet"], cwd=folder, check=True)
