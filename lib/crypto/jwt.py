"""JSON Web Tokens as the runbook shows them: claims and a fingerprint, never the token (RFC 7519)."""

from __future__ import annotations

import base64
import hashlib
import json

from lib.crypto.base64url import encoded


def header(token: str) -> dict:
    """Return the token's header (alg, kid, typ), unverified."""
    return _part(token, 0)


def claims(token: str) -> dict:
    """Return the token's claims, unverified: what it says, not whether it is true."""
    return _part(token, 1)


def fingerprint(token: str) -> str:
    """Return the first 16 hex digits of the token's SHA-256: enough to recognise it, useless to present it."""
    return hashlib.sha256(token.encode()).hexdigest()[:16]


def tampered(token: str) -> str:
    """Return the token with one bit of its signature flipped, in a place that base64url does not ignore."""
    head, body, signature = token.split(".")
    raw = bytearray(base64.urlsafe_b64decode(signature + "=" * (-len(signature) % 4)))
    raw[0] ^= 1
    return ".".join((head, body, encoded(bytes(raw))))


def unsigned(token: str) -> str:
    """Return the token with `alg: none` and an empty signature (RFC 8725, section 3.1)."""
    head = {**header(token), "alg": "none"}
    return f"{_encode(head)}.{token.split('.')[1]}."


def row(name: str, token: str) -> dict:
    """Return what may be shown of a token: its claims, lifetime in seconds and fingerprint."""
    head, payload = header(token), claims(token)
    audience = payload.get("aud", "")
    return {
        "name": name,
        "fingerprint": fingerprint(token),
        "alg": head.get("alg", ""),
        "kid": head.get("kid", ""),
        "typ": payload.get("typ", ""),
        "iss": payload.get("iss", ""),
        "aud": " ".join(audience) if isinstance(audience, list) else audience,
        "azp": payload.get("azp", ""),
        "sub": payload.get("sub", ""),
        "scope": payload.get("scope", ""),
        "iat": payload.get("iat"),
        "exp": payload.get("exp"),
        "lifetime": payload["exp"] - payload["iat"] if "exp" in payload and "iat" in payload else None,
    }


def _part(token: str, place: int) -> dict:
    piece = token.split(".")[place]
    return json.loads(base64.urlsafe_b64decode(piece + "=" * (-len(piece) % 4)))


def _encode(value: dict) -> str:
    return encoded(json.dumps(value, separators=(",", ":")).encode())
