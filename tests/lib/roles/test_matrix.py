"""A matrix is read strictly, and each error names its line."""

import pytest

from lib.errors import ParamsError
from lib.roles import application, matrix, people

HEAD = "path,method,no token,no role,reader,editor\n"


def read(tmp_path, text):
    file = tmp_path / "matrix.csv"
    file.write_text(text)
    return matrix.read(file)


def test_the_runbooks_matrix_asks_every_caller():
    found = matrix.read(application.MATRIX)
    assert found.roles == ("guest", "reader", "editor", "admin")
    assert len(found.cells()) == len(found.rows) * len(found.callers) >= 54
    asked = {(cell.caller, cell.may) for cell in found.cells()}
    assert {(role, may) for role in found.roles[:3] for may in (True, False)} <= asked


def test_a_row_says_who_may(tmp_path):
    found = read(tmp_path, HEAD + "/a/*,GET,no,no,yes, Yes \n\n/b,POST,yes,yes,yes,yes\n")
    assert [row.allowed for row in found.rows] == [("reader", "editor"), found.callers]
    assert [cell.path for cell in found.cells()][:4] == ["/a/7"] * 4


def test_a_spreadsheets_file_is_read(tmp_path):
    (tmp_path / "matrix.csv").write_bytes(b"\xef\xbb\xbfpath,method,reader\r\n/a,GET,yes\r\n")
    assert matrix.read(tmp_path / "matrix.csv").callers == ("reader",)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "line 1: expected the columns path, method and then each caller once"),
        ("path,method\n", "line 1: expected the columns"),
        ("path,method,reader,reader\n/a,GET,yes,no\n", "line 1: expected the columns"),
        (HEAD, "expected rows, each with another path and method"),
        (HEAD + "/a,GET,no,no,no,yes\n/a,GET,no,no,yes,yes\n", "expected rows, each with another path and method"),
        (HEAD + "/a,GET,no,no,yes\n", "line 2: expected 6 columns, got 5"),
        (HEAD + "a,GET,no,no,no,yes\n", "line 2: expected a path as in /articles or /articles/\\*, got a"),
        (HEAD + "/*/b,GET,no,no,no,yes\n", "line 2: expected a path"),
        (HEAD + "/a,get,no,no,no,yes\n", "line 2: expected a method among GET, .*, got get"),
        (HEAD + "/a,GET,no,no,maybe,yes\n", "line 2: expected yes or no in every cell, got maybe"),
        (HEAD + "/a,GET,no,no,,yes\n", "line 2: expected yes or no in every cell, got an empty cell"),
        (HEAD + "/a,GET,yes,yes,no,yes\n", "since `no token` has yes, got no for reader"),
        (HEAD + "/a,GET,no,yes,yes,no\n", "since `no role` has yes, got no for editor"),
    ],
)
def test_what_is_no_matrix_names_the_line_and_the_cure(tmp_path, text, sentence):
    with pytest.raises(ParamsError, match=sentence):
        read(tmp_path, text)


def test_a_missing_file_is_no_matrix(tmp_path):
    with pytest.raises(ParamsError, match="expected a matrix in .*; give a CSV file"):
        matrix.read(tmp_path / "none.csv")


def test_a_role_that_keycloak_lacks_is_named(tmp_path):
    (tmp_path / "matrix.csv").write_text("path,method,no token,no role,reader,auditor\n/a,GET,no,no,yes,yes\n")
    with pytest.raises(ParamsError, match="got auditor; correct the column, or add the role"):
        application.read_matrix(tmp_path / "matrix.csv")
    assert application.read_matrix().roles == tuple(people.GROUPS)
