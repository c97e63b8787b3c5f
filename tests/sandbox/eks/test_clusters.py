"""Clusters with fake nodes: every node ends with the sandbox, whatever the other nodes do."""

from types import SimpleNamespace

from lib.polling import until
from sandbox.eks.clusters import Clusters


class FakeNode:
    endpoint, ca_pem, stopped = "https://198.18.0.10:6443", b"CA", False

    def __init__(self, name):
        self.name = name

    def start_control_plane(self):
        """Is ready at once."""

    def stop(self):
        if self.name == "bad":
            raise RuntimeError("expected the link to go")
        self.stopped = True


def test_closing_the_sandbox_stops_every_node():
    nodes, lines = {}, []

    def make_node(name, version, authenticate, authorize):
        nodes[name] = FakeNode(name)
        return nodes[name]

    clusters = Clusters(make_node, "1.36", "us-east-1", set(), lambda *_: None, lines.append)
    started = [
        SimpleNamespace(name=name, status="CREATING", access=SimpleNamespace(allows=None)) for name in ("bad", "good")
    ]
    for cluster in started:
        clusters.start(cluster)
    assert until(lambda: [cluster.status for cluster in started] == ["ACTIVE"] * 2, deadline=5, pause=0.01).held
    clusters.stop()
    assert nodes["good"].stopped and "cluster bad: expected the link to go" in lines
