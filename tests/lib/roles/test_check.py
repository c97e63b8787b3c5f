"""A matrix against a server on loopback that knows roles, whole and with a hole."""

import csv
import io
import xml.etree.ElementTree as ET

import pytest
from rich.console import Console

from lib.roles.__main__ import main
from tests.support.loopback import heard, served

HEAD = "path,method,no token,reader,editor\n"
ROWS = "/public,GET,yes,yes,yes\n/articles/*,GET,no,yes,yes\n/articles/*,POST,no,no,yes\n"
MAY = {("GET", "/app/public"): ("", "reader", "editor"), ("GET", "/app/articles/7"): ("reader", "editor"),
       ("POST", "/app/articles/7"): ("editor",)}  # fmt: skip


def application(hole="", heads=None):
    """Return a server of one connection: its tokens are the roles' names."""

    def speak(connection):
        head = heard(connection).decode()
        if heads is not None:
            heads.append(head)
        method, path, _ = head.split(" ", 2)
        role = head.partition("Bearer ")[2].split("\r\n")[0]
        may = role in MAY[method, path] or (hole == "role too many" and role == "reader")
        status = "200 OK" if may else "403 Forbidden"
        body = "{}" if may else "RBAC: access denied"
        upstream = "x-envoy-upstream-service-time: 1\r\n" if may else ""
        connection.sendall(f"HTTP/1.1 {status}\r\n{upstream}content-length: {len(body)}\r\n\r\n{body}".encode())

    return speak


@pytest.fixture
def command(tmp_path):
    """Run the command on the matrix; return its exit code and what it printed."""
    file = tmp_path / "matrix.csv"
    file.write_text(HEAD + ROWS)
    tokens = ["--token", "reader=echo reader", "--token", "editor=echo editor"]

    def run(address, *more, tokens=tokens):
        console = Console(file=io.StringIO(), width=200)
        url = ["--url", f"http://{address}/app", "--rate", "1000"]
        return main(["check", str(file), *url, *tokens, *more], console), console.file.getvalue()

    return run


def test_a_mesh_that_does_what_the_matrix_says(command, tmp_path):
    heads = []
    with served(application(heads=heads)) as address:
        code, text = command(address, "--csv", str(tmp_path / "x.csv"), "--junit", str(tmp_path / "x.xml"))
    assert code == 0 and "9 cells, 0 differ" in text and "✗" not in text and len(heads) == 9
    with (tmp_path / "x.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    assert len(rows) == 9 and {row["verdict"] for row in rows} == {"pass"}
    suites = ET.parse(tmp_path / "x.xml").getroot()
    assert [(suite.get("name"), suite.get("tests")) for suite in suites] == [
        ("no token", "3"), ("reader", "3"), ("editor", "3")
    ]  # fmt: skip


def test_a_role_too_many_is_one_cell(command, tmp_path):
    with served(application("role too many")) as address:
        code, text = command(address, "--csv", str(tmp_path / "x.csv"))
    assert code == 1 and "1 differ" in text and "✗ 200 app" in text
    with (tmp_path / "x.csv").open() as lines:
        wrong = [row for row in csv.DictReader(lines) if row["verdict"] == "fail"]
    assert [(row["caller"], row["method"], row["actual"]) for row in wrong] == [("reader", "POST", "allowed")]


def test_a_dry_run_sends_nothing_and_runs_no_command(command):
    heads = []
    with served(application(heads=heads)) as address:
        code, text = command(address, "--dry-run", tokens=["--token", "reader=false", "--token", "editor=false"])
    assert code == 0 and heads == []
    assert "reader: POST /app/articles/7, expected refused" in text and "9 requests" in text


def test_a_column_without_a_token_is_left_out_and_named(command):
    with served(application()) as address:
        code, text = command(address, tokens=["--token", "reader=echo reader"])
    assert code == 0 and "The column 'editor' is not asked" in text and "6 cells" in text


def test_no_token_is_shown(command):
    with served(application()) as address:
        _, text = command(address, tokens=["--token", "reader=echo secret-reader"])
    assert "secret-reader" not in text


@pytest.mark.parametrize(
    ("more", "tokens", "sentence"),
    [
        (["--budget", "5"], None, "expected a budget of 9 requests, got 5"),
        ([], ["--token", "owner=echo x"], "got one for owner; correct --token"),
        ([], ["--token", "reader=false"], "expected a token command that prints a token, got exit code 1"),
        (["--rate", "0"], None, "expected valid options, got rate"),
    ],
)
def test_what_cannot_run_says_why_and_sends_nothing(command, capsys, more, tokens, sentence):
    heads = []
    with served(application(heads=heads)) as address:
        code, _ = command(address, *more, **({"tokens": tokens} if tokens else {}))
    assert code == 2 and heads == [] and sentence in capsys.readouterr().err


def test_nothing_that_answers_is_no_pass(command):
    with served(application()) as address:
        pass
    code, text = command(address)
    assert code == 2 and "9 cells got no answer" in text
