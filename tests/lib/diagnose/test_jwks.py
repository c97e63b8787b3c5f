"""The keys of a rule: what is behind its jwksUri."""

from lib.diagnose import jwks

SERVICE = {"metadata": {"name": "kubernetes", "namespace": "default"}, "spec": {"ports": [{"port": 443}]}}


class Cluster:
    """A cluster with one Service that has no selector, as `kubernetes` in `default` has none."""

    def items(self, api_version, kind, namespace=None, labels=""):
        return [SERVICE] if kind == "Service" else []


def test_a_service_without_a_selector_has_no_pods_and_that_is_said():
    rule = {"issuer": "https://i", "jwksUri": "https://kubernetes.default.svc.cluster.local/openid/v1/jwks"}
    keys = jwks.collect(Cluster(), rule, None)
    assert (keys.published, keys.endpoints) == (None, 0)
    assert keys.fetch_error == "no pod runs behind the Service kubernetes"
