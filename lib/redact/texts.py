"""Secrets in texts, by the names of their values: JSON, YAML, headers, environments, queries, options, XML."""

from __future__ import annotations

import re
from collections.abc import Iterator

from lib.redact.names import PASSWORDS, kind, masked
from lib.redact.values import NAMING, names_a_secret
from lib.redact.views import Span
from lib.redact.words import Words

PROSE = re.compile(r"[A-Za-z]?[a-z]+[.,;]?(?=[ \t]+[A-Za-z(])")
WORDS = Words((*PASSWORDS, "secret", "token", "authorization", "cookie", "session", "credential", "assertion",
         "verifier", "key", "keycloak_identity", "auth"))  # fmt: skip
ROLES = Words(NAMING)
NAME = re.compile(r"[\w.-]{0,60}")
STRING = r"""(?:[bruf]?"(?:[^"\\]|\\.)*+"|[bruf]?'(?:[^'\\]|\\.)*+')"""
SEPARATOR = re.compile(  # after a backtick the value is on the same line
    r"""\\*(?:`[ \t]*(?::=|=>|[:=])[ \t]*|["']?\s*(?::=|=>|[:=])[ \t]*(?:\n\s*(?=["'{\[]))?)"""
)
SENTENCE = re.compile(
    r"""(?:[(`]?[A-Za-z][A-Za-z'-]*[)`]?[,:;]?[ \t]+){3,}[(`]?[A-Za-z][A-Za-z'-]*[)`]?[.:;!?](?=\s|\\n|["'<]|\Z)"""
)
GRAMMAR = re.compile(r"\b(?:the|an?|is|are|of|in|for|and|must|with|that|not|it)\b")  # words that a sentence has
SHELL = re.compile(rf"""(?:{STRING}|["'][^\n]*|\\.|[^\s"'&;<>|]){{1}}(?:{STRING}|\\.|[^\s"'&;<>|,)}}\]])*""")
QUOTED = re.compile(STRING, re.DOTALL)
LIST = re.compile(rf"[\[(]\s*(?:{STRING}\s*,?\s*)+[\])]?", re.DOTALL)
BLOCK = re.compile(r"[|>][-+]?\d?[ \t]*\n(?P<body>(?:[ \t]+\S.*(?:\n|\Z)|[ \t]*\n)+)")
CALL = re.compile(r"[A-Za-z_][\w.]*(?:[(\[]|[,)]$)")  # an expression of a program, such as read_secret(…)
CODE = re.compile(
    r"[A-Za-z_][\w.]*[(\[]|[a-z_][a-z_.]*[,)]|[{\[(]|[a-z]+_[a-z_]+$|[A-Z]+(?:_[A-Z]+)+$|[A-Za-z_]\w*\.[a-z_]\w*$"
)
CLOSING = re.compile(r"""["']\s*(?:[,}\]):]|\Z)""")  # the end of a string that ends with `password=`
BARE = re.compile(r"""(?![,)\]}])(?:(?!\\[nrt])[^\s&;"'<>])+""")
LINE = re.compile(r"""(?!["'\s])(?:(?!\\[nr])[^\r\n])+""")
ITEMS = re.compile(r"[ \t]*\n(?P<body>(?:[ \t]*- .+(?:\n|\Z))+)")
NAMED = re.compile(r"""\b(?P<role>[Nn]ame|[Kk]ey|type|variable)["']?[ \t]*[:=]\s*+["']?(?P<name>[\w.-]++)["']?""")
ITS_VALUE = re.compile(  # of {"name": "DB_PASSWORD", "value": …}, with no other object or list item between
    r"""(?:(?!\n[ \t]*- |[{}\[\]()]|\b[Nn]ame\b|valueFrom).){0,120}?\b[Vv]alue["']?[ \t]*[:=][ \t]*+""", re.DOTALL
)
VALUE_BEFORE = re.compile(rf"""\b[Vv]alue["']?[ \t]*[:=]\s*+(?P<value>{STRING}|[^\s,"']++)\s*+,?\s*+["']?\Z""")
SECRET_KIND = re.compile(r"""kind["']?\s*:\s*["']?Secret\b(?!\w)""")
DATA = re.compile(
    r"""(?P<margin>^[ \t-]*)(?:data|stringData):[ \t]*\n(?P<yaml>(?:(?P=margin)[ \t]+.*(?:\n|\Z))+)"""
    r"""|["'](?:data|stringData)["']\s*:\s*\{(?P<json>[^{}]*)\}""",
    re.MULTILINE,
)
ROW = re.compile(r"^[ \t]*(?:[\"']?[\w.-]+[\"']?:[ \t]+(?:[|>][-+]?$)?)?(?P<value>[^\s|>].*)$", re.MULTILINE)
ENTRY = re.compile(rf"""["']?[\w.-]+["']?\s*:[ \t]*(?P<value>{STRING}|[^\s,{{}}"'].*)""")


def places(text: str) -> Iterator[tuple[str, Span]]:
    """Yield each value of a secret name in a text, with its kind."""
    lower = text.lower()
    lower = lower if len(lower) == len(text) else text
    for at in WORDS.starts(lower):
        start = at
        while start and at - start < 60 and (text[start - 1].isalnum() or text[start - 1] in "_.-"):
            start -= 1
        while text[start] in "-.":
            start += 1
        end = NAME.match(text, at).end()  # type: ignore[union-attr]
        name = text[start:end].strip(".-")
        if kind(name):
            yield from _marked(name, text, _values(name, text, start, end))
    if "value" in lower:
        for at in ROLES.starts(lower):
            if (found := NAMED.match(text, at)) and names_a_secret(found["role"], found["name"]):
                if after := ITS_VALUE.match(text, found.end()):
                    yield from _marked("password", text, _value(text, after.end(), False))
                if before := VALUE_BEFORE.search(text, max(0, found.start() - 300), found.start()):
                    trim = before["value"][:1] in "\"'"
                    yield from _marked("password", text, [(before.start("value") + trim, before.end("value") - trim)])
    if "data" in lower and SECRET_KIND.search(text):
        for start, end in _documents(text):
            yield from _marked("password", text, _entries(text, start, end))


def _marked(
    name: str, text: str, spans: Iterator[tuple[int, int]] | list[tuple[int, int]]
) -> Iterator[tuple[str, Span]]:
    for start, end in spans:
        secret = masked(name, text[start:end])
        if secret is not None:
            yield f"the value of {name}", Span(start, end, secret)


def _values(name: str, text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield the spans of the values of the name at text[start:end]."""
    before, what = text[max(0, start - 12) : start], kind(name)
    if before.endswith(("<", ":")) and (xml := re.compile(r"[^<>]*>([^<]+)</").match(text, end)):
        yield xml.span(1)
        return
    line = re.search(r"(?:^|\n)[ \t>#-]*(?:export |set |-e |ENV )?[\"']?$", before)
    if separator := SEPARATOR.match(text, end):
        if _prose(text, separator.end()):
            return
        if (
            what in ("header", "cookie")
            and ":" in separator[0]
            and text[separator.end() : separator.end() + 1] not in ("[", "(", "'", '"', "")
        ):
            quote = before[-1:] if before[-1:] in ("'", '"') else ""
            yield re.compile(rf"(?:(?!\\[nr])[^\r\n{quote}])*").match(text, separator.end()).span()  # type: ignore[union-attr]
        else:
            tight = separator[0].endswith("=") and separator[0][:1] == "="
            yield from _value(text, separator.end(), bool(line), tight, what)
    elif before.endswith(("-", "--")) and (option := re.compile(r"[ \t]+(?!-)(\S+)").match(text, end)):
        if not PROSE.match(text, option.start(1)) and not option[1].isupper():
            yield from _value(text, option.start(1), False, True, what)
    elif pair := re.compile(rf"""["']\s*,\s*({STRING})\s*[)\]]""").match(text, end):
        whole = re.search(r"""[(\[]\s*["']$""", before) and not kind(pair[1][1:-1])
        yield from [(pair.start(1) + 1, pair.end(1) - 1)] * bool(whole)


def _prose(text: str, at: int) -> bool:
    """Return whether a sentence begins at a place: words of letters alone, one of them of the grammar, and an end."""
    found = SENTENCE.match(text, at)
    return bool(found and GRAMMAR.search(found[0]))


def _value(text: str, at: int, line: bool, tight: bool = False, what: str = "") -> Iterator[tuple[int, int]]:
    """Yield the spans of the value that begins at a place: a string, a list, a block of YAML, or bare characters.

    `line` says whether the name is its line's first word, `tight` whether nothing is between the `=` and the value.
    """
    if (many := LIST.match(text, at)) or (many := BLOCK.match(text, at)) or (line and (many := ITEMS.match(text, at))):
        if "body" in many.groupdict():
            yield from (item.span(1) for item in re.compile(r"[ \t]*(?:- )?(\S.*)").finditer(text, *many.span("body")))
        else:
            yield from ((one.start() + 1, one.end() - 1) for one in QUOTED.finditer(text, *many.span()))
    elif CLOSING.match(text, at):
        return
    elif string := QUOTED.match(text, at):
        more = SHELL.match(text, at) if tight or line else None
        whole = more and more.end() > string.end()
        yield (at, more.end()) if more and whole else (at + string[0].index(string[0][-1]) + 1, string.end() - 1)
    elif text[at : at + 1] in ("'", '"'):  # a string that was cut off
        yield re.compile(r".[^\n]*").match(text, at).span()  # type: ignore[union-attr]
    elif (bare := (LINE if line else BARE).match(text, at)) and not (CALL if line and tight else CODE).match(bare[0]):
        value = bare[0]
        if line and (tight or what != "password"):
            value = value.split()[0]
        if not (line and what == "password") and PROSE.match(text, at):
            return
        if not line:
            value = value.rstrip(")}],.\\`")
        elif not tight:
            value = re.split(r"\s+#", value)[0].rstrip()
        yield at, at + len(value)


def _documents(text: str) -> Iterator[tuple[int, int]]:
    """Yield the spans of the documents, or items of a List, that are Secrets."""
    cuts = [0, *(cut.start() for cut in re.finditer(r"^(?:---|- (?=\w+:))", text, re.MULTILINE)), len(text)]
    for start, end in zip(cuts, cuts[1:], strict=False):
        if SECRET_KIND.search(text, start, end):
            yield start, end


def _entries(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    for block in DATA.finditer(text, start, end):
        entry = ENTRY if block["yaml"] is None else ROW
        for found in entry.finditer(text, *block.span("yaml" if entry is ROW else "json")):
            trim = found["value"][:1] in ("'", '"')
            yield found.start("value") + trim, found.end("value") - trim
