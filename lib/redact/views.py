"""Views of a text: what a reader sees who undoes its escapes, and where each character comes from."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from html import unescape
from typing import NamedTuple
from urllib.parse import unquote

DEPTH = 3  # escapes within escapes, such as JSON in JSON in HTML
ESCAPES = re.compile(
    r"(?P<noise>\x1b\[[0-9;:?]*[A-Za-z]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|[\u00ad\u200b-\u200f\u2060-\u2064\ufeff]"
    r"|</?(?:span|wbr)\b[^>]*>|\\\r?\n)"  # colours, links of terminals, zero-width characters, a line that goes on
    r"|(?P<quote>'\"'\"'|'\\'')"  # a quote within a shell's quotes
    r"|(?P<url>%[0-7][0-9A-Fa-f]|(?:%[89A-Fa-f][0-9A-Fa-f])+)"
    r"|(?P<pair>\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})"
    r"|(?P<code>\\u[0-9a-fA-F]{4}|\\x[0-9a-fA-F]{2})"
    r"|(?P<html>&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z]{2,8});)"
)
FIRST = re.compile(  # begins with a set of characters, which is found fast; then what rules out most of them
    r"[\\%&<'\x1b\u00ad\u200b-\u200f\u2060-\u2064\ufeff](?:(?<![<%&'])|(?<=<)(?=/?(?:span|wbr))"
    r"|(?<=%)(?=[0-9A-Fa-f]{2})|(?<=&)(?=[#A-Za-z])|(?<=')(?=\"'\"'|\\''))"
)
SHORT = {f"\\{one}": one for one in "\"'/\\"} | {r"\n": "\n", r"\r": "\r", r"\t": "\t", r"\b": "\b"}


class Span(NamedTuple):
    """A place in a text and what to put there."""

    start: int
    end: int
    mark: str


class View:
    """A text with the matches of a pattern replaced, which finds the way back to the text before."""

    def __init__(self, source: str, pieces: Iterable[tuple[int, int, str]]) -> None:
        parts: list[str] = []
        self._starts, self._sources, length, last = [0], [(0, -1)], 0, 0
        for start, end, text in pieces:
            for origin, stop, kept in ((last, -1, source[last:start]), (start, end, text)):
                if kept:
                    parts.append(kept)
                    self._starts.append(length)
                    self._sources.append((origin, stop))
                    length += len(kept)
            last = end
        self._starts.append(length)
        self._sources.append((last, -1))
        self.text = "".join((*parts, source[last:]))

    def back(self, span: Span) -> Span:
        """Return the span's place in the text before."""
        start, end = self._place(span.start)[0], self._place(span.end - 1)[1]
        return Span(start, max(start, end), span.mark)

    def _place(self, position: int) -> tuple[int, int]:
        at = bisect_right(self._starts, position) - 1
        origin, stop = self._sources[at]
        if stop >= 0:
            return origin, stop
        return origin + position - self._starts[at], origin + position - self._starts[at] + 1


def views(text: str) -> Iterator[list[View]]:
    """Yield the ways from the text to each of its views: none, its escapes undone once, twice, …."""
    way: list[View] = []
    yield way
    for _ in range(DEPTH):
        if not (pieces := list(_pieces(text))):
            return
        view = View(text, pieces)
        way, text = [*way, view], view.text
        yield way


def squeezed(text: str) -> View:
    """Return the view without white space."""
    return View(text, ((found.start(), found.end(), "") for found in re.finditer(r"\s+", text)))


def back(way: list[View], span: Span) -> Span:
    """Return the place in the text itself of a span in the last view of the way."""
    for view in reversed(way):
        span = view.back(span)
    return span


def replaced(text: str, spans: Iterable[Span]) -> str:
    """Return the text with each span replaced by its mark; the first and longest of spans that overlap counts."""
    parts, last = [], 0
    for start, end, mark in sorted(dict.fromkeys(spans), key=lambda span: (span.start, -span.end)):
        if start >= last:
            parts += [text[last:start], mark]
        last = max(last, end)
    return "".join((*parts, text[last:])) if parts else text


def _pieces(text: str) -> Iterator[tuple[int, int, str]]:
    last = 0
    for sign in FIRST.finditer(text):
        start = sign.start()
        if start < last:
            continue
        if (pair := text[start : start + 2]) in SHORT:  # most escapes
            last = start + 2
            yield start, last, SHORT[pair]
        elif found := ESCAPES.match(text, start):
            last = found.end()
            yield start, last, _plain(found)


def _plain(found: re.Match[str]) -> str:
    kind, text = found.lastgroup, found[0]
    if kind == "noise":
        return ""
    if kind == "quote":
        return "'"
    if kind == "url":
        return unquote(text)
    if kind == "pair":
        return text.encode().decode("unicode-escape").encode("utf-16", "surrogatepass").decode("utf-16")
    if kind == "code":
        return chr(int(text[2:], 16))
    return unescape(text)
