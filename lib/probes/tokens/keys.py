"""Keys that sign tokens: a key of the realm, and keys of an attacker, which nobody trusts."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from joserfc import jws
from joserfc.jwk import ECKey, OKPKey, RSAKey

from lib.errors import ParamsError
from lib.keycloak import realm_keys

KINDS = {"RSA": "RS256", "EC": "ES256", "OKP": "EdDSA"}  # kind of key: its default algorithm


@dataclass(frozen=True)
class SigningKey:
    """A private key and its `kid`. The repr shows only the kid."""

    jwk: RSAKey | ECKey | OKPKey = field(repr=False)
    kid: str

    @classmethod
    def generate(cls, kind: str = "RSA", kid: str = "") -> SigningKey:
        """Return a new key of a kind in KINDS: RSA 2048, P-256 or Ed25519. The default kid is its digest."""
        makers: dict[str, tuple[Any, Any]] = {
            "RSA": (RSAKey, realm_keys.BITS),
            "EC": (ECKey, "P-256"),
            "OKP": (OKPKey, "Ed25519"),
        }
        if kind not in makers:
            raise ParamsError(f"expected a kind of key among {', '.join(KINDS)}, got {kind!r}; use one of these.")
        maker, size = makers[kind]
        return cls._named(maker.generate_key(size), kid)

    @classmethod
    def from_pem(cls, pem: str, kid: str = "") -> SigningKey:
        """Return the RSA key in this PEM. The default kid is the one that Keycloak gives the key."""
        try:
            return cls._named(RSAKey.import_key(pem), kid)
        except ValueError:
            raise ParamsError(
                "expected a private RSA key as PEM, got something else; check the Secret or file that holds it."
            ) from None

    @property
    def alg(self) -> str:
        """The default algorithm."""
        return KINDS[self.jwk.key_type]

    @property
    def public(self) -> dict:
        """The public half as a JWK with kid, alg and use, as Keycloak publishes it."""
        return {**self.jwk.as_dict(private=False), "kid": self.kid, "alg": self.alg, "use": "sig"}

    def pem(self) -> str:
        """Return the private half as PEM (PKCS#8). Keep it out of every output."""
        return self.jwk.as_pem(private=True).decode()

    def certificate(self) -> str:
        """Return a self-signed certificate for an x5c header: DER in plain base64 (RFC 7515, section 4.1.6)."""
        pem = realm_keys.certificate(self.pem(), "attacker")
        return base64.b64encode(x509.load_pem_x509_certificate(pem.encode()).public_bytes(Encoding.DER)).decode()

    def sign(self, data: bytes, alg: str = "") -> bytes:
        """Return the data's signature by a JWS algorithm that fits the key (RFC 7518, section 3.1)."""
        name = alg or self.alg
        name = "Ed25519" if name == "EdDSA" else name  # the new name (RFC 9864); Envoy knows only the old one
        return jws.JWSRegistry(algorithms=[name]).get_alg(name).sign(data, self.jwk)

    @classmethod
    def _named(cls, jwk: RSAKey | ECKey | OKPKey, kid: str) -> SigningKey:
        return cls(jwk, kid or realm_keys.key_id(jwk.as_pem(private=True).decode()))
