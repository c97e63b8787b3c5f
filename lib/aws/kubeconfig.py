"""Tokens for EKS clusters, and a kubeconfig without a secret: its command makes a token for each kubectl call."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import boto3
import yaml

from lib.aws import session as aws_session
from lib.files import PRIVATE, write_atomic
from lib.recent import Recent

LIFETIME = timedelta(minutes=14)  # of a token: EKS accepts it for 15 minutes from its date
API = "client.authentication.k8s.io/v1"


@aws_session.aws_errors()
def token(session: boto3.Session, cluster_name: str, endpoint_url: str | None = None, expires: int = 60) -> str:
    """Return a bearer token: a presigned URL of STS GetCallerIdentity, signed with the cluster's name.

    Args:
        session: whose credentials sign the URL.
        cluster_name: the EKS cluster.
        endpoint_url: another STS endpoint than AWS's.
        expires: lifetime of the URL in seconds.

    Source: `aws eks get-token` (awscli, customizations/eks/get_token.py).
    """
    sts = aws_session.client(session, "sts", endpoint_url)
    sts.meta.events.register(
        "before-sign.sts.GetCallerIdentity",
        lambda request, **_: request.headers.add_header("x-k8s-aws-id", cluster_name),
    )
    url = sts.generate_presigned_url("get_caller_identity", ExpiresIn=expires, HttpMethod="GET")
    return "k8s-aws-v1." + base64.urlsafe_b64encode(url.encode()).decode().rstrip("=")


def bearer(
    session: boto3.Session,
    cluster_name: str,
    endpoint_url: str | None = None,
    clock: Callable[[], float] = time.time,  # it goes on while a laptop sleeps, as the token's life does
) -> Callable[[], str]:
    """Return what returns a token of the cluster: the same one for LIFETIME, then a new one. Arguments as `token`'s."""
    kept = Recent(LIFETIME.total_seconds(), clock)
    return lambda: kept.get(cluster_name, lambda: token(session, cluster_name, endpoint_url))


def print_exec_credential(
    cluster_name: str,
    region: str,
    endpoint_url: str | None = None,
    profile: str | None = None,
    credentials_file: str | None = None,
) -> None:
    """Print the ExecCredential with a token, for the Kubernetes client that runs this command; never in a notebook."""
    bearer = token(aws_session.session(region, profile, credentials_file), cluster_name, endpoint_url)
    ends = (datetime.now(UTC) + LIFETIME).strftime("%Y-%m-%dT%H:%M:%SZ")
    status = {"expirationTimestamp": ends, "token": bearer}
    print(json.dumps({"kind": "ExecCredential", "apiVersion": API, "spec": {}, "status": status}))


def cluster_of(path: Path) -> tuple[str, str]:
    """Return the address of the API server and its authority (PEM in base64) in a kubeconfig of `write_kubeconfig`."""
    cluster = yaml.safe_load(path.read_text())["clusters"][0]["cluster"]
    return cluster["server"], cluster["certificate-authority-data"]


def write_kubeconfig(
    path: Path,
    name: str,
    endpoint: str,
    ca_data_b64: str,
    *,
    python: str,
    root: Path,
    region: str,
    endpoint_url: str | None = None,
    profile: str | None = None,
    credentials_file: str | None = None,
) -> str:
    """Write the kubeconfig with mode 0600 if the file differs; return "created", "changed" or "unchanged".

    Its user is the command `python -m lib token …`, with `root` on Python's path.
    """
    file = str(Path(credentials_file).expanduser().absolute()) if credentials_file else None
    options = {"region": region, "endpoint-url": endpoint_url, "profile": profile, "credentials-file": file}
    command = _command(name, python, root, options)
    text = yaml.safe_dump(_document(name, endpoint, ca_data_b64, command), sort_keys=False)
    exists = path.exists()
    if exists and path.read_text() == text and path.stat().st_mode & 0o777 == 0o600:
        return "unchanged"
    write_atomic(path, text, PRIVATE)
    return "changed" if exists else "created"


def _command(name: str, python: str, root: Path, options: dict[str, str | None]) -> dict:
    given = [part for option, value in options.items() if value for part in (f"--{option}", value)]
    return {
        "apiVersion": API,
        "command": python,
        "args": ["-m", "lib", "token", "--cluster", name, *given],
        # PYTHONSAFEPATH: Python ignores a folder named lib in kubectl's working directory.
        "env": [{"name": "PYTHONPATH", "value": str(root)}, {"name": "PYTHONSAFEPATH", "value": "1"}],
        "interactiveMode": "Never",
    }


def _document(name: str, endpoint: str, ca_data_b64: str, command: dict) -> dict:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": {"server": endpoint, "certificate-authority-data": ca_data_b64}}],
        "users": [{"name": name, "user": {"exec": command}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "current-context": name,
    }
