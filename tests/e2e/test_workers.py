"""Each worker of the tests on the sandbox has a sandbox and a checkout of its own, and leaves what its runs left."""

from __future__ import annotations

import json

import pytest

from tests.support.runbook import ROOT, python

pytestmark = pytest.mark.sandbox

MAKE = """
import json
from tests.support import worker_sandbox
print(json.dumps({worker: worker_sandbox.make(worker) for worker in ("gw0", "gw1")}))
"""
ENTER = """
import json, sys
from tests.support import worker_sandbox
worker_sandbox.enter("gw1", json.loads(sys.argv[1]))
from lib.params import ROOT
from sandbox.paths import HOME, PARTS, TAG
(ROOT / "outputs" / "dev").mkdir()
(ROOT / "outputs" / "dev" / "left").touch()
print(ROOT, HOME, PARTS.resolve(), TAG)
"""
REMOVE = """
import json, sys
from tests.support import worker_sandbox
for worker, environment in json.loads(sys.argv[1]).items():
    worker_sandbox.remove(worker, environment)
"""


def test_workers_do_not_meet_and_leave_nothing_but_outputs(tmp_path):
    home = tmp_path / "home"
    own = {"EKS_SANDBOX_HOME": str(home), "EKS_SANDBOX_PORT": "4699", "EKS_SANDBOX_LINKS": "10.250.0.0/16"}
    made = python("-c", MAKE, **own)
    every = json.loads(made.stdout)
    assert len(every) == 2 and all(every["gw0"][name] != every["gw1"][name] for name in every["gw0"])
    entered = python("-c", ENTER, json.dumps(every["gw1"]), **own)
    checkout = home / "tests" / "gw1" / "checkout"
    root, folder, parts, tag = entered.stdout.split()
    assert (root, folder, parts) == (str(checkout), str(checkout.with_name("home")), str(home / "parts")) and tag
    assert (checkout / "Makefile").read_text() == (ROOT / "Makefile").read_text()
    assert python("-c", REMOVE, json.dumps(every), **own).returncode == 0
    assert list((home / "tests").iterdir()) == []
    assert [path.name for path in (ROOT / "outputs" / "tests" / "gw1").rglob("*")] == ["dev", "left"]
