"""The key that signs bundles, Ed25519: made on first use, or named by the environment."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from lib.errors import BundleError
from lib.files import PRIVATE, write_atomic

KEY = "RUNBOOK_SIGNING_KEY"  # environment: a file, a PEM of PKCS #8 without a password
HOME = "istio-keycloak-runbook/signing-key.pem"  # below $XDG_CONFIG_HOME or ~/.config


def place(environment: Mapping[str, str] = os.environ) -> Path:
    """Return the file of the signing key, there or not."""
    config = Path(environment.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return Path(environment.get(KEY) or config / HOME)


def ensure_key(environment: Mapping[str, str] = os.environ) -> Ed25519PrivateKey:
    """Return the signing key; one that the environment does not name is made on first use, readable by its owner alone.

    BundleError where the file that is named is no such key.
    """
    path = place(environment)
    if not environment.get(KEY) and not path.exists():
        _make(path)
    return _read(path, lambda data: load_pem_private_key(data, None), Ed25519PrivateKey, "private")


def known(environment: Mapping[str, str] = os.environ) -> list[Ed25519PublicKey]:
    """Return the public part of this machine's own signing key, if it has one."""
    return [ensure_key(environment).public_key()] if place(environment).exists() else []


def public_key(path: Path) -> Ed25519PublicKey:
    """Return the public key of a PEM file; BundleError where it is none."""
    return _read(path, load_pem_public_key, Ed25519PublicKey, "public")


def pem(key: Ed25519PublicKey) -> str:
    """Return a public key as PEM (SubjectPublicKeyInfo)."""
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def fingerprint(key: Ed25519PublicKey) -> str:
    """Return the SHA-256 of a public key's DER (SubjectPublicKeyInfo), in hex."""
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def _make(path: Path) -> None:
    text = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    write_atomic(path, text, PRIVATE, keep=True)


def _read(path: Path, load, kind: type, word: str):
    try:
        key = load(path.read_bytes())
    except (OSError, ValueError, TypeError) as error:
        raise BundleError(
            f"expected an Ed25519 {word} key as PEM in {path}, got {type(error).__name__}; name another file."
        ) from None
    if not isinstance(key, kind):
        raise BundleError(f"expected an Ed25519 {word} key in {path}, got {type(key).__name__}; name another file.")
    return key
