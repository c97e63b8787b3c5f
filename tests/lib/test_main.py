"""The commands: what they print, and one sentence instead of a traceback."""

import subprocess
import sys
from pathlib import Path

import pytest

from lib.__main__ import main
from lib.params import ROOT


def test_an_error_is_a_sentence_and_2(capsys):
    assert main(["params", "nowhere"]) == 2
    said = capsys.readouterr()
    assert "got 'nowhere'" in said.err and "Traceback" not in said.err and said.out == ""


@pytest.mark.parametrize("command", [["verify", "nowhere"], ["run", "--env", "nowhere"], ["kubeconfig", "nowhere"]])
def test_each_command_speaks_so(command, capsys):
    assert main(command) == 2
    assert capsys.readouterr().err.startswith(("expected ", "params: expected "))


def test_verify_names_what_is_wrong(tmp_path, capsys):
    assert main(["verify", str(tmp_path)]) == 1
    assert "this bundle is incomplete" in capsys.readouterr().out


def test_token_imports_no_notebook_machinery():
    code = (
        "import sys\nfrom lib.__main__ import main\n"
        "main(['token', '--cluster', 'c', '--region', 'r', '--endpoint-url', 'http://127.0.0.1:1'])\n"
        "print([name for name in ('pandas', 'kubernetes', 'papermill', 'IPython', 'pydantic') if name in sys.modules])"
    )
    environment = {"PYTHONPATH": str(ROOT), "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=Path("/"))
    assert "ExecCredential" in done.stdout and done.stdout.splitlines()[-1] == "[]", done.stderr
