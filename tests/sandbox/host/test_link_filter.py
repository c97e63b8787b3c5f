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


def test_the_rules_drop_all_but_the_named_ports_and_answers():
    own, other = Link(0), Link(1)
    chain = f"netdev {own.name} in"
    head, *rules = link_filter.rules(own, (8443, 4599), [other]).rstrip().split(f"; add rule {chain} ")
    assert "flags owner" in head and "policy drop" in head and head.endswith(f"; flush chain {chain}")
    of_own = f"{own.load_balancers[0]}-{own.load_balancers[-1]}"
    assert f"netdev {own.name} out ip daddr {of_own} udp dport 443 update @asked {{ ip daddr . udp sport }}; " in head
    unreachable = "icmp type destination-unreachable icmp code port-unreachable"
    there = f"fwd ip to {other.node} device {other.name}"
    balancers = f"{other.load_balancers[0]}-{other.load_balancers[-1]}"
    assert rules == [
        f"arp daddr ip {own.host} accept",
        f"ip daddr {own.host} tcp dport {{ 8443, 4599 }} accept",
        f"ip daddr {own.host} tcp flags & (syn|ack) != syn accept",
        f"ip daddr {own.host} udp sport 443 ip saddr . udp dport @asked accept",
        f"ip daddr {own.host} {unreachable} accept",
        f"ip saddr {own.network} ip daddr {other.node} tcp dport 6443 {there}",
        f"ip saddr {own.network} ip daddr {balancers} tcp dport {{ 80, 443 }} {there}",
        f"ip saddr {own.network} ip daddr {other.node} tcp flags & (syn|ack) != syn {there}",
        f"ip saddr {own.network} ip daddr {other.node} {unreachable} {there}",
    ]


@pytest.mark.sandbox
@pytest.mark.skipif(os.geteuid() != 0 or not list(PARTS.glob("node-*")), reason="needs root and the built parts")
def test_a_node_reaches_what_the_filter_names_and_this_machine_reaches_the_node(tmp_path):
    """The table is (what is asked): without, with, and after the filters of both links."""
    done = subprocess.run(
        ["unshare", "--net", "--mount", sys.executable, str(PROGRAM), str(tmp_path)],
        capture_output=True, text=True, timeout=300, env={**os.environ, "PYTHONPATH": str(PROGRAM.parents[3])},
    )  # fmt: skip
    rows = dict(line.split("=") for line in done.stdout.splitlines())
    assert rows == {
        "webhook": "open open open",
        "AWS endpoint": "open open open",
        "another port": "open silent open",
        "any address": "open silent open",
        "another address": "open silent open",
        "UDP": "open silent open",
        "UDP that nobody asked for": "open silent open",
        "QUIC of a gateway": "open open open",
        "UDP of another port of a gateway": "open silent open",
        "behind this machine": "open silent open",
        "to the node": "open open open",
        "to a port that rejects": "refused refused refused",
        "the other API server": "open open open",
        "the other kubelet": "open silent open",
        "the other's gateway": "open open open",
        "the other's gateway without a pod": "refused refused refused",
        "the other's gateway, a port of the node": "open silent open",
        "the other's webhook": "open silent open",
        "after a kill": "silent",
    }, done.stderr
