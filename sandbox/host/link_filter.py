"""A packet filter on a node's link: which ports of this machine and of the other nodes the node and its pods reach.

The rules belong to a process and end with it (nftables' `flags owner`). They see each packet as it comes from the link,
before this machine's own rules, so it changes nothing if another program turns on ip_forward. What may pass to another
node goes from link to link (nftables' `fwd`), so it needs no ip_forward and no rule of another program.
"""

from __future__ import annotations

import contextlib
import subprocess
import threading
from collections.abc import Iterable
from typing import ClassVar

from lib.polling import wait
from sandbox.host import processes, veth
from sandbox.host.veth import Link

UNREACHABLE = "icmp type destination-unreachable icmp code port-unreachable"
ANSWERS = "tcp flags & (syn|ack) != syn"  # a SYN without an ACK opens a TCP connection: RFC 9293, section 3.5
API_SERVER, WEB = 6443, "{ 80, 443 }"  # the ports of another node, and of its load balancers
LOADED = 20  # seconds; nft needs some milliseconds on an idle machine


def rules(link: Link, ports: Iterable[int], others: Iterable[Link]) -> str:
    """Return nftables' commands, a line: the filter of a link, in place of the one that it has.

    The node may open connections to `ports` of the link's host address, to the API servers of the other links' nodes,
    and to the web ports of their load balancers, and it may answer. A Service without a ready pod answers "port
    unreachable". A load balancer may answer over QUIC: by UDP from port 443, to a port that sent it a packet within the
    last minute. All else is dropped: other addresses and ports, ARP for them, other UDP, IPv6, packets to forward.
    """
    chain, opened = f"netdev {link.name} in", ", ".join(map(str, ports))
    asking, own = f"netdev {link.name} out", f"{link.load_balancers[0]}-{link.load_balancers[-1]}"
    lines = [
        f"add table netdev {link.name} {{ flags owner; }}",
        f"add set netdev {link.name} asked {{ type ipv4_addr . inet_service; flags dynamic,timeout; timeout 1m; }}",
        f"add chain {asking} {{ type filter hook egress device {link.name} priority 0; policy accept; }}",
        f"flush chain {asking}",
        f"add rule {asking} ip daddr {own} udp dport 443 update @asked {{ ip daddr . udp sport }}",
        f"add chain {chain} {{ type filter hook ingress device {link.name} priority 0; policy drop; }}",
        f"flush chain {chain}",
        f"add rule {chain} arp daddr ip {link.host} accept",
        f"add rule {chain} ip daddr {link.host} tcp dport {{ {opened} }} accept",
        f"add rule {chain} ip daddr {link.host} {ANSWERS} accept",
        f"add rule {chain} ip daddr {link.host} udp sport 443 ip saddr . udp dport @asked accept",
        f"add rule {chain} ip daddr {link.host} {UNREACHABLE} accept",
    ]
    for other in others:
        balancers = f"{other.load_balancers[0]}-{other.load_balancers[-1]}"
        lines += [
            f"add rule {chain} ip saddr {link.network} ip daddr {where} fwd ip to {other.node} device {other.name}"
            for where in (
                f"{other.node} tcp dport {API_SERVER}",
                f"{balancers} tcp dport {WEB}",
                f"{other.node} {ANSWERS}",
                f"{other.node} {UNREACHABLE}",
            )
        ]
    return "; ".join(lines) + "\n"


class LinkFilter:
    """The filter of one link, while the process runs that holds it. If another ends the process, the link goes down.

    The links that have a filter are open to each other, as `rules` says.

    Args:
        link: an existing link.
        ports: the ports of this machine that the node reaches.
        enter: the words before a program of the node's root file system that runs in this machine's network.
    """

    _all: ClassVar[list[LinkFilter]] = []  # those of this process
    _lock = threading.Lock()

    def __init__(self, link: Link, ports: Iterable[int], enter: list[str]) -> None:
        self.link, self.ports, self._closed = link, tuple(ports), False
        self._list = [*enter, "nft", "list", "chain", "netdev", link.name, "in"]
        self.process = subprocess.Popen(
            [*enter, "nft", "--interactive"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            text=True,
            preexec_fn=processes.end_with_parent,
        )
        with self._lock:
            self._all.append(self)
            self._write_all()
        fix = "the kernel needs nf_tables with NETFILTER_INGRESS and NETFILTER_EGRESS, as Debian's has them"
        wait("the filter on the link", self._loaded, deadline=LOADED, pause=0.05, fix=fix)
        threading.Thread(target=self._guard, daemon=True).start()

    def close(self) -> None:
        """End the process, and the filter with it."""
        self._closed = True
        self.process.kill()
        self.process.wait()
        with self._lock:
            self._all.remove(self)
            self._write_all()

    @classmethod
    def _write_all(cls) -> None:
        for one in cls._all:
            others = [other.link for other in cls._all if other is not one]
            assert one.process.stdin
            with contextlib.suppress(BrokenPipeError):  # its process was killed, and its link is down
                one.process.stdin.write(rules(one.link, one.ports, others))
                one.process.stdin.flush()

    def _guard(self) -> None:
        self.process.wait()
        if not self._closed:
            veth.down(self.link.name)

    def _loaded(self) -> bool:
        return "port-unreachable" in subprocess.run(self._list, capture_output=True, text=True).stdout
