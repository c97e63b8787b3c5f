"""The environment of a run: user, host, commit and versions."""

from __future__ import annotations

import getpass
import os
import platform
import socket
import subprocess
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from lib import strict

PACKAGES = ("papermill", "nbclient", "ipykernel", "kubernetes", "boto3", "requests", "pydantic", "pandas", "nbconvert")
COMMIT = "RUNBOOK_COMMIT"  # of the image, which has no repository: the commit of its files, "" if they differ from it


def who() -> dict[str, str]:
    """Return this process's {user, host}."""
    return {"user": getpass.getuser(), "host": socket.gethostname()}


def origin(folder: Path) -> dict[str, Any]:
    """Return what a run of this folder's code is made of: {commit, dirty, versions, requirements_lock_sha256}."""
    head, dirty = commit(folder)
    lock = strict.digest(folder / "requirements.lock")
    return {"commit": head, "dirty": dirty, "versions": versions(), "requirements_lock_sha256": lock}


def commit(folder: Path, environment: Mapping[str, str] = os.environ) -> tuple[str, bool]:
    """Return the folder's git commit and whether files differ from it; ("", True) without a commit."""
    head = _git(folder, "rev-parse", "--verify", "--quiet", "HEAD").strip()
    if not head and (stated := environment.get(COMMIT)):
        return stated, False
    return head, not head or bool(_git(folder, "status", "--porcelain").strip())


def versions() -> dict[str, str]:
    """Return the versions of Python, the platform and the packages that run the notebooks, by name."""
    packages = {name: number for name in PACKAGES if (number := _version(name))}
    return {"python": platform.python_version(), "platform": platform.platform(), **packages}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _git(folder: Path, *arguments: str) -> str:
    """Return git's output; "" without git, repository or commit."""
    try:
        return subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True).stdout
    except FileNotFoundError:
        return ""
