"""A realm's signing keys (Keycloak's key providers): imported, generated, made passive, disabled."""

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
OWN_PRIORITY = 100  # of the keys that a new realm makes itself; the highest active one signs
BITS = 2048
SINCE, UNTIL = datetime(2020, 1, 1, tzinfo=UTC), datetime(2120, 1, 1, tzinfo=UTC)


def generate_key() -> str:
    """Return a new RSA key as PEM (PKCS#8, unencrypted); keep it out of every output."""
    return certificates.key_pem(rsa.generate_private_key(public_exponent=65537, key_size=BITS))


def certificate(pem: str, name: str) -> str:
    """Return a self-signed certificate of the key as PEM: of the same key and name always the same."""
    subject = certificates.common_name(name)
    return certificates.pem(certificates.certificate(subject, certificates.load_key(pem), SINCE, UNTIL, serial=1))


def key_id(pem: str) -> str:
    """Return the kid that Keycloak gives the key: base64url of the SHA-256 of its public half (KeyUtils.java)."""
    form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    public = certificates.load_key(pem).public_key().public_bytes(*form)
    return encoded(hashlib.sha256(public).digest())


def ensure_imported_key(keycloak: Keycloak, realm: str, name: str, pem: str, priority: int) -> Ensured:
    """Let the realm publish a key of one's own; below OWN_PRIORITY Keycloak itself never signs with it."""
    config = {"certificate": certificate(pem, name), "algorithm": "RS256", **_state(priority)}
    return _ensure_provider(keycloak, realm, name, "rsa", config, {"privateKey": pem})


def ensure_generated_key(
    keycloak: Keycloak, realm: str, name: str, priority: int = OWN_PRIORITY, active: bool = True, enabled: bool = True
) -> Ensured:
    """Let the realm have a key that it made itself: active ones sign, enabled ones are published."""
    return _ensure_provider(keycloak, realm, name, "rsa-generated", _state(priority, active, enabled), {})


def _state(priority: int, active: bool = True, enabled: bool = True) -> dict[str, str]:
    return {"priority": str(priority), "active": str(active).lower(), "enabled": str(enabled).lower()}


def _ensure_provider(
    keycloak: Keycloak, realm: str, name: str, kind: str, config: dict[str, str], hidden: dict[str, str]
) -> Ensured:
    """`hidden` is written but never compared: Keycloak shows asterisks in its place."""
    at = path(realm, "components")
    parent = keycloak.get(path(realm))["id"]
    listed = {key: [value] for key, value in config.items()}
    written = lambda wanted: {**wanted, "config": {**wanted["config"], **{k: [v] for k, v in hidden.items()}}}  # noqa: E731
    return ensure(
        f"key {name}",
        {"name": name, "providerId": kind, "providerType": PROVIDER, "parentId": parent, "config": listed},
        read=lambda: only(keycloak.get(at, parent=parent, type=PROVIDER), "name", name),
        create=lambda wanted: keycloak.call("POST", at, written(wanted)),
        change=lambda wanted: keycloak.call("PUT", at + path(wanted["id"]), written(wanted)),
    )
