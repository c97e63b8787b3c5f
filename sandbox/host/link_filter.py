"""A packet filter on a node's link: the node and its pods reach one port of this machine, and nothing behind it.

The rules belong to a process and end with it (nftables' `flags owner`). They see each packet as it comes from the link,
before this machine's own rules, so it changes nothing if another program turns on ip_forward.
"""

from __future__ import annotations

import subprocess
import threading

from lib.polling import wait
from sandbox.host import processes, veth
from sandbox.host.veth import Link

UNREACHABLE = "icmp type destination-unreachable icmp code port-unreachable"
LOADED = 20  # seconds; nft needs some milliseconds on an idle machine


def rules(link: Link, port: int) -> str:
    """Return nftables' commands: the node may open connections to `port` of the link's host address, and answer.

    A SYN without an ACK opens a TCP connection (RFC 9293, section 3.5). A Service without a ready pod answers "port
    unreachable". All else is dropped: other addresses and ports of this machine, ARP for them, UDP, IPv6, packets to
    forward.
    """
    chain = f"netdev {link.name} in"
    return "\n".join(
        [
            f"add table netdev {link.name} {{ flags owner; }}",
            f"add chain {chain} {{ type filter hook ingress device {link.name} priority 0; policy drop; }}",
            f"add rule {chain} arp daddr ip {link.host} accept",
            f"add rule {chain} ip daddr {link.host} tcp dport {port} accept",
            f"add rule {chain} ip daddr {link.host} tcp flags & (syn|ack) != syn accept",
            f"add rule {chain} ip daddr {link.host} {UNREACHABLE} accept",
            "",
        ]
    )


class LinkFilter:
    """The filter of one link, while the process runs that holds it. If another ends the process, the link goes down.

    Args:
        link: an existing link.
        port: the one port that the node reaches.
        enter: the words before a program of the node's root file system that runs in this machine's network.
    """

    def __init__(self, link: Link, port: int, enter: list[str]) -> None:
        self.link, self._closed = link, False
        self._list = [*enter, "nft", "list", "chain", "netdev", link.name, "in"]
        self.process = subprocess.Popen(
            [*enter, "nft", "--interactive"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            text=True,
            preexec_fn=processes.end_with_parent,
        )
        assert self.process.stdin
        self.process.stdin.write(rules(link, port))
        self.process.stdin.flush()
        fix = "the kernel needs nf_tables with NETFILTER_INGRESS, as Debian's has it"
        wait("the filter on the link", self._loaded, deadline=LOADED, pause=0.05, fix=fix)
        threading.Thread(target=self._guard, daemon=True).start()

    def close(self) -> None:
        """End the process, and the filter with it."""
        self._closed = True
        self.process.kill()
        self.process.wait()

    def _guard(self) -> None:
        self.process.wait()
        if not self._closed:
            veth.down(self.link.name)

    def _loaded(self) -> bool:
        return "port-unreachable" in subprocess.run(self._list, capture_output=True, text=True).stdout
