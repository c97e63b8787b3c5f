"""One run at a time on one cluster: a lock that ends with its process and names its holder."""

from __future__ import annotations

import base64
import fcntl
import hashlib
import json
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TextIO
from urllib.parse import urlsplit

import yaml
from botocore.config import Config

from lib import http_client
from lib.aws.clusters import find_cluster
from lib.aws.session import aws_errors, session, whoami
from lib.errors import AwsError, Locked
from lib.files import writing
from lib.kubernetes import kubectl, service_account

ONCE = Config(retries={"total_max_attempts": 1}, connect_timeout=5, read_timeout=5)  # the steps repeat calls


@contextmanager
def held(identities: list[str], who: dict, folder: Path | None = None) -> Iterator[list[Path]]:
    """Hold the lock of a cluster until the block ends; it excludes runs of this user on this machine.

    Args:
        identities: which cluster, from `identities()`; there is a lock for each.
        who: the holder, {user, host, pid, since, command}.
        folder: where lock files are; by default $XDG_STATE_HOME (else ~/.local/state)/istio-keycloak-runbook.

    Yields:
        The paths of the lock files.

    Raises:
        Locked: another process holds a lock; the message names its holder.
    """
    folder = folder or _state() / "istio-keycloak-runbook"
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with ExitStack() as stack:
        yield [stack.enter_context(_held(identity, who, folder)) for identity in identities]


@contextmanager
def _held(identity: str, who: dict, folder: Path) -> Iterator[Path]:
    path = folder / f"{hashlib.sha256(identity.encode()).hexdigest()[:32]}.lock"
    with open(path, "a+", opener=_regular_file) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Locked(_sentence(identity, path)) from None
        _fill(file, {**who, "identity": identity})
        try:
            yield path
        finally:
            file.truncate(0)


def identities(params: dict) -> list[str]:
    """Return which cluster the params mean, however they address it; `params` is a dumped Params.

    A cluster of AWS is its account, region and name, and the authority of its API server as soon as it has one. Any
    other cluster is its authority. An emulated AWS has an account of its own, so its address counts too.
    """
    if params["cluster_source"] == "existing":
        in_pod = not params["kube_context"] and service_account.is_used()
        own = service_account.AUTHORITY
        return [_authority(own.read_bytes()) if in_pod and own.is_file() else _of_kubeconfig(params["kube_context"])]
    endpoint, name = params["aws_endpoint_url"], f"{params['region']}, cluster {params['cluster_name']}"
    place = f" at {_address(endpoint)}" if endpoint else ""
    try:
        signer = session(params["region"], params["aws_profile"], params["aws_credentials_file"])
        with aws_errors():
            sts = signer.client("sts", endpoint_url=endpoint, config=ONCE)
            eks = signer.client("eks", endpoint_url=endpoint, config=ONCE)
        found = [f"AWS account {whoami(sts)['account']}{place}, {name}"]
        cluster = find_cluster(eks, params["cluster_name"]) or {}
    except AwsError:  # the first step says what is wrong
        return [f"{endpoint or 'AWS profile ' + (params['aws_profile'] or 'default')}, {name}"]
    authority = cluster.get("certificateAuthority", {}).get("data")
    return [*found, _authority(base64.b64decode(authority))] if authority else found


def _address(url: str) -> str:
    """Return the address and port of a URL, the same for each of its spellings."""
    parts = urlsplit(url)
    try:
        host = socket.gethostbyname(parts.hostname or "")
    except OSError:
        host = parts.hostname or ""
    return f"{host}:{http_client.port(parts)}"


def _of_kubeconfig(context: str | None) -> str:
    files = [yaml.safe_load(path.read_text()) or {} for path in kubectl.kubeconfigs() if path.is_file()]
    name = context or next((one["current-context"] for one in files if one.get("current-context")), "(none)")
    about = _named(files, "contexts", name).get("context", {})
    cluster = _named(files, "clusters", about.get("cluster")).get("cluster", {})
    if data := cluster.get("certificate-authority-data"):
        return _authority(base64.b64decode(data))
    file = Path(cluster.get("certificate-authority", "")).expanduser()
    return _authority(file.read_bytes()) if file.is_file() else f"Kubernetes at {cluster.get('server', name)}"


def _named(files: list[dict], kind: str, name: str | None) -> dict:
    return next((one for file in files for one in file.get(kind) or [] if one["name"] == name), {})


def _authority(pem: bytes) -> str:
    return f"Kubernetes with the authority {hashlib.sha256(b''.join(pem.split())).hexdigest()[:16]}"


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


def _regular_file(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, 0o600)
