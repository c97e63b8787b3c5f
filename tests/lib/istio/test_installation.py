"""What is read from the live gateway, from an injection that is only tried, and from a policy before it is applied."""

import pytest

from lib.errors import ClusterError
from lib.istio import installation, policies
from lib.kubernetes import manifests
from lib.params import ROOT

ISSUER = "http://sso.example/realms/istio"


class Cluster:
    """A cluster with a gateway's Service and one pod; what it injects is given."""

    def __init__(self, selector=None, worn=None, account="gw", injected=()):
        self.selector, self.worn, self.account, self.injected, self.asked = selector, worn, account, injected, []

    def get(self, *_):
        return {"spec": {"selector": self.selector}}

    def pod(self, labels, namespace):
        self.asked.append((labels, namespace))
        return {"metadata": {"labels": self.worn}, "spec": {"serviceAccountName": self.account}}

    def dry_run(self, thing):
        if isinstance(self.injected, Exception):
            raise self.injected
        return {"spec": {"containers": [], "initContainers": [{"name": name} for name in self.injected]}}


def test_the_gateway_is_the_pod_that_its_service_leads_to():
    cluster = Cluster(
        {"app": "in", "istio": "ingress"}, {"app": "in", "istio": "ingress", "more": "x"}, "istio-ingress"
    )
    found = installation.ingress(cluster)
    assert found == {"namespace": "istio-system", "account": "istio-ingress", "labels": {"istio": "ingress"}}
    assert cluster.asked == [("app=in,istio=ingress", "istio-system")]
    assert installation.ingress(Cluster({"app": "in"}, {"app": "in"}))["labels"] == {"app": "in"}


def test_a_sidecar_is_asked_for_and_nothing_is_kept():
    assert installation.injects_sidecar(
        Cluster(injected=["istio-init", "istio-proxy"])
    ) and not installation.injects_sidecar(Cluster())
    with pytest.raises(ClusterError, match="15017"):
        installation.injects_sidecar(
            Cluster(injected=ClusterError("failed calling webhook: dial tcp 10.0.0.1:15017: i/o timeout"))
        )


@pytest.mark.parametrize(
    ("rule", "found"),
    [
        ({"jwksUri": "http://keycloak-http.keycloak.svc.cluster.local/certs"}, []),
        ({"jwksUri": "http://sso.example/certs"}, [ISSUER]),
        ({}, [ISSUER]),
        ({"jwks": "{}"}, []),
    ],
)
def test_keys_fetched_by_the_issuers_public_address(rule, found):
    thing = {"kind": "RequestAuthentication", "spec": {"jwtRules": [{"issuer": ISSUER, **rule}]}}
    assert policies.hairpins([thing, {"kind": "AuthorizationPolicy"}]) == found


def test_the_runbooks_own_policy_does_not():
    file = ROOT / "notebooks/manifests/request-authentication.yaml"
    inside = "http://keycloak-http.keycloak.svc.cluster.local/certs"
    names = {"name": "httpbin", "namespace": "foo", "issuer": ISSUER, "jwks_uri": inside, "client_id": "istio"}
    assert policies.hairpins(manifests.load(file, **names)) == []
