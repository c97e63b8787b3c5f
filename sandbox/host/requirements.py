"""Check that this machine can run the sandbox, before anything changes; one sentence says what is missing."""

from __future__ import annotations

import ipaddress
import os
import platform
import shutil
import socket
import subprocess
from pathlib import Path

from sandbox.host import veth
from sandbox.paths import AWS_PORT, HOME, PARTS, POD_NETWORK, SERVICE_NETWORK

# GiB. README.md, "What the sandbox is and costs", has the measurements: a first build fills 10 GB of disk, 6 of them
# Go's caches; the running mesh takes about 2 GiB of memory, the compiler about 4.
DISK_COLD, DISK_WARM, MEMORY = 16, 4, 6
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
    """One sentence: what the sandbox needs, what it found, what to do."""


def require() -> None:
    """Raise NotThisMachine for the first requirement that this machine does not meet."""
    for problem in (_system(), _root(), _tools(), _namespaces(), _memory(), _disk()):
        if problem:
            raise NotThisMachine(f"{problem}, {ELSEWHERE}.")


def require_free(number: int) -> None:
    """Raise NotThisMachine if another program uses the subnet of link `number`, or the cluster itself does."""
    network = veth.Link(number).network
    if used_by := _cluster_network(network) or veth.taken(network):
        fix = "set EKS_SANDBOX_LINKS to a network that is free, such as 10.250.0.0/16"
        raise NotThisMachine(f"the sandbox needs {network} for its link, got it in use by {used_by}; {fix}.")


def require_port(port: int = AWS_PORT) -> None:
    """Raise NotThisMachine if another program listens on the AWS endpoint's port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            fix = "end what listens there, or set EKS_SANDBOX_PORT (and aws_endpoint_url in the params)"
            raise NotThisMachine(f"the sandbox needs port {port} on loopback, got it in use; {fix}.") from None


def _cluster_network(link: ipaddress.IPv4Network) -> str:
    """Return which network of the cluster a link would overlap, or "": a node could not reach its own pods."""
    networks = {"pods": POD_NETWORK, "Services": SERVICE_NETWORK}
    found = [f"the cluster's {name}" for name, text in networks.items() if ipaddress.ip_network(text).overlaps(link)]
    return found[0] if found else ""


def _system() -> str:
    found = f"{platform.system()} {platform.machine()}"
    if found == "Linux x86_64":
        return ""
    return f"the sandbox needs Linux on x86_64, got {found}; run it on such a machine"


def _root() -> str:
    if os.geteuid() == 0:
        return ""
    return f"the sandbox needs root (namespaces, mounts), got uid {os.geteuid()}; use sudo -E make"


def _tools() -> str:
    missing = [tool for tool in TOOLS if not shutil.which(tool)]
    packages = " ".join(sorted({TOOLS[tool] for tool in missing}))
    return f"the sandbox needs {', '.join(missing)} on PATH, got none; apt-get install {packages}" if missing else ""


def _namespaces() -> str:
    command = ["unshare", "--net", "--mount", "--pid", "--uts", "--ipc", "--fork", "true"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode == 0:
        return ""
    return f"the sandbox needs Linux namespaces, got {done.stderr.strip()}; allow them in this container or VM"


def _memory() -> str:
    lines = Path("/proc/meminfo").read_text().splitlines()
    free = next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable")) / (1 << 20)
    if free >= MEMORY:
        return ""
    return f"the sandbox needs {MEMORY} GiB of memory available, got {free:.1f}; end other programs"


def _disk() -> str:
    folder = HOME
    while not folder.exists():
        folder = folder.parent
    need = DISK_WARM if list(PARTS.glob("programs-*")) else DISK_COLD
    free = shutil.disk_usage(folder).free / (1 << 30)
    fix = "make room, or set EKS_SANDBOX_HOME to a larger disk"
    return "" if free >= need else f"the sandbox needs {need} GiB of disk under {HOME}, got {free:.1f}; {fix}"
