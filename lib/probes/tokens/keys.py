"""Keys that sign tokens: the one that the realm publishes too, and those of an attacker, which nobody trusts."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from joserfc import jws
from joserfc.jwk import ECKey, OKPKey, RSAKey

from lib.errors import ParamsError
from lib.keycloak import realm_keys

KINDS = {"RSA": "RS256", "EC": "ES256", "OKP": "EdDSA"}  # kind of key: what it signs with unless told otherwise


@dataclass(frozen=True)
class SigningKey:
    """A private key and the `kid` that its tokens name. Its repr tells the kid alone."""

    jwk: RSAKey | ECKey | OKPKey = field(repr=False)
    kid: str

    @classmethod
    def generate(cls, kind: str = "RSA", kid: str = "") -> SigningKey:
        """Return a new key of a kind of KINDS (RSA 2048, P-256, Ed25519); without `kid` it is named by its digest."""
        made = {"RSA": (RSAKey, realm_keys.BITS), "EC": (ECKey, "P-256"), "OKP": (OKPKey, "Ed25519")}
        if kind not in made:
            raise ParamsError(f"expected a kind of key among {', '.join(KINDS)}, got {kind!r}; name one of these.")
        maker, size = made[kind]
        return cls._named(maker.generate_key(size), kid)

    @classmethod
    def from_pem(cls, pem: str, kid: str = "") -> SigningKey:
        """Return an RSA key that is kept as PEM; its `kid` is by default the one that Keycloak gives it."""
        try:
            return cls._named(RSAKey.import_key(pem), kid)
        except ValueError:
            raise ParamsError(
                "expected a private RSA key as PEM, got something else; mend what it is read from."
            ) from None

    @property
    def alg(self) -> str:
        """The algorithm that it signs with by default."""
        return KINDS[self.jwk.key_type]

    @property
    def public(self) -> dict:
        """The public half as a JWK, as Keycloak publishes keys: with kid, alg and use."""
        return {**self.jwk.as_dict(private=False), "kid": self.kid, "alg": self.alg, "use": "sig"}

    def pem(self) -> str:
        """Return the private half as PEM (PKCS#8); keep it out of every output."""
        return self.jwk.as_pem(private=True).decode()

    def certificate(self) -> str:
        """Return a self-signed certificate as an x5c header has it: DER in plain base64 (RFC 7515, section 4.1.6)."""
        pem = realm_keys.certificate(self.pem(), "attacker")
        return base64.b64encode(x509.load_pem_x509_certificate(pem.encode()).public_bytes(Encoding.DER)).decode()

    def sign(self, data: bytes, alg: str = "") -> bytes:
        """Return the signature of the data by a JWS algorithm that suits the key (RFC 7518, section 3.1)."""
        name = alg or self.alg
        name = "Ed25519" if name == "EdDSA" else name  # RFC 9864's name; Envoy knows the old one alone
        return jws.JWSRegistry(algorithms=[name]).get_alg(name).sign(data, self.jwk)

    @classmethod
    def _named(cls, jwk: RSAKey | ECKey | OKPKey, kid: str) -> SigningKey:
        return cls(jwk, kid or realm_keys.key_id(jwk.as_pem(private=True).decode()))
