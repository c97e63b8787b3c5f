"""The matrix: a CSV file with one row for each path and method, and one column for each kind of caller.

    path,method,no token,no role,reader,editor
    /articles/*,GET,no,no,yes,yes

The columns after `method` are callers: `no token` sends none, `no role` sends a token without any role of the
matrix, each other column is a role. A cell is `yes` or `no`. What no row allows is refused.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from lib.errors import ParamsError

NO_TOKEN, NO_ROLE = "no token", "no role"
ANSWERS = {"yes": True, "no": False}
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
LEAF = "7"  # what a request has in place of the * at a path's end


@dataclass(frozen=True)
class Row:
    """One path and method, and which callers may use them. `path` may end in *."""

    path: str
    method: str
    may: dict[str, bool]

    @property
    def allowed(self) -> tuple[str, ...]:
        """The callers that may, in the columns' order."""
        return tuple(caller for caller, may in self.may.items() if may)

    @property
    def target(self) -> str:
        """A path that the row is about, without a star."""
        return f"{self.path[:-1]}{LEAF}" if self.path.endswith("*") else self.path


@dataclass(frozen=True)
class Cell:
    """One question: may this caller send this method to this path?"""

    caller: str
    method: str
    path: str
    may: bool


@dataclass(frozen=True)
class Matrix:
    """All rows of a file, and its callers."""

    callers: tuple[str, ...]
    rows: tuple[Row, ...]

    @property
    def roles(self) -> tuple[str, ...]:
        """The callers that are roles."""
        return tuple(name for name in self.callers if name not in (NO_TOKEN, NO_ROLE))

    def cells(self) -> list[Cell]:
        """Return every cell, row by row."""
        return [Cell(name, row.method, row.target, row.may[name]) for row in self.rows for name in self.callers]

    def moved(self, old: str, new: str) -> Matrix:
        """Return the matrix with `new` in place of the prefix `old` of every path."""
        rows = (Row(new + row.path.removeprefix(old), row.method, row.may) for row in self.rows)
        return Matrix(self.callers, tuple(rows))


def read(file: Path) -> Matrix:
    """Return the matrix of a file.

    Raises:
        ParamsError: the file is no such table. The message names the line, and what to write there.
    """
    try:
        with file.open(newline="", encoding="utf-8-sig") as lines:
            head, *table = list(csv.reader(lines)) or [[]]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ParamsError(f"expected a matrix in {file}, got: {error}; give a CSV file.") from None
    head = [name.strip() for name in head]
    callers = tuple(head[2:])
    if head[:2] != ["path", "method"] or not callers or len(set(callers)) != len(callers):
        raise _wrong(file, 1, "the columns path, method and then each caller once", ",".join(head))
    rows = tuple(_row(file, number, callers, line) for number, line in enumerate(table, 2) if any(line))
    places = [(row.path, row.method) for row in rows]
    if not rows or len(set(places)) != len(places):
        raise _wrong(file, len(rows) + 1, "rows, each with another path and method", str(len(rows)))
    return Matrix(callers, rows)


def _row(file: Path, number: int, callers: tuple[str, ...], line: list[str]) -> Row:
    words = [word.strip() for word in line]
    if len(words) != len(callers) + 2:
        raise _wrong(file, number, f"{len(callers) + 2} columns", str(len(words)))
    path, method, *answers = words
    if not path.startswith("/") or "*" in path[:-1] or set(path) & set("?#{} "):
        raise _wrong(file, number, "a path as in /articles or /articles/*", path)
    if method not in METHODS:
        raise _wrong(file, number, f"a method among {', '.join(METHODS)}", method)
    if unknown := [word for word in answers if word.lower() not in ANSWERS]:
        raise _wrong(file, number, "yes or no in every cell", unknown[0] or "an empty cell")
    may = {caller: ANSWERS[word.lower()] for caller, word in zip(callers, answers, strict=True)}
    return _checked(file, number, Row(path, method, may))


def _checked(file: Path, number: int, row: Row) -> Row:
    """Return the row, unless it lets less in with more: a token, or a role, cannot take away what needs none."""
    order = [name for name in (NO_TOKEN, NO_ROLE) if name in row.may]
    for place, open_to in enumerate(order):
        later = [name for name in row.may if name not in order[: place + 1]]
        if row.may[open_to] and (shut := [name for name in later if not row.may[name]]):
            raise _wrong(file, number, f"yes for everybody, since `{open_to}` has yes", f"no for {', '.join(shut)}")
    return row


def _wrong(file: Path, number: int, expected: str, got: str) -> ParamsError:
    return ParamsError(f"{file.name}, line {number}: expected {expected}, got {got}; correct the line.")


def groups(rows: Iterable[Row]) -> dict[tuple[str, ...], list[Row]]:
    """Return the rows by the callers that may use them; rows for nobody are left out."""
    found: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        if row.allowed:
            found.setdefault(row.allowed, []).append(row)
    return found
