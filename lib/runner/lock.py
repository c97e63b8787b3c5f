"""One run at a time on one cluster: a lock that ends with its process and names its holder."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import yaml

from lib.errors import Locked


@contextmanager
def held(identity: str, who: dict, folder: Path | None = None) -> Iterator[Path]:
    """Hold the lock of the cluster `identity` until the block ends; it excludes runs of this user on this machine.

    Args:
        identity: which cluster, from `identity()`.
        who: the holder, {user, host, pid, since, command}.
        folder: where lock files are; by default $XDG_STATE_HOME (else ~/.local/state)/istio-keycloak-runbook.

    Yields:
        The path of the lock file.

    Raises:
        Locked: another process holds the lock; the message names its holder.
    """
    folder = folder or _state() / "istio-keycloak-runbook"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = folder / f"{hashlib.sha256(identity.encode()).hexdigest()[:32]}.lock"
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Locked(_sentence(identity, path)) from None
        _fill(file, {**who, "identity": identity})
        try:
            yield path
        finally:
            file.truncate(0)


def identity(params: dict) -> str:
    """Return which cluster the params mean, as text that differs if clusters differ; `params` is a dumped Params."""
    if params["cluster_source"] == "existing":
        return f"kube context {params['kube_context'] or _current_context()}"
    account = params["aws_endpoint_url"] or f"AWS profile {params['aws_profile'] or 'default'}"
    return f"{account}, {params['region']}, cluster {params['cluster_name']}"


def _state() -> Path:
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")


def _fill(file: TextIO, holder: dict) -> None:
    file.truncate(0)
    file.write(json.dumps(holder))
    file.flush()


def _sentence(identity: str, path: Path) -> str:
    try:
        holder = json.loads(path.read_text())
        since = f"(process {holder['pid']}) since {holder['since']} for: {holder['command']}"
        name = f"{holder['user']}@{holder['host']} {since}"
    except (ValueError, KeyError):  # the other process is taking or releasing the lock at this moment
        name = "another run"
    return f"The cluster is in use ({identity}) by {name}. Wait until that run ends, or end it."


def _current_context() -> str:
    for name in filter(None, os.environ.get("KUBECONFIG", str(Path.home() / ".kube" / "config")).split(os.pathsep)):
        path = Path(name).expanduser()
        config = (yaml.safe_load(path.read_text()) or {}) if path.is_file() else {}
        if config.get("current-context"):
            return config["current-context"]
    return "(none)"
