"""A spreadsheet runs no cell of our CSV files, and programs read what was written."""

import csv
import re
from io import StringIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib import spreadsheet

ODD = st.text(alphabet=st.sampled_from("=+-@'\"\t\r\n;,a1＝ e."), max_size=12)
CELLS = st.one_of(ODD, st.text(max_size=8))


@given(st.lists(st.tuples(CELLS, CELLS), max_size=4))
def test_what_is_written_is_read(rows):
    text = spreadsheet.text(["one", "two"], rows)
    assert spreadsheet.rows(text) == [{"one": one, "two": two} for one, two in rows]


@given(CELLS)
def test_no_cell_is_a_formula_whatever_separates_the_cells(cell):
    ((read, _),) = csv.reader(StringIO(spreadsheet.text([cell, ""], []), newline=""))
    for part in re.split(r"[;\t\r\n]", read):
        assert not re.match(r"[=+\-@＝＋－＠]", part) or spreadsheet.NUMBER.fullmatch(read)


@pytest.mark.parametrize("cell", ["-1.5", "+3", "2e-05", "a - b", "a=b", "it's", "401 J18", "'quoted'"])
def test_other_cells_stay_as_they_are(cell):
    assert spreadsheet.text(["name"], [[cell]]) == f"name\n{cell}\n"


def test_a_formula_stays_legible():
    assert spreadsheet.text(["got"], [["=HYPERLINK(1)"], ["+ and /"]]) == "got\n'=HYPERLINK(1)\n'+ and /\n"


@pytest.mark.parametrize("text", ["", "\n"])
def test_an_empty_file_has_no_rows_or_says_so(text):
    if text:
        assert spreadsheet.rows(text) == []
    else:
        with pytest.raises(ValueError, match="no CSV"):
            spreadsheet.rows(text)
