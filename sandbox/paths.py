"""Where the sandbox keeps what it builds and runs, and which versions it is made of."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parent

HOME = Path(os.environ.get("EKS_SANDBOX_HOME") or Path.home() / ".cache" / "eks-sandbox")
PARTS = HOME / "parts"  # finished builds, one folder each, named by what went into them
BIN = HOME / "bin"  # kubectl and istioctl for people, as links
LOGS = HOME / "logs"
NODES = HOME / "nodes"  # images that a cluster's node has imported, kept between starts
RUN = HOME / "run"  # the state of what runs now; `down` empties it

AWS_PORT = int(os.environ.get("EKS_SANDBOX_PORT") or 4599)
AWS_URL = f"http://127.0.0.1:{AWS_PORT}"
CREDENTIALS = HOME / "aws" / "credentials"
REGION = "us-east-1"
LINKS = os.environ.get("EKS_SANDBOX_LINKS") or "198.18.0.0/15"  # RFC 2544: no host of the Internet is there

HUB = "eks-sandbox.local"  # no registry: the images are built here, and named so that nobody takes them for others'

VERSIONS = tomllib.loads((HERE / "versions.toml").read_text())


def version(name: str) -> str:
    """Return the pinned version of one part."""
    return VERSIONS[name]["version"]
