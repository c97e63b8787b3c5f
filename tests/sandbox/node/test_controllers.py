"""The controllers that EKS adds to Kubernetes."""

from types import SimpleNamespace

from lib.errors import ClusterError
from sandbox.node.controllers import attempt


def test_an_object_that_the_api_server_refuses_does_not_end_a_controller():
    lines, claim = [], SimpleNamespace(metadata=SimpleNamespace(name="claim"))

    def refused(object_):
        raise ClusterError("422")

    attempt(refused, claim, lines.append)
    assert lines == ["controllers: claim is left as it is: ClusterError"]
