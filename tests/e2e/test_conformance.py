"""Three tests of the Gateway API's own conformance suite, about certificates and grants, by `make conformance`."""

from __future__ import annotations

import pytest

from lib.istio.gateway_api import API
from lib.kubernetes.cluster import Cluster
from lib.params import ROOT
from lib.polling import until
from tests.support.runbook import python

pytestmark = pytest.mark.sandbox
TESTS = (
    "HTTPRouteHTTPSListener",  # the certificate of each host, and no answer for another host
    "HTTPRouteReferenceGrant",  # a backend in another namespace, with a grant, and no longer without it
    "GatewaySecretMissingReferenceGrant",  # a certificate in another namespace is refused without a grant
)
KINDS = (("v1", "Namespace"), ("v1", "PersistentVolume"), (API, "GatewayClass"), (API, "Gateway"), (API, "HTTPRoute"))
KINDS += ((API, "ReferenceGrant"), ("rbac.authorization.k8s.io/v1", "ClusterRole"))


def test_the_suite_s_tests_of_certificates_and_grants_pass_and_leave_nothing(first):
    cluster = Cluster.from_kubeconfig(ROOT / ".kube" / "dev")
    before = standing(cluster)
    done = python("-m", "sandbox", "conformance", "--test", "|".join(TESTS))
    assert done.returncode == 0
    assert not [name for name in TESTS if f"--- PASS: TestConformance/{name} " not in done.stdout]
    left = until(lambda: standing(cluster) - before, lambda found: not found, deadline=60)
    assert left.held, left.value


def standing(cluster: Cluster) -> set[tuple[str, str, str]]:
    """Return kind, namespace and name of all objects that the suite makes kinds of."""
    found = ((kind, one["metadata"]) for version, kind in KINDS for one in cluster.items(version, kind))
    return {(kind, about.get("namespace", ""), about["name"]) for kind, about in found}
