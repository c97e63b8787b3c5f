"""One run at a time on one cluster: a lock that ends with its process, and says who holds it."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from lib.errors import Locked


@contextmanager
def held(identity: str, who: dict, folder: Path | None = None) -> Iterator[Path]:
    """Hold the lock of the cluster `identity`; raise Locked, naming the holder, where another process has it.

    `who` is {user, host, pid, since, command}. The folder is $XDG_STATE_HOME's (else ~/.local/state) of this project:
    the lock holds for one machine and user.
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
    """Return which cluster the params (lib.params.Params, dumped) mean, in words that differ where clusters differ."""
    if params["cluster_source"] == "existing":
        return f"kube context {params['kube_context'] or _current_context()}"
    account = params["aws_endpoint_url"] or f"AWS profile {params['aws_profile'] or 'default'}"
    return f"{account}, {params['region']}, cluster {params['cluster_name']}"


def _state() -> Path:
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")


def _fill(file, holder: dict) -> None:
    file.truncate(0)
    file.write(json.dumps(holder))
    file.flush()


def _sentence(identity: str, path: Path) -> str:
    try:
        by = json.loads(path.read_text())
        held = f"held by {by['user']}@{by['host']} (process {by['pid']}) since {by['since']} for: {by['command']}"
    except (ValueError, KeyError):  # it is being taken or given back at this moment
        held = "held by another run"
    return f"expected {identity} to be free, got it {held}; wait until that run ends, or end it."


def _current_context() -> str:
    for name in filter(None, os.environ.get("KUBECONFIG", str(Path.home() / ".kube" / "config")).split(os.pathsep)):
        path = Path(name).expanduser()
        found = (yaml.safe_load(path.read_text()) or {}) if path.is_file() else {}
        if found.get("current-context"):
            return found["current-context"]
    return "(none)"
