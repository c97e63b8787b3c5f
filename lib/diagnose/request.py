"""The request that `why` sends: where it carries a token, and what of it must not be shown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from lib.diagnose.evidence import BEARER
from lib.errors import RunbookError
from lib.redact import clean

SENSITIVE = re.compile(r"(?i)auth|token|key|secret|passw|cookie|session|cred|jwt|assert|sign|code|otp|oidc|^sid$")
JWT_LIKE = re.compile(r"eyJ[\w-]+={0,2}\.[\w-]*={0,2}\.[\w-]*={0,2}")  # AWS load balancers pad the parts
LONG = 12  # characters from which a value of an ordinary query parameter counts as a secret
QUERY = re.compile(r"((?:https?://|\B/)[^\s?\"'<>]*)\?[^\s\"'<>,;)]+")
USER = re.compile(r"(\w+://)[^\s/@:]+(:[^\s/@]*)?@")


@dataclass(frozen=True)
class Request:
    """One request as the person who asks describes it; lib.diagnose.ask explains the fields."""

    url: str
    token: str | None = None
    host: str = ""
    method: str = "GET"
    to: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    data: str = ""

    @property
    def path(self) -> str:
        """The path with its query."""
        parts = urlsplit(self.url)
        return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")

    def sent(self) -> dict[str, str]:
        """Return the request's own headers by lower-case names, the token among them."""
        bearer = {} if self.token is None else {"authorization": f"Bearer {self.token}"}
        return bearer | {name.lower(): value for name, value in self.headers.items()}

    def options(self) -> dict[str, Any]:
        """Return the arguments of lib.http_client's functions."""
        further = {"token": self.token, "host": self.host or None, "method": self.method}
        return {**further, "headers": self.headers, "data": self.data}


def carried(request: Request) -> list[tuple[str, str]]:
    """Return the tokens of a request, each after its place (lib.istio.authentication.places)."""
    found: list[tuple[str, str]] = [] if request.token is None else [(BEARER, request.token)]
    for name, value in request.headers.items():
        if name.lower() == "cookie":
            found += [(f"cookie {key}", one) for key, one in _cookies(value) if JWT_LIKE.fullmatch(one)]
        elif name.lower() == "authorization" and value.lower().startswith("bearer "):
            found.append((BEARER, value[7:].strip()))
        elif token := JWT_LIKE.search(value):
            found.append((f"header {name}", token[0]))
    for name, value in parse_qsl(urlsplit(request.url).query):
        if name == "access_token" or JWT_LIKE.fullmatch(value):
            found.append((f"query parameter {name}", value))
    return found


def secrets(request: Request) -> list[str]:
    """Return what of a request must not be shown."""
    url = urlsplit(request.url)
    found = [token for _, token in carried(request)]
    for name, value in request.headers.items():
        if SENSITIVE.search(name):
            found += [value, value.rpartition(" ")[2], *(one for _, one in _cookies(value))]
    for name, value in parse_qsl(url.query):
        if SENSITIVE.search(name) or len(value) >= LONG:
            found.append(value)
    found += [request.data, *(value for _, value in parse_qsl(request.data)), unquote(url.password or "")]
    return [one for one in dict.fromkeys(found) if one not in ("", "null", "None", "undefined")]


def shown(text: str, hidden: Iterable[str] = ()) -> str:
    """Return a text without secrets, tokens, and the queries and passwords of its URLs."""
    return clean(USER.sub(r"\1…@", QUERY.sub(r"\1?…", text)), hidden)


def headers(lines: Iterable[str]) -> dict[str, str]:
    """Return headers given as `Name: value`, or as @FILE with one on each line.

    Raises:
        RunbookError: A line has no colon, or the file cannot be read.
    """
    made = {}
    for line in (one for given in lines for one in _lines(given)):
        name, colon, value = line.partition(":")
        if not colon or not name.strip():
            raise RunbookError("A header has no colon. Write HEADER='Name: value', or HEADER=@file with such lines.")
        made[name.strip()] = value.strip()
    return made


def body(given: str) -> str:
    """Return a request's body: the text, or the content of @FILE; RunbookError if the file cannot be read."""
    return _read(given[1:]) if given.startswith("@") else given


def _lines(given: str) -> list[str]:
    return [line for line in _read(given[1:]).splitlines() if line.strip()] if given.startswith("@") else [given]


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise RunbookError(f"Cannot read {path}: {type(error).__name__}. Name a file of text.") from None


def _cookies(value: str) -> list[tuple[str, str]]:
    pairs = [one.strip().partition("=") for one in value.split(";")]
    return [(name, text) for name, mark, text in pairs if mark]
