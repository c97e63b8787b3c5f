"""Step 01 as a whole, on EKS as the sandbox has it."""

import pytest
import whole_eks

from lib import aws, clusters, kubeconfig, params
from lib.record import Record
from lib.run import Run

ENV = "of-step-01s-tests"
IMAGES = {key: "x" for key in ("keycloak_image", "postgres_image", "httpbin_image", "sleep_image")}


@pytest.fixture
def session():
    with whole_eks.account() as made:
        yield made
    (params.ROOT / ".kube" / ENV).unlink(missing_ok=True)


def step(session, **changed):
    values = {
        "env": ENV,
        "cluster_source": "eks",
        "public_access_cidrs": ["203.0.113.7/32"],
        "cluster_name": "demo",
        "istio_tag": "1",
        "deadline": 5,
        **IMAGES,
    }
    run = Run("01-cluster", params.Params(**{**values, **changed}), Record())
    run.aws = lambda name: aws.client(session, name)
    return run


def test_a_cluster_that_was_looked_at_before_its_kubeconfig_is_not_kept(session):
    run = step(session)
    run.params.kubeconfig.parent.mkdir(exist_ok=True)
    kubeconfig.write_kubeconfig(
        run.params.kubeconfig, "demo", "https://gone:6443", "Q0E=", python="python", root=params.ROOT, region="x"
    )
    assert run.cluster.host == "https://gone:6443"
    clusters.ensure(run)
    clusters.ensure_kubeconfig(run)
    assert run.cluster.host == whole_eks.Node.endpoint
