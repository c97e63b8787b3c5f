"""Further clusters of a sandbox: each with the mesh and the policies of the steps 01 to 10, by params of its own."""

from __future__ import annotations

import shutil
from pathlib import Path

import yaml

from lib.params import ROOT
from tests.support.runbook import python

FIRST, LAST = "01", "10"  # step 10 has Figure 2's policies, which the probes of the families A to D ask
STEPS = """
import sys
from lib.params import ROOT
from lib.runner import order, series
whole = order.numbered(ROOT / "notebooks")
sys.exit(series.run(sys.argv[1], steps=[one for one in whole if sys.argv[2] <= one.stem[:2] <= sys.argv[3]]))
"""


def make(name: str) -> None:
    """Write params/<name>.yml for a cluster of this name, and make the cluster. A failed step is an AssertionError."""
    stated = yaml.safe_load((ROOT / "params" / "dev.yml").read_text())
    _file(name).write_text(yaml.safe_dump({**stated, "env": name, "cluster_name": name}))
    assert python("-c", STEPS, name, FIRST, LAST).returncode == 0


def remove(name: str) -> None:
    """Delete a cluster and what belongs to it in the account, then its params and what its runs left."""
    assert python("-m", "lib", "clean-up", "--env", name, CONFIRM="yes").returncode == 0
    _file(name).unlink()
    for folder in ("outputs", "outputs/watch"):
        shutil.rmtree(ROOT / folder / name, ignore_errors=True)


def _file(name: str) -> Path:
    return ROOT / "params" / f"{name}.yml"
