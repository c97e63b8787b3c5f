"""A realm's signing keys, which Keycloak calls key providers: imported or generated, active, passive or disabled."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from lib.crypto import certificates
from lib.crypto.base64url import encoded
from lib.ensured import Ensured
from lib.keycloak.admin import Keycloak, ensure, only, path

PROVIDER = "org.keycloak.keys.KeyProvider"
OWN_PRIORITY = 100  # of the keys that Keycloak makes for a new realm; the active key of the highest priority signs
BITS = 2048
SINCE, UNTIL = datetime(2020, 1, 1, tzinfo=UTC), datetime(2120, 1, 1, tzinfo=UTC)


def generate_key() -> str:
    """Return a new RSA key as PEM (PKCS#8, unencrypted); keep it out of every output."""
    return certificates.key_pem(rsa.generate_private_key(public_exponent=65537, key_size=BITS))


def certificate(pem: str, name: str) -> str:
    """Return a self-signed certificate of the key as PEM; one key and name always give one certificate."""
    subject = certificates.common_name(name)
    return certificates.pem(certificates.certificate(subject, certificates.load_key(pem), SINCE, UNTIL, serial=1))


def key_id(pem: str) -> str:
    """Return the kid that Keycloak gives the key: base64url of the SHA-256 of its public half (KeyUtils.java)."""
    form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    public = certificates.load_key(pem).public_key().public_bytes(*form)
    return encoded(hashlib.sha256(public).digest())


def ensure_imported_key(keycloak: Keycloak, realm: str, name: str, pem: str, priority: int) -> Ensured:
    """Let the realm publish the private key `pem`; below OWN_PRIORITY Keycloak itself never signs with it."""
    config = {"certificate": certificate(pem, name), "algorithm": "RS256", **_state(priority)}
    return _ensure_provider(keycloak, realm, name, "rsa", config, {"privateKey": pem})


def ensure_generated_key(
    keycloak: Keycloak, realm: str, name: str, priority: int = OWN_PRIORITY, active: bool = True, enabled: bool = True
) -> Ensured:
    """Let the realm generate a key; it can sign if `active`, and the realm publishes it if `enabled`."""
    return _ensure_provider(keycloak, realm, name, "rsa-generated", _state(priority, active, enabled), {})


def _state(priority: int, active: bool = True, enabled: bool = True) -> dict[str, str]:
    return {"priority": str(priority), "active": str(active).lower(), "enabled": str(enabled).lower()}


def _ensure_provider(
    keycloak: Keycloak, realm: str, name: str, kind: str, config: dict[str, str], hidden: dict[str, str]
) -> Ensured:
    """Create or change a provider; nothing compares `hidden`, because Keycloak returns asterisks instead."""
    at = path(realm, "components")
    parent = keycloak.get(path(realm))["id"]
    values = {key: [value] for key, value in config.items()}
    secrets = {key: [value] for key, value in hidden.items()}
    complete = lambda wanted: {**wanted, "config": {**wanted["config"], **secrets}}  # noqa: E731
    return ensure(
        f"key {name}",
        {"name": name, "providerId": kind, "providerType": PROVIDER, "parentId": parent, "config": values},
        read=lambda: only(keycloak.get(at, parent=parent, type=PROVIDER), "name", name),
        create=lambda wanted: keycloak.call("POST", at, complete(wanted)),
        change=lambda wanted: keycloak.call("PUT", at + path(wanted["id"]), complete(wanted)),
    )
