"""Clusters with fake nodes: every node ends with the sandbox, whatever the other nodes do."""

from types import SimpleNamespace

import pytest

from lib.polling import until
from sandbox.eks.clusters import POD_SECURITY_TAG, Clusters

OIDC = {"oidc": {"issuer": "https://oidc.eks.us-east-1.amazonaws.com/id/A"}}


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

    def make_node(name, *_):
        nodes[name] = FakeNode(name)
        return nodes[name]

    clusters = Clusters(make_node, "1.36", "us-east-1", set(), lambda *_: None, lambda *_: None, lines.append)
    started = [
        SimpleNamespace(name=name, status="CREATING", access=SimpleNamespace(allows=None), tags={}, identity=OIDC)
        for name in ("bad", "good")
    ]
    for cluster in started:
        clusters.start(cluster)
    assert until(lambda: [cluster.status for cluster in started] == ["ACTIVE"] * 2, deadline=5, pause=0.01).held
    clusters.stop()
    assert nodes["good"].stopped and "cluster bad: expected the link to go" in lines


@pytest.mark.parametrize(("tags", "level"), [({}, "privileged"), ({POD_SECURITY_TAG: "baseline"}, "baseline")])
def test_a_tag_sets_the_pod_security_of_a_cluster(world, tags, level):
    assert world.active(tags=tags).pod_security == level


def test_an_unknown_pod_security_fails_with_a_sentence(world):
    world.cluster(tags={POD_SECURITY_TAG: "Baseline"})
    found = lambda: world.client("eks").describe_cluster(name="runbook")["cluster"]  # noqa: E731
    assert until(lambda: found()["status"] == "FAILED", deadline=5, pause=0.01).held
    assert "among privileged, baseline, restricted, got 'Baseline'" in found()["health"]["issues"][0]["message"]
