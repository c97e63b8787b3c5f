"""Where the sandbox keeps what it builds and runs, and which versions it is made of."""

from __future__ import annotations

import hashlib
import os
import tomllib
from pathlib import Path

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parent

DEFAULT_HOME = Path.home() / ".cache" / "eks-sandbox"
HOME = Path(os.environ.get("EKS_SANDBOX_HOME") or DEFAULT_HOME)
PARTS = HOME / "parts"  # finished builds, one folder each, named by what went into them
BIN = HOME / "bin"  # kubectl and istioctl for people, as links
CRDS = HOME / "gateway-api"  # the Gateway API's CustomResourceDefinitions, a link too
LOGS = HOME / "logs"
NODES = HOME / "nodes"  # images that a cluster's node has imported, kept between starts
RUN = HOME / "run"  # the state of what runs now; `down` empties it

AWS_PORT = int(os.environ.get("EKS_SANDBOX_PORT") or 4599)
AWS_URL = f"http://127.0.0.1:{AWS_PORT}"
CREDENTIALS = HOME / "aws" / "credentials"
REGION = "us-east-1"
LINKS = os.environ.get("EKS_SANDBOX_LINKS") or "198.18.0.0/15"  # RFC 2544: no host of the Internet is there
POD_NETWORK = "10.244.0.0/16"  # of each cluster
SERVICE_NETWORK = "10.100.0.0/16"  # of each cluster; one of EKS's two defaults: API_KubernetesNetworkConfigRequest


def tag(home: Path) -> str:
    """Return three letters for the links and cgroups of a sandbox with a home of its own; "" for the usual home."""
    if home == DEFAULT_HOME:
        return ""
    return "".join(chr(ord("a") + byte % 26) for byte in hashlib.sha256(str(home).encode()).digest()[:3])


TAG = tag(HOME)

HUB = "eks-sandbox.local"  # no registry: the images are built here, and named so that nobody takes them for others'

VERSIONS = tomllib.loads((HERE / "versions.toml").read_text())


def version(name: str) -> str:
    """Return the pinned version of one part."""
    return VERSIONS[name]["version"]
