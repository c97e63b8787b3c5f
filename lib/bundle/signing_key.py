"""The Ed25519 key that signs bundles: created on first use, or named by an environment variable."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from lib import strict
from lib.errors import BundleError
from lib.files import PRIVATE, write_atomic, writing

KEY = "RUNBOOK_SIGNING_KEY"  # environment variable: the path of a PEM file, PKCS #8 without a password
HOME = "istio-keycloak-runbook/signing-key.pem"  # below $XDG_CONFIG_HOME or ~/.config


def file(environment: Mapping[str, str] = os.environ) -> Path:
    """Return the path of the signing key's file, which may not exist yet."""
    config = Path(environment.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return Path(environment.get(KEY) or config / HOME)


def ensure_key(environment: Mapping[str, str] = os.environ) -> Ed25519PrivateKey:
    """Return the signing key. If the environment names no file, create it on first use, readable by its owner alone.

    Raises:
        BundleError: the file holds no Ed25519 private key.
    """
    path = file(environment)
    if not environment.get(KEY) and not path.exists():
        with writing(path):
            write_atomic(path, new_pem(), PRIVATE, keep=True)
    return _read(path, lambda data: load_pem_private_key(data, None), Ed25519PrivateKey, "private")


def new_pem() -> str:
    """Return a new private key as PEM (PKCS #8, without a password)."""
    key = Ed25519PrivateKey.generate()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def own_keys(environment: Mapping[str, str] = os.environ) -> list[Ed25519PublicKey]:
    """Return the public key of this machine's signing key in a list, [] if it has none."""
    return [ensure_key(environment).public_key()] if file(environment).exists() else []


def public_key(path: Path) -> Ed25519PublicKey:
    """Return the public key in a PEM file; raise BundleError if there is none."""
    return _read(path, load_pem_public_key, Ed25519PublicKey, "public")


def pem(key: Ed25519PublicKey) -> str:
    """Return a public key as PEM (SubjectPublicKeyInfo)."""
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def fingerprint(key: Ed25519PublicKey) -> str:
    """Return the SHA-256 of a public key's DER (SubjectPublicKeyInfo), in hex."""
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def _read(path: Path, load: Callable[[bytes], object], kind: type, word: str) -> Any:
    try:
        key = load(strict.content(path.resolve(strict=True), strict.SMALL))
    except (OSError, ValueError, TypeError) as error:
        problem = type(error).__name__
    else:
        if isinstance(key, kind):
            return key
        problem = type(key).__name__
    raise BundleError(f"There is no Ed25519 {word} key in {path} ({problem}). Name a PEM file that holds such a key.")
