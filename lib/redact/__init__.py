"""What must not be shown becomes a mark: tokens by their fingerprint, keys and passwords without a trace.

`clean` looks for secrets that the run reported (`known`), for what a secret looks like (`shapes`), and for what a name
says about its value (`names`, in `values` and `texts`); in the text, and in what the text says to a reader who undoes
its escapes (`views`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import Any

from lib.redact import known, shapes, texts, values
from lib.redact.views import Span, View, back, replaced, views

REMEMBERED = 4096  # long texts that were found clean: a cell is cleaned twice, and `seal` verifies what it cleaned
ENCODED = 2  # encodings within encodings that are decoded
SHORT = 200  # characters of a text whose clean form is remembered
Find = Callable[[str], Iterator[tuple[str, Span]]]


def clean(text: str, secrets: Iterable[str] = ()) -> str:
    """Return the text with every token, private key, credential and known secret replaced by a mark.

    A mark is never replaced again: what is clean stays as it is.
    """
    return (_short if len(text) <= SHORT else _clean)(text, frozenset(secrets))


def cleaned(value: Any, secrets: Iterable[str] = ()) -> Any:
    """Return the value with each text in it (keys too, at any depth) cleaned, by its own name too.

    Numbers and the like stay as they are. Sets, bytes, arrays and other objects become lists and texts.
    """
    return _texts(values.structured(_plain(value)), frozenset(secrets))


def forbidden(text: str) -> str:
    """Return what the text holds that no bundle may ("a token", …), or "": the shapes and names, no known secrets."""
    if hash(text) in _harmless:
        return ""
    return next((kind for find in _finders(frozenset(), ENCODED) for kind, _ in _found([*views(text)], text, find)), "")


def _clean(text: str, secrets: frozenset[str]) -> str:
    if hash((text, secrets)) in _harmless:
        return text
    ways, before = [*views(text)], text
    for find in _finders(secrets, ENCODED):
        if spans := [span for _, span in _found(ways, text, find)]:
            text = replaced(text, spans)
            ways = [*views(text)]
    if text is before and len(text) > SHORT:
        if len(_harmless) >= REMEMBERED:
            _harmless.clear()
        _harmless.update((hash(text), hash((text, secrets))))
    return text


_harmless: set[int] = set()
_short = lru_cache(maxsize=1 << 16)(_clean)  # a record repeats its keys and words


def _finders(secrets: frozenset[str], depth: int) -> tuple[Find, ...]:
    def hidden(text: str) -> bool:
        ways = [*views(text)] if depth else []
        return any(True for find in _finders(secrets, depth - 1) for _ in _found(ways, text, find))

    reported: tuple[Find, ...] = (lambda text: known.places(text, secrets),) if secrets else ()
    return (*reported, lambda text: shapes.found(text, hidden), texts.places)


def _found(ways: list[list[View]], text: str, find: Find) -> Iterator[tuple[str, Span]]:
    for way in ways:
        for kind, span in find(way[-1].text if way else text):
            yield kind, back(way, span)


def _texts(value: Any, secrets: frozenset[str]) -> Any:
    if isinstance(value, str):
        return (_short if len(value) <= SHORT else _clean)(value, secrets)
    if isinstance(value, dict):
        return {_texts(key, secrets): _texts(one, secrets) for key, one in value.items()}
    return [_texts(one, secrets) for one in value] if isinstance(value, list) else value


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, dict):
        return {key if isinstance(key, (str, int, float)) else str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if isinstance(value, (set, frozenset)):
        return sorted((_plain(one) for one in value), key=str)
    if isinstance(value, (bytes, bytearray)):
        return bytes(value).decode(errors="backslashreplace")
    return _plain(value.tolist()) if hasattr(value, "tolist") else str(value)
