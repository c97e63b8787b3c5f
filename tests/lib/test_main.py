"""The commands: what they print, and one sentence instead of a traceback."""

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from lib.__main__ import main
from lib.params import ROOT
from lib.runner.terminal import show_table


def test_an_error_is_a_sentence_and_2(capsys):
    assert main(["params", "nowhere"]) == 2
    printed = capsys.readouterr()
    assert "'nowhere'" in printed.err and "Traceback" not in printed.err and printed.out == ""


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["verify", "nowhere"], "No bundle at nowhere. Name a run's folder, outputs/<env>/<run>.\n"),
        (["history", "nowhere"], "No runs in outputs/nowhere. Run: make run ENV=nowhere.\n"),
        (["run", "--env", "nowhere"], "params: "),
        (["kubeconfig", "nowhere"], "params: "),
        (["why", "--env", "dev", "--token-file", "nowhere", "http://x"], "Cannot read a token from nowhere: "),
    ],
)
def test_an_error_says_what_is_wrong_and_what_to_do(command, words, capsys):
    assert main(command) == 2
    assert capsys.readouterr().err.startswith(words)


RUN = {
    "run": "20261128T081200Z-abcdef01-2", "verdict": "incomplete", "steps": 13, "checks": 1713, "passed": 1713,
    "created": 1234, "changed": 123, "seconds": 125.33, "commit": "abcdef01+",
}  # fmt: skip


@pytest.mark.parametrize("width", [40, 80, 120])
def test_history_never_cuts_the_name_of_a_run(width, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    show_table(pd.DataFrame([RUN]), optional=("created", "changed", "commit"))
    lines = capsys.readouterr().out.splitlines()
    heads, row = (next(line.split() for line in lines if word in line.split()) for word in ("run", RUN["run"]))
    left = (
        RUN if width == 120 else {key: RUN[key] for key in ("run", "verdict", "steps", "checks", "passed", "seconds")}
    )
    assert (heads, row) == (list(left), [str(value) for value in left.values()])
    assert max(map(len, lines)) <= max(width, 80)


def test_other_tables_wrap_long_values_and_keep_all_of_them(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    show_table(pd.DataFrame([{"what": "w" * 50, "A": "a" * 60, "B": "b"}]))
    printed = capsys.readouterr().out
    assert [printed.count(letter) for letter in "wa"] == [51, 61] and max(map(len, printed.splitlines())) <= 40


def test_verify_names_what_is_wrong(tmp_path, capsys):
    assert main(["verify", str(tmp_path)]) == 1
    assert "the bundle is incomplete" in capsys.readouterr().out


def test_token_imports_no_notebook_machinery():
    code = (
        "import sys\nfrom lib.__main__ import main\n"
        "main(['token', '--cluster', 'c', '--region', 'r', '--endpoint-url', 'http://127.0.0.1:1'])\n"
        "print([name for name in ('pandas', 'kubernetes', 'papermill', 'IPython', 'pydantic') if name in sys.modules])"
    )
    environment = {"PYTHONPATH": str(ROOT), "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=Path("/"))
    assert "ExecCredential" in done.stdout and done.stdout.splitlines()[-1] == "[]", done.stderr
