"""Examples for the evaluator, from Istio's source; tests/e2e/test_evaluator.py is its law against the real Envoy."""

from dataclasses import replace

import pytest

from lib.istio.attributes import Call
from lib.istio.evaluator import decide
from lib.istio.mesh import Mesh, Provider, of_config
from lib.istio.policies import DRY_RUN, peer

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


def test_the_rules_of_a_custom_policy_see_no_header_that_the_jwt_filter_wrote():
    made = policy("CUSTOM", {"when": [{"key": "request.headers[x-user]", "values": ["*"]}]})
    call = Call(principal=OWN, port="9000", headers={"x-user": "alice"})
    assert decide([policy("ALLOW", {}), made], call).allowed is False
    assert decide([policy("ALLOW", {}), made], replace(call, unread={})).allowed is True


HTTP_ONLY = Mesh(providers={"p": Provider("p.shop", grpc=False)})
GONE = Mesh(providers={"p": Provider("p.shop", missing=True)})
BOTH = Mesh(providers={"p": Provider("p.shop"), "q": Provider("q.shop")})


def custom(provider="p", trial=False):
    made = policy("CUSTOM", {})
    made["spec"]["provider"] = {"name": provider}
    made["metadata"]["annotations"] = {DRY_RUN: str(trial).lower()}
    return made


@pytest.mark.parametrize(("found", "mesh", "tcp", "allowed"), [
    ([custom()], BOTH, False, None),
    ([custom()], Mesh(), False, False),
    ([custom()], GONE, False, False),
    ([custom()], GONE, True, False),
    ([custom()], HTTP_ONLY, False, None),
    ([custom()], HTTP_ONLY, True, True),  # nobody asks it
    ([custom("p"), custom("q")], BOTH, False, False),
    ([custom("p"), custom("q", trial=True)], BOTH, False, False),  # a trial counts among the providers
    ([custom(trial=True)], BOTH, False, False),  # Istio enforces the rules of such a trial
    ([custom(trial=True)], GONE, False, True),
])  # fmt: skip
def test_what_istio_does_about_an_external_authorizer(found, mesh, tcp, allowed):
    assert decide(found, Call(principal=OWN, port="9000", tcp=tcp), mesh).allowed is allowed


def test_the_mesh_knows_which_authorizers_have_a_service():
    config = {"extensionProviders": [
        {"name": "a", "envoyExtAuthzHttp": {"service": "auth/a.auth.svc.cluster.local"}},
        {"name": "b", "envoyExtAuthzGrpc": {"service": "b.auth"}},
    ]}  # fmt: skip
    found = of_config(config, hosts={"a.auth.svc.cluster.local", "b.auth.svc.cluster.local"}).providers
    assert found["a"] == Provider("a.auth.svc.cluster.local", grpc=False)
    assert found["b"].missing  # a host that is not written in full


@pytest.mark.parametrize(("mode", "homes", "principal", "seen"), [
    ("STRICT", "UNSET", OWN, OWN), ("STRICT", "UNSET", "", None), ("PERMISSIVE", "STRICT", OWN, OWN),
    ("PERMISSIVE", "UNSET", "", ""), ("DISABLE", "STRICT", OWN, ""), ("UNSET", "STRICT", "", None),
    ("PERMISSIVE", "DISABLE", OWN, ""), ("STRICT", "DISABLE", OWN, None),  # the callers see the namespace's alone
])  # fmt: skip
def test_the_peer_that_a_workload_sees_depends_on_its_mutual_tls_mode(mode, homes, principal, seen):
    found = [
        {"kind": "PeerAuthentication", "metadata": {"name": f"p{len(labels)}", "namespace": "shop"},
         "spec": {"selector": {"matchLabels": labels}, "mtls": {"mode": stated}}}
        for labels, stated in (({"app": "web"}, mode), ({}, homes))
    ]  # fmt: skip
    assert peer(found, principal, "shop", {"app": "web"}) == seen
