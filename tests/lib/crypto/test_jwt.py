"""Tokens are shown by claims and fingerprint; the bad ones are bad in the way they claim."""

import base64
import hashlib
import json

import pytest

from lib.crypto import jwt


def part(value):
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def made(claims, signature=b"0123456789abcdef"):
    signed = base64.urlsafe_b64encode(signature).rstrip(b"=").decode()
    return ".".join((part({"alg": "RS256", "kid": "k1"}), part(claims), signed))


def test_row_shows_no_token():
    token = made({"iss": "kc", "aud": ["istio", "account"], "iat": 100, "exp": 400, "sub": "alice"})
    row = jwt.row("valid", token)
    assert row["aud"] == "istio account" and row["lifetime"] == 300 and row["kid"] == "k1" and row["sub"] == "alice"
    assert row["fingerprint"] == hashlib.sha256(token.encode()).hexdigest()[:16]
    assert not any(piece in str(row) for piece in token.split("."))


def test_row_of_a_token_that_says_little():
    row = jwt.row("bare", made({}))
    assert row["lifetime"] is None and row["aud"] == "" and row["sub"] == ""


@pytest.mark.parametrize("length", [16, 17, 18, 256])
def test_tampered_changes_the_signature_by_one_bit(length):
    token = made({"sub": "a"}, bytes(length))
    bad = jwt.tampered(token)
    assert bad.rsplit(".", 1)[0] == token.rsplit(".", 1)[0]
    signature = bad.rsplit(".", 1)[1]
    assert base64.urlsafe_b64decode(signature + "=" * (-len(signature) % 4)) == b"\x01" + bytes(length - 1)


def test_unsigned_keeps_the_claims():
    bad = jwt.unsigned(made({"sub": "a"}))
    assert jwt.header(bad)["alg"] == "none" and jwt.claims(bad) == {"sub": "a"} and bad.endswith(".")
