"""Any folder gets a sentence, never a traceback, in bounded time and memory."""

import json
import subprocess
import sys

import pytest

from lib.__main__ import main
from lib.params import ROOT
from tests.support.attacks import FORGED, write
from tests.support.sealed_bundle import sealed

CASES = 40


@pytest.mark.parametrize("seed", [1, 2])
def test_no_change_of_a_bundle_makes_a_traceback(tmp_path, seed):
    command = [sys.executable, "-m", "tests.support.hostile", str(tmp_path), str(CASES), str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-3000:]
    counts = json.loads(done.stdout)
    assert sum(counts.values()) == CASES and not counts.keys() & {"traceback", "slow"}, done.stderr[-6000:]
    assert counts["a sentence"] > CASES / 2


@pytest.mark.parametrize("act", [write(f"{FORGED}/x\nwhole", ""), write("run.json", '{"run": "\x1b[2J"}')])
def test_nothing_is_printed_that_a_terminal_obeys(tmp_path, capsys, act):
    folder, _ = sealed(tmp_path)
    act(folder)
    assert main(["verify", str(folder), "--key", str(folder / "signer.pem")]) == 1
    printed = capsys.readouterr().out
    assert "\x1b" not in printed and "\nwhole" not in printed
