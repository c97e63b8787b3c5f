"""Secrets in structured values, by the names of their values: at any depth of dicts, lists and pairs."""

from __future__ import annotations

from typing import Any

from lib.redact.names import LITERAL, kind, masked
from lib.redact.shapes import MARK

CREDENTIALS = ("password", "secret", "token", "otp", "totp", "hotp", "webauthn")  # the types of Keycloak's credentials
NAMING = ("name", "key", "type", "variable")  # the keys that name the value of the key `value` beside them


def structured(value: Any) -> Any:
    """Return the value with the values of secret names replaced, at any depth."""
    if isinstance(value, dict):
        data = ("data", "stringData") if value.get("kind") == "Secret" else ()
        jwk = ("d", "p", "q", "dp", "dq", "qi", "oth", "k") if "kty" in value else ()
        named = _named(value)
        return {
            key: _all(one) if key in (*data, *jwk, *named) else _valued(str(key), one) for key, one in value.items()
        }
    if isinstance(value, (list, tuple)):
        if len(value) == 2 and all(isinstance(one, str) for one in value):
            secret = masked(value[0], value[1]) if kind(value[0]) and not kind(value[1]) else None
            return [value[0], value[1] if secret is None else secret]
        return [structured(one) for one in value]
    return value


def _all(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _all(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_all(one) for one in value]
    return value if value is None or isinstance(value, bool) or LITERAL.fullmatch(str(value)) else MARK


def _valued(name: str, value: Any) -> Any:
    if isinstance(value, str):
        secret = masked(name, value)
        return value if secret is None else secret
    if isinstance(value, (list, tuple)) and value and all(isinstance(one, str) for one in value):
        return [_valued(name, one) for one in value] if kind(name) else structured(value)
    if isinstance(value, int) and not isinstance(value, bool) and kind(name) == "password":
        return MARK
    return structured(value)


def _named(value: dict) -> tuple[str, ...]:
    """Return the keys whose value another key names, as in {"name": "DB_PASSWORD", "value": …}."""
    roles = {str(key).lower(): one for key, one in value.items() if isinstance(one, str)}
    if any(names_a_secret(role, roles[role]) for role in NAMING if role in roles):
        return tuple(key for key in value if str(key).lower() == "value")
    return ()


def names_a_secret(role: str, name: str) -> bool:
    """Return whether the name that the key `role` holds is the name of a secret, or the type of a credential."""
    if role.lower() == "type":
        return name.lower() in CREDENTIALS
    return kind(name) not in ("", "vague")
