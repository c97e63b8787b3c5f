"""Secrets that a run reported: each is found as it is, and in the encodings that views do not undo."""

from __future__ import annotations

import base64
import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from lib.redact.shapes import MARK, TOKEN, decoded
from lib.redact.views import Span, View, squeezed
from lib.redact.words import Words

SHORTEST = 6  # characters; a shorter secret would replace parts of ordinary words, so it stays
SPLIT = 12  # characters of a secret, or of a line of it, that is found across line ends
CUT, LONGEST = 10, 256  # characters of a secret's beginning, which is found before an ellipsis or a text's end
STRUCTURE = re.compile(
    r"(?:- )?['\"]?[\w@.-]+['\"]?:(?:\s+['\"]?[a-z][a-z./-]*['\"]?)?"
)  # a line of YAML: name: a-word
CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.*?(?:-----END CERTIFICATE-----|\Z)|-----[A-Z ]+-----", re.DOTALL)


@lru_cache(maxsize=8)
def _forms(secrets: frozenset[str]) -> tuple[Words, Words, Words]:
    """Return the texts to look for in a view, in a view without white space and case, and as beginnings; longest first.

    A run reports hundreds of secrets, one after another, each in many forms.
    """
    forms = [_forms_of(secret) for secret in secrets if len(secret) >= SHORTEST]
    plain, split, begun = (set().union(*(one[kind] for one in forms)) for kind in range(3))
    return _longest_first(plain), _longest_first(split), _longest_first(begun)


@lru_cache(maxsize=4096)
def _forms_of(secret: str) -> tuple[set[str], set[str], set[str]]:
    """Return the texts to look for of one secret, as `_forms` does.

    Base64 and hexadecimal forms of a long secret are not among them: lib.redact.shapes decodes runs.
    """
    if TOKEN.fullmatch(secret) and secret.count(".") == 2:  # its shape is found without this; its signature is not
        return {part for part in (secret.rpartition(".")[2],) if len(part) >= SPLIT}, set(), set()
    plain: set[str] = set()
    split: set[str] = set()
    begun: set[str] = set()
    lines = [line.strip() for line in CERTIFICATE.sub("", secret).splitlines()] if "\n" in secret.strip() else []
    lines = [line for line in lines if len(line) >= SPLIT and not STRUCTURE.fullmatch(line)]
    public = _public_half(secret)
    lines = [line for line in lines if not public or (decoded(line) or b"-") not in public]
    for one in (secret, secret.strip(), *lines):
        if len(one) >= SHORTEST:
            plain |= {unicodedata.normalize(form, one) for form in ("NFC", "NFD", "NFKC")} | {one, *_encoded(one)}
            bare = "".join(one.split()).lower()
            split |= {bare} if len(bare) >= SPLIT else set()
            begun |= {one[: min(max(CUT, len(one) // 2), LONGEST)]} if len(one) >= 2 * CUT else set()
    return plain, split, begun


def _public_half(secret: str) -> bytes:
    """Return the public key of a private key in PEM, b"" of any other secret: the key's certificate holds it too."""
    if "PRIVATE KEY-----" not in secret:
        return b""
    try:
        key = serialization.load_pem_private_key(secret.encode(), None, unsafe_skip_rsa_key_validation=True)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return b""
    return key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def places(text: str, secrets: frozenset[str]) -> Iterator[tuple[str, Span]]:
    """Yield each place of a view that holds a known secret."""
    plain, split, begun = _forms(secrets)
    if not plain.words:
        return
    for form, start in _each(plain, text):
        yield "a known secret", Span(start, start + len(form), MARK)
    for form, starts in begun.places(text).items():
        word = next((one for one in plain.words if one.startswith(form)), form)
        for start in starts:
            end = start + _shared(word, text, start, len(form))
            if not text[end:].strip(" \"'`)]}>") or text.startswith(("…", "..."), end):
                yield "a known secret", Span(start, end, MARK)
    if split.words and split.places("".join(text.split()).lower()):
        view: View = squeezed(text)
        if len(view.text) == len(view.text.lower()):
            for form, start in _each(split, view.text.lower()):
                yield "a known secret", view.back(Span(start, start + len(form), MARK))


def _shared(word: str, text: str, start: int, known: int) -> int:
    """Return how many characters of a word the text has at `start`. It has at least `known` of them."""
    most = min(len(word), len(text) - start)
    while known < most:  # by halves: a word that repeats itself begins at each of its places
        middle = (known + most + 1) // 2
        if text.startswith(word[known:middle], start + known):
            known = middle
        else:
            most = middle - 1
    return known


def _each(words: Words, text: str) -> Iterator[tuple[str, int]]:
    return ((word, start) for word, starts in words.places(text).items() for start in starts)


def _longest_first(texts: set[str]) -> Words:
    return Words(sorted(texts, key=len, reverse=True))


def _encoded(secret: str) -> set[str]:
    """Return the encoded forms of a secret whose runs are too short to be decoded, or that begin within a run."""
    raw = secret.encode(errors="surrogatepass")
    found = {raw.hex(), raw.hex().upper(), secret.upper(), secret.lower()}
    for shift in range(3):
        whole = base64.b64encode(b"\0" * shift + raw).decode().rstrip("=")
        core = whole[(0, 2, 3)[shift] : len(whole) - bool((shift + len(raw)) % 3)]
        found |= {core, core.replace("+", "-").replace("/", "_")} if len(core) >= SHORTEST else set()
    return found
