"""A node port is open while its requests are sent, and a cluster that has none for us is no red row."""

import pytest

from lib.errors import ClusterError
from lib.probes.scenarios import ways_in
from lib.probes.scenarios.requests import Context
from lib.probes.tokens.kit import Missing
from tests.support.little_cluster import Served
from tests.support.loopback import heard, reset, served

READY = {"conditions": [{"type": "Ready", "status": "True"}]}
SERVICE = "Service", "foo", "way-in-figure-2"


def node(*addresses, name="n", ready=True):
    status = READY if ready else {}
    about = [{"type": kind, "address": address} for kind, address in addresses]
    return {"kind": "Node", "metadata": {"name": name}, "status": {**status, "addresses": about}}


class Nodes(Served):
    """A cluster whose node ports are ports of loopback."""

    def __init__(self, address="127.0.0.1:9", refusal=None, *nodes):
        super().__init__()
        host, _, self.port = address.rpartition(":")
        self.refusal, self.services = refusal, []
        for one in nodes or [node(("InternalIP", host))]:
            self.kept["Node", None, one["metadata"]["name"]] = one

    def apply(self, thing):
        if self.refusal:
            raise self.refusal
        self.services.append(thing)
        ports = [{**one, "nodePort": int(self.port)} for one in thing["spec"]["ports"]]
        return super().apply({**thing, "spec": {**thing["spec"], "ports": ports}})


def asked(cluster, tokens=("", "good"), patience=0.3):
    context = Context("gateway:443", "httpbin.example", None, "{}.t.s".format, "figure-2-G28a", "figure-2")
    return ways_in.asked(cluster, context, "app=httpbin,tier=web", "foo", tokens, patience)


def answering(connection):
    if "Bearer good.t.s" in (text := heard(connection).decode()) and "Host: httpbin.example" in text:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
    elif text:
        connection.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 19\r\n\r\nRBAC: access denied")


def test_each_token_is_asked_at_the_nodes_port_and_the_service_is_gone_then():
    with served(answering) as address:
        cluster = Nodes(address)
        assert asked(cluster) == ["403 R", "200 app"]
    (service,) = cluster.services
    assert service["spec"]["type"] == "NodePort" and service["metadata"] == {"name": SERVICE[2], "namespace": "foo"}
    assert service["spec"]["selector"] == {"app": "httpbin", "tier": "web"} and SERVICE not in cluster.kept


def test_a_sidecar_that_demands_mutual_tls_resets():
    with served(lambda connection: heard(connection) and reset(connection)) as address:
        assert asked(Nodes(address), tokens=("",)) == ["0 reset"]


@pytest.mark.parametrize(
    ("cluster", "reason"),
    [
        (Nodes(), "nothing answers at the node port 127.0.0.1:9"),
        (Nodes("127.0.0.1:9", ClusterError("exceeded quota", 403)), "refuses a Service with a node port: exceeded"),
        (Nodes("127.0.0.1:9", None, node(("InternalIP", "127.0.0.1"), ready=False)), "no node is ready"),
        (Nodes("127.0.0.1:9", None, node(("Hostname", "n"))), "no node is ready and has an address"),
    ],
)
def test_a_cluster_without_such_a_way_is_a_reason_to_skip(cluster, reason):
    with pytest.raises(Missing, match=reason):
        asked(cluster)
    assert SERVICE not in cluster.kept


def test_another_error_of_the_api_server_is_no_reason_to_skip():
    with pytest.raises(ClusterError, match="503"):
        asked(Nodes("127.0.0.1:9", ClusterError("503", 503)))


def test_the_service_goes_even_if_a_request_fails():
    cluster = Nodes()
    with pytest.raises(OSError), ways_in.node_port(cluster, "way-in-figure-2", "app=httpbin", "foo") as address:
        assert address == "127.0.0.1:9" and SERVICE in cluster.kept
        raise OSError
    assert SERVICE not in cluster.kept


def test_an_external_address_wins_and_ipv6_is_in_brackets():
    both = node(("InternalIP", "10.0.0.9"), ("ExternalIP", "2001:db8::9"))
    with ways_in.node_port(Nodes("x:30000", None, both), "one", "app=httpbin", "foo") as address:
        assert address == "[2001:db8::9]:30000"
