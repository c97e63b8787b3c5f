"""What all tests share: how the tests are spread over workers, and a first run of the runbook for those that need one.

`make test` starts pytest's workers so that each takes a file at a time, in the order of the tests. Of the tests on the
sandbox (`-m sandbox`), each worker has a sandbox and a checkout of its own. The files of the fast tests need no order.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.support import worker_sandbox

# What takes long and no test needs: jsonschema's grammars of IRIs (lib/bundle/__init__.py), moto's 500 machine images
sys.modules.setdefault("rfc3987_syntax", None)
os.environ.setdefault("MOTO_EC2_LOAD_DEFAULT_AMIS", "false")

# A slow machine is no fault of what is tested
settings.register_profile("here", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("here")

# Which files come first: a slow machine may have no time for the last ones. The others are short, so they come last,
# and no worker is left alone with a long one
ORDER = (
    "test_end_to_end.py",
    "test_policy_mutations.py",
    "test_login.py",
    "test_roles.py",
    "test_encryption.py",
    "test_eks_params.py",
    "test_why.py",
    "test_reconfigured_cluster.py",
    "test_fleet.py",
    "test_gateway_api.py",
    "test_labs.py",
    "test_jupyterlab.py",
)
made: dict[str, dict[str, str]] = {}  # the environment of each worker's sandbox


def pytest_collection_modifyitems(items):
    """The files are in the order of ORDER, and what ends the cluster comes last."""
    places = {name: place for place, name in enumerate(ORDER)}
    ends = lambda item: item.get_closest_marker("last") is not None  # noqa: E731
    items.sort(key=lambda item: (ends(item), places.get(item.path.name, len(ORDER))))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Leave out a test on the sandbox that would begin when the time of `make test` is over, as on a slow machine."""
    if item.get_closest_marker("sandbox") and time.time() > float(os.environ.get("TESTS_END", "inf")):
        pytest.skip("left out: the time of `make test` was over. Give it more: make test TEST_MINUTES=180")


def pytest_collection_finish():
    """Let the garbage collector leave alone what lives until the end: a million objects of modules and tests."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)  # a tenth of a worker's time went into this


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config):
    """Return what `-n auto` stands for."""
    return worker_sandbox.count() if config.option.markexpr == "sandbox" else len(os.sched_getaffinity(0))


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node):
    """Make a sandbox's folder for a worker that pytest is about to start."""
    if node.config.option.markexpr == "sandbox":
        worker = node.workerinput["workerid"]
        node.workerinput["sandbox"] = made[worker] = worker_sandbox.make(worker)


def pytest_configure(config):
    """Enter the sandbox and the checkout, in a worker that has them."""
    told = getattr(config, "workerinput", {})
    if "sandbox" in told:
        worker_sandbox.enter(told["workerid"], told["sandbox"])


def pytest_unconfigure():
    """End the workers' sandboxes, also after Ctrl-C: a worker that is killed ends nothing."""
    for worker in list(made):
        worker_sandbox.remove(worker, made.pop(worker))


def pytest_terminal_summary(terminalreporter):
    """Tell what failed at first, of a test that ran once more: it is a fault to look for, of the test or of lib."""
    for report in terminalreporter.stats.get("rerun", []):
        terminalreporter.section(f"ran again: {report.nodeid}", sep="_")
        terminalreporter.write_line(f"{report.longreprtext}\n{report.capstdout}")


@pytest.fixture(scope="session")
def first() -> Path:
    """A first run from nothing; the sandbox is down again after the tests."""
    from tests.support.runbook import assert_nothing_left, python, run

    python("-m", "sandbox", "down")
    assert python("-m", "sandbox", "up").returncode == 0
    code, bundle = run()
    assert code == 0
    yield bundle
    assert python("-m", "sandbox", "down").returncode == 0
    assert_nothing_left()


@pytest.fixture(scope="session")
def places() -> dict[str, Path]:
    """The real Envoy, `envoy`, and the public test vectors, `vectors`."""
    from tests.support.runbook import python

    done = python("-m", "sandbox", "vectors", limit=600)
    assert done.returncode == 0
    return {name: Path(path) for name, path in json.loads(done.stdout).items()}
