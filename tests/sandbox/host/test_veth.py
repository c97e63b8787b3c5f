"""The link to a node: its addresses, each link in a network of its own."""

import ipaddress
import shutil

import pytest

from sandbox.host.veth import POOL, Link, taken
from sandbox.paths import DEFAULT_HOME, LINKS, TAG, tag

POOL_OF_ALL = ipaddress.ip_network(LINKS)
needs_ip = pytest.mark.skipif(not shutil.which("ip"), reason="needs ip (Debian package iproute2)")


@pytest.mark.parametrize("number", [0, 1])
def test_addresses_of_a_link(number):
    link, first = Link(number), POOL_OF_ALL[0] + 256 * number
    assert link.name == f"eks{TAG}{number}"
    assert link.network == ipaddress.ip_network(f"{first}/24")
    assert (link.host, link.node) == (str(first + 1), str(first + 10))
    assert link.load_balancers == [str(first + last) for last in range(101, 151)]


@pytest.mark.parametrize("number", [0, 1, 7])
def test_all_addresses_are_in_the_links_network_and_differ(number):
    link = Link(number)
    used = [ipaddress.ip_address(one) for one in (link.host, link.node, *link.load_balancers)]
    assert link.network.subnet_of(POOL_OF_ALL) and set(used) < set(link.network.hosts())
    assert len(set(used)) == len(used) == len(POOL) + 2


def test_links_do_not_overlap():
    assert not Link(0).network.overlaps(Link(1).network)


def test_the_default_network_is_not_on_the_internet():
    assert POOL_OF_ALL.is_private


def test_a_link_beyond_the_last_is_refused():
    with pytest.raises(IndexError):
        _ = Link(2 ** (24 - POOL_OF_ALL.prefixlen)).network


@needs_ip
def test_a_free_network_is_not_in_use():
    assert taken(ipaddress.ip_network("203.0.113.0/24")) == ""  # RFC 5737: for documents only


@needs_ip
@pytest.mark.parametrize("network", ["127.0.0.0/8", "127.0.0.0/24", "127.4.5.0/24"])
def test_loopback_is_in_use_for_every_prefix_length(network):
    assert taken(ipaddress.ip_network(network)) == "lo"


def test_a_second_sandbox_of_the_machine_has_links_of_its_own():
    assert tag(DEFAULT_HOME) == ""
    other = tag(DEFAULT_HOME.parent / "other")
    assert other.isalpha() and len(f"eks{other}255") <= 15  # IFNAMSIZ of linux/if.h, without the final zero
