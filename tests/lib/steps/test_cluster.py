"""Step 01 as a whole, on EKS as the sandbox has it."""

import pytest

from lib import params
from lib.aws import kubeconfig
from lib.steps import cluster
from tests.support import whole_eks

ENV = "of-step-01s-tests"


@pytest.fixture
def session():
    with whole_eks.account() as account:
        yield account
    (params.ROOT / ".kube" / ENV).unlink(missing_ok=True)


def test_a_cluster_that_was_looked_at_before_its_kubeconfig_is_not_kept(session):
    run = whole_eks.step(session, ENV)
    run.params.kubeconfig.parent.mkdir(exist_ok=True)
    kubeconfig.write_kubeconfig(
        run.params.kubeconfig, "demo", "https://gone:6443", "Q0E=", python="python", root=params.ROOT, region="x"
    )
    assert run.cluster.host == "https://gone:6443"
    cluster.ensure(run)
    cluster.ensure_kubeconfig(run)
    assert run.cluster.host == whole_eks.Node.endpoint
