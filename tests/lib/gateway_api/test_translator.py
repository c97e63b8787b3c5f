"""The translator forward: the project's own manifests in both forms, what it refuses, and the command."""

import copy

import pytest
import yaml

from lib.errors import LegacyError
from lib.gateway_api import ingress, translate
from lib.gateway_api.__main__ import main
from lib.istio import policies
from lib.istio.attributes import Call
from lib.kubernetes import manifests
from tests.support.runbook import ROOT
from tests.support.two_forms import Asked, reached

FOLDER = ROOT / "notebooks" / "manifests"
VALUES = {
    "namespace": "foo", "name": "httpbin", "hosts": '["*"]', "gateway": "foo/httpbin-gateway", "listener": "https",
    "issuer": "https://k/realms/istio", "jwks_uri": "https://k/certs", "client_id": "istio", "role": "user",
    "sleep": "cluster.local/ns/foo/sa/sleep",
}  # fmt: skip
INGRESSGATEWAY = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: istio-ingressgateway, namespace: istio-system}
spec:
  template:
    metadata: {labels: {istio: ingressgateway, app: istio-ingressgateway}}
    spec: {serviceAccountName: istio-ingressgateway-service-account}
---
apiVersion: v1
kind: Service
metadata: {name: istio-ingressgateway, namespace: istio-system, annotations: {a.aws/scheme: internal}}
spec:
  type: LoadBalancer
  loadBalancerSourceRanges: [203.0.113.0/24]
  selector: {istio: ingressgateway}
  ports: [{port: 80, targetPort: 8080}, {port: 443, targetPort: 8443}]
"""
EDGE = list(yaml.safe_load_all(INGRESSGATEWAY))
PATHS = ("/headers", "/realms/master", "/realms/master/x", "/realms/masters", "/realms/istio/x", "/realms/%6Daster",
         "/resources/a.js", "/resources", "/admin/", "/intruder", "/")  # fmt: skip
HIDDEN = "/not-public"  # the project's route to a path that Keycloak does not know: its refusal


def objects(*files, **values):
    return [one for file in files for one in manifests.load(FOLDER / file, **{**VALUES, **values})]


def made(found, **options):
    return [one.manifest for one in translate(found, **options) if one.manifest]


def ends(found, place, pods, asked):
    found = [one for one in found if one["kind"] != "Namespace"]
    got = reached(found, place, pods, Call(claims=asked.claims), asked)
    return "refused" if "refused by the route" in got or HIDDEN in got else got


SETS = {
    "httpbin": (["gateway.yaml", "route.yaml"], ["gateway-api/gateway.yaml", "gateway-api/route.yaml"], EDGE,
                ("istio-system", "httpbin-gateway"), ("istio-ingress", "httpbin-gateway"), {}),
    "keycloak": (["keycloak-edge.yaml"], ["gateway-api/keycloak-edge.yaml"], [],
                 ("keycloak-edge", "keycloak"), ("keycloak-edge", "keycloak"), {}),
    "hardened": (["hardened/gateway.yaml", "hardened/policy.yaml"], ["gateway-api/hardened/gateway.yaml"], [],
                 ("hardened", "gateway"), ("hardened", "gateway"), {"gateway": "cluster.local/ns/hardened/sa/gateway"}),
}  # fmt: skip


@pytest.mark.parametrize("name", SETS)
def test_the_projects_own_gateways_are_translated_to_the_projects_other_ones(name):
    files, others, more, mine, theirs, values = SETS[name]
    new = made(objects(*files, **values) + more)
    own = objects(*others, hosts="[]")
    labels = {policies.GATEWAY_NAME: mine[1], "istio": "any"}
    bound = [one for one in new if one["kind"] in policies.KINDS]
    for path in PATHS:
        for port in (80, 443):
            for host in ("httpbin.example", "httpbin-hardened.example"):
                for claims in ({}, {"iss": "https://k/realms/istio", "sub": "u", "typ": "Bearer", "azp": "istio",
                                    "realm_access": {"roles": ["user"]}}):  # fmt: skip
                    asked = Asked(port, host, path, claims=claims)
                    assert ends(new, mine, (mine[0], labels), asked) == ends(
                        own + bound, theirs, (mine[0], labels), asked
                    ), asked
    kinds = {one["kind"] for one in own if one["kind"] in ("Gateway", "HTTPRoute", "ReferenceGrant")}
    assert kinds <= {one["kind"] for one in new}


def test_hardened_policies_name_the_gateway_and_its_new_account():
    found = made(
        objects("hardened/gateway.yaml", "hardened/policy.yaml", gateway="cluster.local/ns/hardened/sa/gateway")
    )
    named = {one["metadata"]["name"]: one["spec"] for one in found if one["kind"] == "AuthorizationPolicy"}
    target = {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "gateway"}
    assert named["gateway-istio"]["targetRefs"] == [target] and "selector" not in named["gateway-istio"]
    sources = named["httpbin-hardened"]["rules"][0]["from"][0]["source"]
    assert sources["principals"] == ["cluster.local/ns/hardened/sa/gateway-istio"]


def test_the_load_balancers_settings_stay():
    found = made(objects("gateway.yaml") + EDGE)
    options, gateway = found[0], found[1]
    assert yaml.safe_load(options["data"]["service"]) == {"spec": {"loadBalancerSourceRanges": ["203.0.113.0/24"]}}
    infrastructure = gateway["spec"]["infrastructure"]
    assert infrastructure["annotations"] == {"a.aws/scheme": "internal"}
    assert infrastructure["parametersRef"]["name"] == options["metadata"]["name"]
    inner = copy.deepcopy(EDGE)
    inner[1]["spec"]["type"] = "ClusterIP"
    kind = made(objects("gateway.yaml") + inner)[1]["spec"]["infrastructure"]["annotations"]
    assert kind["networking.istio.io/service-type"] == "ClusterIP"  # no public address that was not there before


def policy(**spec):
    return {"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
            "metadata": {"name": "p", "namespace": "istio-system"}, "spec": spec}  # fmt: skip


AT = {"selector": {"matchLabels": {"istio": "ingressgateway"}}}
OLD = "cluster.local/ns/istio-system/sa/istio-ingressgateway-service-account"


def rule(**operation):
    return [{"to": [{"operation": operation}]}]


def virtual(*http, **more):
    spec = {"hosts": ["a.example"], "gateways": ["foo/httpbin-gateway"], "http": list(http), **more}
    return {"apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
            "metadata": {"name": "v", "namespace": "foo"}, "spec": spec}  # fmt: skip


TO = {"route": [{"destination": {"host": "web", "port": {"number": 80}}}]}
REFUSED = [
    ([policy(**AT, rules=rule(notPorts=["8443"]))], "notPorts 8443 is true at the new gateway's port"),
    ([policy(**AT, rules=rule(ports=["9"]))], "the ports 9 are not all in the gateway's Service"),
    ([policy(rules=[{"from": [{"source": {"principals": ["*-service-account"]}}]}])], "fits only one of the old and"),
    ([virtual({**TO, "match": [{"uri": {"prefix": "/a"}}]}, {**TO, "match": [{"uri": {"exact": "/a/b"}}]})],
     "rule 1 and rule 2 may both fit a request"),
    ([virtual({**TO, "match": [{"headers": {"@request.auth.claims.a": {"exact": "b"}}}]})], "a match on claims"),
    ([virtual({**TO, "fault": {}})], "the field http.0.fault does not match"),
    ([virtual({"directResponse": {"status": 200}})], "http.0.directResponse.status"),
    ([virtual({"route": [{"destination": {"host": "api.example.com"}}]})], "no Service of this cluster"),
    ([virtual({"route": [{"destination": {"host": "web"}}]})], "the port of the Service web is not known"),
    ([virtual(TO), {**virtual(TO), "metadata": {"name": "w", "namespace": "foo"}}], "both have the host a.example"),
    ([virtual(TO, gateways=["other"])], "its Gateway foo/other is not among the files"),
    ([virtual(TO, tls=[])], "the field tls does not match"),
    ([{"kind": "EnvoyFilter", "metadata": {"name": "e", "namespace": "istio-system"},
       "spec": {"configPatches": [{"match": {"portNumber": 8443}}]}}],
     "the filter names ports or routes of the old gateway"),
]  # fmt: skip


@pytest.mark.parametrize(("more", "words"), REFUSED, ids=[words[:30] for _, words in REFUSED])
def test_what_has_no_equal_is_refused(more, words):
    with pytest.raises(LegacyError) as caught:
        translate(objects("gateway.yaml") + EDGE + more)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_a_gateway_without_its_deployment_or_with_a_shared_account_is_refused():
    with pytest.raises(LegacyError, match="0 Deployments have the labels istio=ingressgateway"):
        translate(objects("gateway.yaml"))
    twin = copy.deepcopy(EDGE[0])
    twin["metadata"]["name"], twin["spec"]["template"]["metadata"]["labels"] = "job", {"app": "job"}
    with pytest.raises(LegacyError, match="is not the gateway's alone"):
        translate(
            [*objects("gateway.yaml"), *EDGE, twin, policy(rules=[{"from": [{"source": {"principals": [OLD]}}]}])]
        )


def test_an_account_that_keeps_requests_out_stays_beside_the_new_one():
    new = "cluster.local/ns/istio-system/sa/httpbin-gateway-istio"
    source = [{"from": [{"source": {"principals": [OLD]}}]}]
    for action, expected in (("DENY", [OLD, new]), ("ALLOW", [new])):
        found = made([*objects("gateway.yaml"), *EDGE, policy(action=action, rules=source)])
        assert found[-1]["spec"]["rules"][0]["from"][0]["source"]["principals"] == expected


def test_a_prefix_that_another_rule_would_take_becomes_a_regular_expression():
    rules = virtual({**TO, "match": [{"uri": {"prefix": "/a.b"}}]}, TO)
    (route,) = [one for one in made([*objects("gateway.yaml"), *EDGE, rules]) if one["metadata"]["name"] == "v"]
    paths = [one["matches"][0]["path"]["value"] for one in route["spec"]["rules"]]
    assert paths == [r"/a\.b.*", "/.*"]


def shop(path="/", **notes):
    metadata = {"name": "web", "namespace": "shop", "annotations": {f"{ingress.NGINX}{key.replace('_', '-')}": value
                for key, value in notes.items()}}  # fmt: skip
    backend = {"service": {"name": "web", "port": {"number": 80}}}
    rules = [{"host": "a.example", "http": {"paths": [{"path": path, "pathType": "Prefix", "backend": backend}]}}]
    spec = {"ingressClassName": "nginx", "tls": [{"hosts": ["a.example"], "secretName": "c"}], "rules": rules}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": metadata, "spec": spec}


LOGIN = "https://$host/oauth2/auth"
SERVICE = "http://oauth2-proxy.sso.svc.cluster.local:4180/oauth2/auth"


def test_auth_url_becomes_a_custom_policy_whose_authorizer_alone_sets_its_headers():
    found = translate([shop(auth_url=LOGIN, auth_response_headers="X-User, X-Mail", auth_signin="https://a")],
                      authorizer=SERVICE)  # fmt: skip
    named = {one.manifest["kind"]: one for one in found if one.manifest}
    spec = named["AuthorizationPolicy"].manifest["spec"]
    assert (spec["action"], spec["provider"]) == ("CUSTOM", {"name": "oauth2-proxy-sso"})
    assert spec["rules"] == [{"to": [{"operation": {"hosts": ["a.example", "a.example:*"], "paths": ["/*"]}}]}]
    (told,) = named["AuthorizationPolicy"].notes
    provider = yaml.safe_load(told.partition("covers: ")[2])["extensionProviders"][0]["envoyExtAuthzHttp"]
    assert provider["headersToUpstreamOnAllow"] == ["x-user", "x-mail"] and "failOpen" not in provider
    assert "{'remove': 'x-user'}" in str(named["EnvoyFilter"].manifest)
    assert "Envoy redirects nobody" in " ".join(named["AuthorizationPolicy"].warnings)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ([shop(auth_url=LOGIN)], "is no plain address inside the cluster"),
        ([shop(whitelist_source_range="10.0.0.0/8")], "the annotation whitelist-source-range has no equal"),
        ([shop(auth_snippet="x")], "the annotation auth-snippet has no equal"),
        ([shop(auth_signin="x")], "do nothing without auth-url"),
        ([shop("/a/(.*)", rewrite_target="/$1")], "the regular expression /a/"),
        ([shop(auth_url=SERVICE), {**shop("/b", auth_url=f"{SERVICE}2"), "metadata": {
            **shop(auth_url=f"{SERVICE}2")["metadata"], "name": "b"}}], "Istio asks one authorizer"),
    ],
)  # fmt: skip
def test_ingresses_that_cannot_be_kept_are_refused(found, words):
    with pytest.raises(LegacyError, match=words.replace("(", r"\(")):
        translate(found)


def test_the_command_prints_decisions_and_refuses_loudly(tmp_path, capsys):
    file = tmp_path / "old.yaml"
    file.write_text(manifests.as_yaml([*objects("gateway.yaml", "route.yaml"), *EDGE]))
    assert main([str(file)]) == 0
    out, err = capsys.readouterr()
    assert "# httpsRedirect: the Gateway API redirects by a route." in out and "were not seen" in err
    assert [one["kind"] for one in yaml.safe_load_all(out) if one] == ["ConfigMap", "Gateway", "HTTPRoute", "HTTPRoute"]
    file.write_text(manifests.as_yaml([shop(auth_url=SERVICE)]))
    assert main([str(file), "--strict"]) == 1 and capsys.readouterr().out == ""
    file.write_text("[1")
    assert main([str(file)]) == 2
