"""The filter of a link: what its rules let through, and that they work in network namespaces of the test's own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sandbox.host import link_filter
from sandbox.host.veth import Link
from sandbox.paths import PARTS

PROGRAM = Path(__file__).with_name("filtered_link.py")


def test_the_rules_drop_all_but_the_webhook_and_answers():
    lines = link_filter.rules(Link(0), 8443).splitlines()
    host = Link(0).host
    assert "flags owner" in lines[0] and "policy drop" in lines[1]
    assert [line.partition(" in ")[2] for line in lines[2:]] == [
        f"arp daddr ip {host} accept",
        f"ip daddr {host} tcp dport 8443 accept",
        f"ip daddr {host} tcp flags & (syn|ack) != syn accept",
        f"ip daddr {host} icmp type destination-unreachable icmp code port-unreachable accept",
    ]


@pytest.mark.sandbox
@pytest.mark.skipif(os.geteuid() != 0 or not list(PARTS.glob("node-*")), reason="needs root and the built parts")
def test_a_node_reaches_one_port_and_this_machine_reaches_the_node(tmp_path):
    """The table is (what is asked): without, with, and after the filter."""
    done = subprocess.run(
        ["unshare", "--net", "--mount", sys.executable, str(PROGRAM), str(tmp_path)],
        capture_output=True, text=True, timeout=300, env={**os.environ, "PYTHONPATH": str(PROGRAM.parents[3])},
    )  # fmt: skip
    rows = dict(line.split("=") for line in done.stdout.splitlines())
    assert rows == {
        "webhook": "open open open",
        "another port": "open silent open",
        "any address": "open silent open",
        "another address": "open silent open",
        "UDP": "open silent open",
        "behind this machine": "open silent open",
        "to the node": "open open open",
        "to a port that rejects": "refused refused refused",
        "after a kill": "silent",
    }, done.stderr
