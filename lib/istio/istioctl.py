"""The program istioctl: its version, and the objects that it would install."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import yaml

from lib.errors import IstioError
from lib.istio.extension_providers import PROVIDERS

LIMIT = 60  # seconds for one call of istioctl
AUTHORITY_NOTE = "runbook/ca"  # annotation of pods that read an authority once, when they start


def manifest(istioctl: str, hub: str, tag: str, settings: list[str], authority: str = "") -> list[dict[str, Any]]:
    """Return the objects that `istioctl install` would apply; istioctl contacts no cluster for that.

    Args:
        istioctl: The program: a name on PATH, or a file.
        hub: The registry of Istio's images.
        tag: The images' tag.
        settings: Further `--set` arguments, each `key=value`.
        authority: PEM certificates that istiod trusts, beside the system's, when it fetches keys.
    """
    command = ["manifest", "generate", "--set", f"hub={hub}", "--set", f"tag={tag}"]
    for setting in settings:
        command += ["--set", setting]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "operator.yaml"
        file.write_text(yaml.safe_dump(_operator(authority)))
        text = call(istioctl, *command, "--filename", str(file))
    return [_without_istiods_fields(each) for each in yaml.load_all(text, yaml.CSafeLoader) if each]


def authority_digest(authority: str) -> str:
    """Return the value of AUTHORITY_NOTE for an authority's certificate: 16 hex digits of its SHA-256."""
    return hashlib.sha256(authority.encode()).hexdigest()[:16]


def call(istioctl: str, *words: str) -> str:
    """Return what istioctl prints; raise IstioError, with its last line, if it fails or is missing."""
    program = shutil.which(str(Path(istioctl).expanduser()))
    if not program:
        raise IstioError(f"{missing(istioctl)} Install istioctl, or set `istioctl` in the params file to its path.")
    try:
        done = subprocess.run(
            [program, *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT
        )
    except subprocess.TimeoutExpired:
        raise IstioError(f"istioctl {words[0]} gave no answer in {LIMIT} s. Check that the cluster is up.") from None
    if done.returncode:
        line = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise IstioError(f"istioctl {' '.join(words[:2])} failed: {line}")
    return done.stdout


def missing(istioctl: str) -> str:
    """Return the sentence that istioctl is missing; "" if it is an executable on PATH or a file."""
    if shutil.which(str(Path(istioctl).expanduser())):
        return ""
    return f"{istioctl} is not {'an executable file' if '/' in istioctl else 'on PATH'}."


def version(istioctl: str) -> str:
    """Return istioctl's own version."""
    return json.loads(call(istioctl, "version", "--remote=false", "-o", "json"))["clientVersion"]["version"]


def _operator(authority: str) -> dict[str, Any]:
    """Return the operator file; its annotation restarts istiod, which reads the authority only when it starts."""
    notes = {AUTHORITY_NOTE: authority_digest(authority)}
    pilot = {"jwksResolverExtraRootCA": authority, "podAnnotations": notes} if authority else {}
    spec = {"values": {"pilot": pilot}, "meshConfig": {"extensionProviders": PROVIDERS}}
    return {"apiVersion": "install.istio.io/v1alpha1", "kind": "IstioOperator", "spec": spec}


def _without_istiods_fields(manifest: dict[str, Any]) -> dict[str, Any]:
    # istiod writes these two fields itself when it is ready. Applying them again would undo that.
    if manifest["kind"].endswith("WebhookConfiguration"):
        for hook in manifest["webhooks"]:
            hook["clientConfig"].pop("caBundle", None)
            if manifest["kind"].startswith("Validating"):
                hook.pop("failurePolicy", None)
    return manifest
