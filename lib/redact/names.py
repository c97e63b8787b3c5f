"""What a name says about its value: `password`, `client_secret`, `Cookie`, `token_type`, …."""

from __future__ import annotations

import re
from functools import lru_cache

from lib.redact.shapes import MARK


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# The last words of a name that speaks about a secret and does not hold it: token_type, secretName, passwordPolicy.
ABOUT = _words("""
    name names namespace type types endpoint endpoints url uri urls lifespan lifetime ttl timeout expiry expires
    expiration in at time date count counts id ids policy length ref keyref selector path paths file files location
    format mode method methods supported enabled required version arn issuer audience audiences fingerprint sha256
    digest algorithm alg kid hint claim claims scope scopes status label rotation header headers prefix position size
    rule rules provider exchange review request requests reset change changed created updated public certificate
    attributes max min idle seconds title description note reason verdict expected actual error errors message kind
    domain samesite secure only
    
""")
PASSWORDS = ("password", "passwd", "passphrase", "pwd", "passcode")
TOKENS = _words("access refresh id bearer auth session security registration initial bot csrf xsrf device")
KEYS = _words("private api access secret encryption signing shared master account ssh")
VAGUE = _words("token tokens session sessions secrets code auth credential credentials cookies state")
SHORTEST_BEARER = 12  # characters
COOKIES = ("keycloakidentity", "keycloaksession", "jsessionid", "authsessionid")
PUBLIC_ATTRIBUTES = ("path", "domain", "expires", "max-age", "version", "samesite", "comment")
LITERAL = re.compile(  # placeholders, marks and references
    r"(?-i:\$\{?[A-Z_][A-Z0-9_]*\}?)|\$\([^()]*\)|\$\{\{[^{}]*\}\}|<[\w .-]{0,40}>|\{+[\w .-]*\}+|\*+|[xX]{3,}|\.{3,}|…"
    r"|null|none|true|false|undefined|nil|redacted|\[(?:[^\[\]]* )?sha256:[0-9a-f]{16}\]|\[redacted\]|\[private key\]"
    r"|(?:env|file|arn):\S+|",
    re.IGNORECASE,
)
LEGIBLE = re.compile(r"[A-Za-z]{1,14}\d{0,3}(?:[-_ /][A-Za-z]{1,14}\d{0,3}){0,2}")
SCHEME = re.compile(r"([A-Za-z][\w-]{2,20})[ \t]+(\S.*)", re.DOTALL)


@lru_cache(maxsize=4096)
def kind(name: str) -> str:
    """Return what a name says about its value.

    Returns:
        "password", "secret" or "header" (Authorization): the value is secret, whatever it looks like. "cookie": the
        values in it are. "vague": it is if it looks like one. "": it is not.
    """
    words = re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", name).lower()
    parts = [part for part in re.split(r"[^a-z0-9]+", words) if part]
    if not parts or parts[-1] in ABOUT - {"id"} or "public" in parts:
        return ""
    last, whole, before = parts[-1].rstrip("0123456789") or parts[-1], "".join(parts), {*parts[:-1]}
    if any(whole.endswith(one) for one in COOKIES) or last == "session" and before & {"sso", "user"}:
        return "secret"
    if last == "id":
        return "secret" if parts[-2:-1] == ["session"] else ""
    if last.endswith(PASSWORDS):
        return "password"
    if last in ("authorization",):
        return "header"
    if last == "cookie":
        return "cookie"
    if last in VAGUE and not (last == "token" and before & TOKENS) and parts[-2:] != ["session", "state"]:
        return "vague" if last != "state" else ""
    if last == "key":
        return "secret" if before & KEYS else ""
    if last.endswith(("secret", "token", "credential", "assertion", "apikey", "privatekey", "secretkey", "accesskey")):
        return "secret"
    return (
        "secret"
        if "secret" in parts or parts[-2:] in (["code", "verifier"], ["session", "state"]) or last == "codeverifier"
        else ""
    )


def masked(name: str, value: str) -> str | None:
    """Return the value of a name with its secret replaced, None if the value is not secret."""
    what, plain = kind(name), value.strip()
    if not what or LITERAL.fullmatch(plain) or plain == MARK:
        return None
    if what == "vague":
        return None if not _opaque(plain) else MARK
    if what == "header":
        return _authorization(plain)
    if what == "cookie":
        return _cookies(plain)
    return MARK


def _opaque(value: str) -> bool:
    """Return whether a value looks like a credential, and not like a word, a path, an address or a number."""
    if re.search(r"\s", value):
        return any(_opaque(word) for word in value.split() if len(word) >= 20)
    if LEGIBLE.fullmatch(value) and len(value) <= 30 or re.match(r"[./]|\w+://|\d[\d.,:%]*\w{0,2}$", value):
        return False
    return len(value) >= 6 and bool(
        re.search(r"\d", value) or len(value) >= 24 or re.search(r"[a-z][A-Z].*[a-z][A-Z]", value)
    )


def _authorization(value: str) -> str | None:
    scheme, secret = ("", value) if not (found := SCHEME.fullmatch(value)) else (f"{found[1]} ", found[2].strip())
    if scheme.lower().startswith("aws4") or LITERAL.fullmatch(secret) or MARK in secret or "sha256:" in secret:
        return None
    if scheme.lower() == "bearer " and len(secret) < SHORTEST_BEARER:
        return None  # it tells what went wrong, as in `Bearer null`
    return None if re.fullmatch(r"[a-z]{1,11}|[A-Z][a-z]{1,11}", secret) else scheme + MARK


def _cookies(value: str) -> str | None:
    if "=" not in value:
        return MARK if _opaque(value) else None
    parts = [part.partition("=") for part in value.split(";")]
    kept = [
        name
        + sep
        + (one if name.strip().lower() in PUBLIC_ATTRIBUTES or LITERAL.fullmatch(one.strip()) else MARK * bool(one))
        for name, sep, one in parts
    ]
    return ";".join(kept) if ";".join(kept) != value else None
