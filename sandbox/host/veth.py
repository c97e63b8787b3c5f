"""The link between this machine and a node: a veth pair in a private subnet, from which no route leads further."""

from __future__ import annotations

import ipaddress
import json
import subprocess
from dataclasses import dataclass

from sandbox.paths import LINKS, TAG

PREFIX = f"eks{TAG}"  # of the interfaces' names on this machine
POOL = range(101, 151)  # the last number of a load balancer's address; a run of the notebooks needs fewer than 10


@dataclass(frozen=True)
class Link:
    """The addresses of one node's link."""

    number: int

    @property
    def network(self) -> ipaddress.IPv4Network:
        """The link's /24."""
        return list(ipaddress.IPv4Network(LINKS).subnets(new_prefix=24))[self.number]

    @property
    def name(self) -> str:
        """The interface's name on this machine."""
        return f"{PREFIX}{self.number}"

    @property
    def host(self) -> str:
        """This machine's address."""
        return str(self.network[1])

    @property
    def node(self) -> str:
        """The node's address."""
        return str(self.network[10])

    @property
    def load_balancers(self) -> list[str]:
        """The addresses that Services of type LoadBalancer get, in order."""
        return [str(self.network[last]) for last in POOL]


def up(link: Link, pid: int, enter: list[str]) -> None:
    """Make the veth pair to the namespaces of `pid`; `enter` is the command that runs programs there."""
    length = link.network.prefixlen
    _ip("link", "add", link.name, "type", "veth", "peer", "name", "eth0", "netns", str(pid))
    _ip("addr", "add", f"{link.host}/{length}", "dev", link.name)
    _ip("link", "set", link.name, "up")
    batch = [
        f"addr add {link.node}/{length} dev eth0",
        *(f"addr add {address}/32 dev eth0" for address in link.load_balancers),
    ]
    batch += ["link set eth0 up", "route add default dev eth0"]  # no gateway: only what is on the link answers
    batch += [f"route append {LINKS} via {link.host}"]  # the other links: link_filter.py decides what passes
    subprocess.run([*enter, "ip", "-batch", "-"], input="\n".join(batch), text=True, check=True, capture_output=True)


def taken(network: ipaddress.IPv4Network) -> str:
    """Return the interface that already has an address or route in `network`, or ""."""
    for route in json.loads(_ip("-j", "-4", "route", "show", "table", "all")):
        if route["dst"] == "default" or route.get("type") in ("broadcast", "multicast"):
            continue
        if ipaddress.ip_network(route["dst"], strict=False).overlaps(network):
            return route.get("dev", "?")
    return ""


def leftovers() -> list[str]:
    """Return the sandbox's links that exist on this machine."""
    return [link["ifname"] for link in json.loads(_ip("-j", "link", "show", "type", "veth")) if _ours(link["ifname"])]


def down(name: str) -> None:
    """Let nothing pass a link any more."""
    subprocess.run(["ip", "link", "set", name, "down"], check=False, capture_output=True)


def remove(name: str) -> None:
    """Delete a link; both ends go."""
    subprocess.run(["ip", "link", "delete", name], check=False, capture_output=True)


def _ours(name: str) -> bool:
    return name.startswith(PREFIX) and name.removeprefix(PREFIX).isdigit()


def _ip(*words: str) -> str:
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True).stdout or "[]"
