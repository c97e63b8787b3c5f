"""What must not be shown becomes a mark: tokens by their fingerprint, keys and passwords without a trace."""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any
from urllib.parse import quote, quote_plus

from lib.crypto.jwt import fingerprint

SHORTEST = 6  # characters; a shorter secret would blot out ordinary words, so it is left alone
MARK = "[redacted]"

TOKEN = r"eyJ[\w-]{4,}(?:\.[\w-]*)*"  # base64url of `{"`: a whole token, or a part of one that begins so
CERTIFICATE = r"-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----"  # public, and has eyJ by chance
JWT = re.compile(rf"(?P<public>{CERTIFICATE})|{TOKEN}")
EKS = re.compile(r"k8s-aws-v1\.[\w-]+=*")
KEY = re.compile(
    r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----"
    r"(?:(?:(?!-----BEGIN).)*?-----END (?:[A-Z]+ )*PRIVATE KEY-----|[\w+/=\s\\]*)",  # whole, or cut off
    re.DOTALL,
)
QUOTE = r"""\\?["']?"""  # JSON within JSON has a backslash before it
RULES = (
    (JWT, lambda found: found["public"] or f"[jwt sha256:{fingerprint(found[0])}]"),
    (EKS, lambda found: f"[eks token sha256:{fingerprint(found[0])}]"),
    (KEY, lambda found: "[private key]"),
    (re.compile(r"(?i)\b(bearer\s+)[\w.~+/-]{16,}=*"), rf"\1{MARK}"),
    (
        re.compile(
            rf"""(?i)(authorization{QUOTE}\s*[:=][\s\[]*{QUOTE}(?:(?:bearer|basic|digest|negotiate)\s+)?)"""
            r"(?!aws4-hmac-sha256)[\w.~+/=-]{12,}"  # `Bearer null` stays: it tells what went wrong
        ),
        rf"\1{MARK}",
    ),
    (re.compile(r"(?i)((?:X-Amz-)?(?:Signature|Security-Token)=)[\w%+/=-]{16,}"), rf"\1{MARK}"),
    (
        re.compile(rf"(?i)((?:secret_?access_?key|session_?token){QUOTE}\s*[:=]\s*{QUOTE})[\w+/=-]{{16,}}"),
        rf"\1{MARK}",
    ),
    (
        re.compile(r"""(?i)\b((?:password|client_secret|refresh_token|access_token)=)[^\s&"'\\\[(<]{8,}"""),
        rf"\1{MARK}",
    ),
    (
        re.compile(
            r"""(?i)(["'](?:password|secret|client_?secret|refresh_token|access_token)\\?["']\s*:\s*\\?["'])"""
            r"""[^"'\\\[]{8,}"""
        ),
        rf"\1{MARK}",
    ),
)


def clean(text: str, secrets: Iterable[str] = ()) -> str:
    """Return the text with every token, private key, credential and known secret replaced by a mark.

    A known secret is found as it is, and as base64, in a URL, in JSON and in HTML.
    """
    for form in _forms(frozenset(secrets)):
        if len(form) <= len(text):
            text = text.replace(form, MARK)
    for pattern, mark in RULES:
        text = pattern.sub(mark, text)
    return text


def cleaned(value: Any, secrets: Iterable[str] = ()) -> Any:
    """Return the value with each text in it (keys too, at any depth) cleaned; numbers and the like as they are."""
    if isinstance(value, str):
        return clean(value, secrets)
    if isinstance(value, dict):
        return {cleaned(key, secrets): cleaned(one, secrets) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [cleaned(one, secrets) for one in value]
    return value


def forbidden(text: str) -> str:
    """Return what the text holds that no bundle may ("a token", …), or "": the shapes alone, without known secrets."""
    kinds = ((JWT, "a token (eyJ…)"), (EKS, "an EKS token"), (KEY, "a private key"))
    found = lambda pattern: any(not one.groupdict().get("public") for one in pattern.finditer(text))  # noqa: E731
    return next((kind for pattern, kind in kinds if found(pattern)), "")


@lru_cache(maxsize=4)
def _forms(secrets: frozenset[str]) -> list[str]:
    """Longest first, so that a secret which holds another one goes as a whole; kept, as a record asks for each text."""
    forms = set()
    for secret in secrets:
        if len(secret) >= SHORTEST:
            raw = secret.encode()
            encoded = {base64.b64encode(raw).decode(), base64.urlsafe_b64encode(raw).decode()}
            forms |= {secret, quote(secret, safe=""), quote_plus(secret), html.escape(secret)}
            forms |= {json.dumps(secret)[1:-1]} | {one.rstrip("=") for one in encoded}
    return sorted(forms, key=len, reverse=True)
