"""Texts for a terminal: a character that a terminal obeys becomes its escape."""

from __future__ import annotations

LONG = 500  # characters of one value that a sentence shows


def printable(value: object, most: int = LONG) -> str:
    """Return the value as one line of visible characters, cut after `most` of them.

    Controls, line ends, surrogates and the characters that change the direction of text become escapes.
    Source: the Unicode categories Cc, Cf, Cs, Zl and Zp; `str.isprintable` is false for them.
    """
    text = str(value)
    shown = text if len(text) <= most else f"{text[:most]}… ({len(text)} characters)"
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in shown)


def printable_lines(text: str) -> str:
    """Return a text of several lines, each made printable."""
    return "\n".join(printable(line, len(line)) for line in text.split("\n"))
