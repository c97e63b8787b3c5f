"""CSV files for programs and for spreadsheets, which run a cell that looks like a formula.

Such a cell gets an apostrophe, the sign for text in a spreadsheet; `rows` takes it off again.
Source: OWASP, "CSV Injection"; RFC 4180.
"""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Iterable, Sequence
from io import StringIO

SPECIAL = re.compile(r'[",\r\n]')  # characters that need quotes (RFC 4180, section 2)
# A formula's first character, also of full width, and where a cell begins if the spreadsheet separates by `;` or tab.
FORMULA = re.compile(r"(?<![^;\t\r\n])(?='*[=+\-@\t\r＝＋－＠])")
TEXT = re.compile(rf"{FORMULA.pattern}'")
NUMBER = re.compile(r"[+-]?\d+(?:\.\d+)?(?:e[+-]?\d+)?")


def text(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return the rows as CSV with line feeds. csv.writer would leave a lone carriage return without quotes."""
    return "".join(",".join(map(_field, line)) + "\n" for line in (columns, *rows))


def rows(text: str) -> list[dict[str, str]]:
    """Return the rows of a CSV by column, as they were before `text`; raise ValueError if it is none."""
    csv.field_size_limit(sys.maxsize)
    try:
        names, *lines = csv.reader(StringIO(text, newline=""))
    except (ValueError, csv.Error) as error:
        raise ValueError(f"it is no CSV ({error})") from None
    empty = [""] * len(names)
    cells = ([TEXT.sub("", cell) if "'" in cell else cell for cell in line] for line in lines if line)
    return [dict(zip(names, [*line, *empty], strict=False)) for line in cells]


def _field(value: object) -> str:
    cell = "" if value is None else str(value)
    if not NUMBER.fullmatch(cell):
        cell = FORMULA.sub("'", cell)
    return '"' + cell.replace('"', '""') + '"' if SPECIAL.search(cell) else cell
