"""Examples for the evaluator, from Istio's source; tests/e2e/test_evaluator.py is its law against the real Envoy."""

import pytest

from lib.istio.attributes import Call
from lib.istio.evaluator import decide
from lib.istio.mesh import Mesh

OWN = "cluster.local/ns/shop/sa/web"
BY_PORT = {"when": [{"key": "destination.port", "values": ["9000"]}]}


def policy(action, rule):
    spec = {"action": action, "rules": [{**BY_PORT, **rule}]}
    return {"kind": "AuthorizationPolicy", "metadata": {"name": "p", "namespace": "shop"}, "spec": spec}


@pytest.mark.parametrize("rule", [
    {"from": [{"source": {"principals": [OWN]}}, {"source": {"requestPrincipals": ["*"]}}]},
    {"to": [{"operation": {"ports": ["9000"]}}, {"operation": {"paths": ["/a"]}}]},
])  # fmt: skip
def test_on_a_tcp_port_one_http_field_removes_an_allow_rule_and_widens_a_deny_rule(rule):
    everyone = policy("ALLOW", {})
    call = Call(principal=OWN, port="9000", tcp=True)
    assert decide([everyone], call).allowed
    assert decide([policy("ALLOW", rule)], call).allowed is False
    assert decide([everyone, policy("DENY", rule)], call).allowed is False


@pytest.mark.parametrize(("source", "allowed"), [
    ({"principals": ["old.example/ns/shop/sa/web"]}, True),
    ({"principals": ["*.example/ns/shop/sa/web"]}, True),
    ({"principals": ["old.example/*"]}, False),  # no whole principal, so istiod leaves it as it is
    ({"principals": ["other.test/ns/shop/sa/web"]}, False),
    ({"trustDomains": ["old.example"]}, True),
    ({"trustDomains": ["*.example"]}, False),
])  # fmt: skip
def test_an_alias_counts_as_the_meshs_own_trust_domain(source, allowed):
    made = policy("ALLOW", {"from": [{"source": source}]})
    call = Call(principal=OWN, port="9000")
    assert decide([made], call, Mesh(aliases=("old.example",))).allowed is allowed
    assert decide([made], call).allowed is False


@pytest.mark.parametrize(("source", "allowed"), [
    ({"requestPrincipals": ["*"]}, True),  # the authorizer is never asked: no token is read when its rules are compared
    ({"notRequestPrincipals": ["*"]}, False),
])  # fmt: skip
def test_the_rules_of_a_custom_policy_see_no_token(source, allowed):
    made = policy("CUSTOM", {"from": [{"source": source}]})  # its provider is unknown to the mesh, which denies all
    call = Call(principal=OWN, port="9000", claims={"iss": "https://one.example", "sub": "alice"})
    assert decide([policy("ALLOW", {}), made], call).allowed is allowed
