"""In a pod without a kubeconfig the cluster is the pod's own; a kubeconfig that is there wins, as for kubectl."""

import pytest

from lib.errors import ClusterError
from lib.kubernetes import service_account
from lib.kubernetes.cluster import Cluster
from lib.runner import environment, lock

POD = {"KUBERNETES_SERVICE_HOST": "10.100.0.1", "KUBERNETES_SERVICE_PORT": "443"}


@pytest.fixture
def pod(tmp_path, monkeypatch):
    """The variables of a pod without a kubeconfig, and without a token: this machine is none."""
    for name, value in {**POD, "HOME": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("KUBECONFIG", raising=False)
    return tmp_path


def test_the_service_account_is_used_in_a_pod_without_a_kubeconfig(pod):
    assert service_account.is_used(POD)
    assert not service_account.is_used({}) and not service_account.is_used({**POD, "KUBECONFIG": "mine"})
    (pod / ".kube").mkdir()
    (pod / ".kube" / "config").touch()
    assert not service_account.is_used(POD)


def test_a_pod_without_a_token_learns_how_to_get_one(pod):
    with pytest.raises(ClusterError, match="No service account in this pod: .*automountServiceAccountToken: true"):
        Cluster.existing()


def test_a_named_context_is_a_kubeconfigs_in_a_pod_too(pod):
    with pytest.raises(ClusterError, match="No context mine in the default kubeconfig"):
        Cluster.existing("mine")
    assert lock.identities({"cluster_source": "existing", "kube_context": "mine"}) == ["Kubernetes at mine"]


def test_the_image_states_its_commit_where_git_does_not(tmp_path):
    assert environment.commit(tmp_path, {}) == environment.commit(tmp_path, {"RUNBOOK_COMMIT": ""}) == ("", True)
    assert environment.commit(tmp_path, {"RUNBOOK_COMMIT": "a" * 40}) == ("a" * 40, False)
    assert environment.commit(environment.Path(__file__).parent, {"RUNBOOK_COMMIT": "a" * 40})[0] != "a" * 40
