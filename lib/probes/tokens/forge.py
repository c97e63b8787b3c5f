"""Pure functions that forge tokens: from a token, or from claims and a key, to a token with one defect.

A header or payload given as `bytes` is used unchanged, which allows JSON that no library writes.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterable

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from joserfc.jwk import RSAKey

from lib.crypto import jwt
from lib.crypto.base64url import ALPHABET, decoded, encoded
from lib.probes.tokens.keys import SigningKey

Json = dict | list | str | int | float | bytes | None
HEADER, PAYLOAD, SIGNATURE = range(3)  # the sections of a token


def section(value: Json) -> str:
    """Return a header or payload as it stands in a token."""
    return encoded(value if isinstance(value, bytes) else json.dumps(value, separators=(",", ":")).encode())


def signed(key: SigningKey, claims: Json, header: Json = None, alg: str = "") -> str:
    """Return a token with a valid signature over these claims and this header, right or wrong.

    Without `header` the proper one is written. `alg` is the algorithm that signs, whatever the header names; by default
    the key's.
    """
    top = {"alg": alg or key.alg, "typ": "JWT", "kid": key.kid} if header is None else header
    return sealed(key, f"{section(top)}.{section(claims)}", alg)


def sealed(key: SigningKey, text: str, alg: str = "") -> str:
    """Return the text with the key's signature over it as the last section."""
    return f"{text}.{encoded(key.sign(text.encode(), alg))}"


def with_header(token: str, header: Json) -> str:
    """Return the token under another header; payload and signature stay."""
    return _with(token, HEADER, section(header))


def with_claims(token: str, claims: Json) -> str:
    """Return the token with another payload; header and signature stay."""
    return _with(token, PAYLOAD, section(claims))


def with_signature(token: str, signature: bytes) -> str:
    """Return the token with another signature."""
    return _with(token, SIGNATURE, encoded(signature))


def without(members: dict, *names: str) -> dict:
    """Return a header or claims without these members."""
    return {name: value for name, value in members.items() if name not in names}


def hmac_signed(token: str, secret: bytes, **header: Json) -> str:
    """Return the token signed by HS256 with this secret; `header` replaces members of its header."""
    text = f"{section({**jwt.header(token), 'alg': 'HS256', **header})}.{token.split('.')[PAYLOAD]}"
    return f"{text}.{encoded(hmac.digest(secret, text.encode(), hashlib.sha256))}"


def public_texts(jwk: dict) -> dict[str, bytes]:
    """Return the encodings of a public RSA key that a verifier may mistake for an HMAC secret (CVE-2016-10555)."""
    public = RSAKey.import_key({"kty": "RSA", "n": jwk["n"], "e": jwk["e"]}).public_key
    form = PublicFormat.SubjectPublicKeyInfo
    return {
        "PEM": public.public_bytes(Encoding.PEM, form),
        "DER": public.public_bytes(Encoding.DER, form),
        "JWK": json.dumps(jwk, separators=(",", ":")).encode(),
        "modulus": decoded(jwk["n"]),
        "certificate": jwk.get("x5c", [""])[0].encode(),
    }


def cut(token: str, count: int) -> str:
    """Return the token without its last characters."""
    return token[:-count]


def flipped(token: str, where: int, bit: int) -> str:
    """Return the token with one bit changed in the decoded bytes of a section; `bit` wraps round at the end."""
    raw = bytearray(decoded(token.split(".")[where]))
    place = bit % (len(raw) * 8)
    raw[place // 8] ^= 1 << place % 8
    return _with(token, where, encoded(bytes(raw)))


def malleable(token: str) -> str:
    """Return the token with another last character that decodes to the same signature.

    Base64 leaves bits of the last character unused. ValueError if it does not: the signature's length in bytes is then
    a multiple of 3.
    """
    last, spare = ALPHABET.index(token[-1]), {2: 4, 3: 2}.get(len(token.split(".")[SIGNATURE]) % 4)
    if spare is None:
        raise ValueError("expected a signature whose last character has unused bits, got one without; sign with RS256.")
    return token[:-1] + ALPHABET[last ^ 1]


def json_object(pairs: Iterable[tuple[str, Json]]) -> bytes:
    """Return a JSON object with these members in this order; a name may come more than once."""
    return ("{" + ",".join(f"{json.dumps(name)}:{json.dumps(value)}" for name, value in pairs) + "}").encode()


def repeated(value: dict, name: str, values: Iterable[Json]) -> bytes:
    """Return the JSON of a header or claims that has one member several times."""
    return json_object([*without(value, name).items(), *((name, value) for value in values)])


def raw_member(value: dict, name: str, raw: bytes) -> bytes:
    """Return the JSON of a header or claims whose last member has these raw bytes as its value."""
    others = without(value, name)
    return json_object(others.items())[:-1] + (b"," if others else b"") + json.dumps(name).encode() + b":" + raw + b"}"


def nested(depth: int) -> bytes:
    """Return the JSON of a list in a list, `depth` of them."""
    return b"[" * depth + b"]" * depth


def five_parts(token: str) -> str:
    """Return a token with the five parts of an encrypted one (RFC 7516, section 7.1) and no real content."""
    header = section({"alg": "RSA-OAEP", "enc": "A256GCM", "kid": jwt.header(token).get("kid", "")})
    return ".".join([header, *map(encoded, (bytes(256), bytes(12), b"nothing", bytes(16)))])


def long(key: SigningKey, claims: dict, length: int) -> str:
    """Return a good token of `length` characters, or up to 3 fewer: a claim `padding` fills it."""
    missing = length - len(signed(key, {**claims, "padding": ""}))
    return signed(key, {**claims, "padding": "x" * (missing * 3 // 4)})


def _with(token: str, index: int, text: str) -> str:
    parts = token.split(".")
    return ".".join([*parts[:index], text, *parts[index + 1 :]])
