"""The labs run from end to end, as a learner's Run-All does, and `why` answers in each.

test_reconfigured_cluster.py makes their faults that are others with Istio's own kinds of gateways.
"""

from __future__ import annotations

import re

import nbformat
import pytest

from lib.labs.notebook import NAMES
from tests.support.runbook import ROOT, python

pytestmark = pytest.mark.sandbox
LABS = sorted((ROOT / "notebooks" / "labs").glob("*.ipynb"))


@pytest.mark.parametrize("path", LABS, ids=lambda path: path.stem)
def test_a_lab_runs_and_why_explains_each_of_its_faults(first, path, tmp_path):
    copy = tmp_path / path.name
    done = python("-m", "papermill", str(path), str(copy), "--no-progress-bar", limit=600)
    assert done.returncode == 0
    cells = [cell for cell in nbformat.read(copy, 4).cells if cell.cell_type == "code"]
    asked = [re.search(r'break_it\("(.+)"\)', cell.source)[1] for cell in cells if "break_it(" in cell.source]
    shown = ["".join(str(output) for output in cell.outputs) for cell in cells if "break_it(" in cell.source]
    answers = ["".join(output.text for output in cell.outputs) for cell in cells if cell.source == "bench.why()"]
    assert len(asked) == len(answers) >= 5 and set(asked) <= set(NAMES)
    assert all("\nwhy: " in text and "\nchange: " in text for text in answers)
    assert any("```diff" in text for text in shown) and all("Broken: " in text for text in shown)
