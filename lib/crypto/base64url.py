"""Base64url as RFC 7515 has it, without padding; and what lenient readers let pass."""

from __future__ import annotations

import base64
import re

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
FOREIGN = re.compile(r"[^A-Za-z0-9_-]")


def encoded(data: bytes) -> str:
    """Return base64url without padding."""
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def decoded(text: str) -> bytes:
    """Return the bytes; foreign characters are passed over, unused bits in the last character are dropped."""
    core = FOREIGN.sub("", text)
    core = core[:-1] if len(core) % 4 == 1 else core
    return base64.urlsafe_b64decode(core + "=" * (-len(core) % 4))


def canonical(text: str) -> str:
    """Return the one right way to write what `text` stands for."""
    return encoded(decoded(text))


def with_unused_bits(text: str) -> str:
    """Return another way to write the same bytes: a bit set that stands for nothing. `text` must have such bits."""
    return text[:-1] + ALPHABET[ALPHABET.index(text[-1]) + 1]
