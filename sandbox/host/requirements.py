"""Will this machine do for the sandbox? One sentence for what is missing, before anything is changed."""

from __future__ import annotations

import os
import platform
import shutil
import socket
import subprocess
from pathlib import Path

from sandbox.host import veth
from sandbox.paths import AWS_PORT, HOME, PARTS

DISK_COLD, DISK_WARM = 16, 4  # GiB free: with Go's caches still to be filled, and without
MEMORY = 6  # GiB available: the whole mesh takes about 2
TOOLS = {
    "unshare": "util-linux",
    "nsenter": "util-linux",
    "mount": "mount",
    "ip": "iproute2",
    "apt-get": "apt",
    "chroot": "coreutils",
}
ELSEWHERE = "or use ENV=existing with kind, minikube or any kubeconfig"


class NotThisMachine(Exception):
    """One sentence: what the sandbox needs, what was found, what to do."""


def require() -> None:
    """Raise NotThisMachine for the first thing that the sandbox needs and this machine has not."""
    for problem in (_system(), _root(), _tools(), _namespaces(), _memory(), _disk()):
        if problem:
            raise NotThisMachine(f"{problem}, {ELSEWHERE}.")


def require_free(number: int) -> None:
    """Raise NotThisMachine where the subnet of a link is in use already."""
    network = veth.Link(number).network
    if device := veth.taken(network):
        fix = "set EKS_SANDBOX_LINKS to a network that is free, such as 10.250.0.0/16"
        raise NotThisMachine(f"the sandbox needs {network} for its link, got it in use by {device}; {fix}.")


def require_port(port: int = AWS_PORT) -> None:
    """Raise NotThisMachine where something else listens on the AWS endpoint's port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            fix = "end what listens there, or set EKS_SANDBOX_PORT (and aws_endpoint_url in the params)"
            raise NotThisMachine(f"the sandbox needs port {port} on loopback, got it in use; {fix}.") from None


def _system() -> str:
    found = f"{platform.system()} {platform.machine()}"
    return (
        "" if found == "Linux x86_64" else f"the sandbox needs Linux on x86_64, got {found}; run it on such a machine"
    )


def _root() -> str:
    return (
        ""
        if os.geteuid() == 0
        else f"the sandbox needs root (namespaces, mounts), got uid {os.geteuid()}; use sudo -E make"
    )


def _tools() -> str:
    missing = [tool for tool in TOOLS if not shutil.which(tool)]
    packages = " ".join(sorted({TOOLS[tool] for tool in missing}))
    return f"the sandbox needs {', '.join(missing)} on PATH, got none; apt-get install {packages}" if missing else ""


def _namespaces() -> str:
    command = ["unshare", "--net", "--mount", "--pid", "--uts", "--ipc", "--fork", "true"]
    done = subprocess.run(command, capture_output=True, text=True)
    return (
        f"the sandbox needs Linux namespaces, got {done.stderr.strip()}; allow them in this container or VM"
        if done.returncode
        else ""
    )


def _memory() -> str:
    lines = Path("/proc/meminfo").read_text().splitlines()
    free = next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable")) / (1 << 20)
    return (
        "" if free >= MEMORY else f"the sandbox needs {MEMORY} GiB of memory available, got {free:.1f}; end something"
    )


def _disk() -> str:
    place = HOME
    while not place.exists():
        place = place.parent
    need = DISK_WARM if list(PARTS.glob("programs-*")) else DISK_COLD
    free = shutil.disk_usage(place).free / (1 << 30)
    fix = "make room, or set EKS_SANDBOX_HOME to a larger disk"
    return "" if free >= need else f"the sandbox needs {need} GiB of disk under {HOME}, got {free:.1f}; {fix}"
