"""Inputs whose translation once let requests in that the old form refused: each is refused now, or still holds."""

import pytest
import yaml

from lib.errors import LegacyError
from lib.gateway_api import translate
from lib.istio import policies
from lib.istio.attributes import Call
from lib.istio.mesh import Mesh
from tests.support.two_forms import Asked, nginx, reached

EDGE = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: gw, namespace: edge}
spec: {template: {metadata: {labels: {istio: edge, service.istio.io/canonical-name: edge}},
                  spec: {serviceAccountName: gw}}}
---
apiVersion: v1
kind: Service
metadata: {name: gw, namespace: edge}
spec: {type: LoadBalancer, selector: {istio: edge},
       ports: [{port: 80, targetPort: 8080}, {port: 443, targetPort: 8443}]}
"""
NETWORK, SECURITY = "networking.istio.io/v1", "security.istio.io/v1"
CANARY = {"istio.io/rev": "canary"}
PLUGIN = "extensions.istio.io/v1alpha1"
AUTH_URL = "http://auth.sso.svc.cluster.local:4180/auth"


def of(api, kind, name, space="edge", **spec):
    return {"apiVersion": api, "kind": kind, "metadata": {"name": name, "namespace": space}, "spec": spec}


def edge(*more, port=80, labels=None, pods=None):
    """A gateway at a port with its pods; `labels` are its own, `pods` are more of its pods'."""
    found = list(yaml.safe_load_all(EDGE))
    found[0]["spec"]["template"]["metadata"]["labels"] |= pods or {}
    server = {"port": {"number": port, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}
    gateway = of(NETWORK, "Gateway", "front", selector={"istio": "edge"}, servers=[server])
    gateway["metadata"]["labels"] = labels or {}
    return [*found, gateway, *more]


def virtual(*http, hosts=("*",)):
    return of(NETWORK, "VirtualService", "web", hosts=list(hosts), gateways=["front"], http=list(http))


def to(uri=None):
    match = {"match": [{"uri": uri}]} if uri else {}
    return {**match, "route": [{"destination": {"host": "web", "port": {"number": 8000}}}]}


def denies(**rule):
    return of(SECURITY, "AuthorizationPolicy", "deny", selector={"matchLabels": {"istio": "edge"}}, action="DENY",
              rules=[rule])  # fmt: skip


def envoy(match, labels=("istio", "edge")):
    return of("networking.istio.io/v1alpha3", "EnvoyFilter", "authn", workloadSelector={"labels": dict([labels])},
              configPatches=[{"applyTo": "HTTP_FILTER", "match": match, "patch": {}}])  # fmt: skip


def ingress(name, path, kind="Prefix", cls="nginx", **notes):
    backend = {"service": {"name": "web", "port": {"number": 80}}}
    rule = {"host": "a.example", "http": {"paths": [{"path": path, "pathType": kind, "backend": backend}]}}
    one = of("networking.k8s.io/v1", "Ingress", name, "shop", ingressClassName=cls, rules=[rule])
    one["metadata"]["annotations"] = {f"nginx.ingress.kubernetes.io/{key.replace('_', '-')}": value
                                      for key, value in notes.items()}  # fmt: skip
    return one


def controller(**data):
    return {"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "ingress-nginx-controller", "namespace": "ingress-nginx"}, "data": data}  # fmt: skip


CANONICAL = ("service.istio.io/canonical-name", "edge")
MANAGER = {"filter": {"name": "envoy.filters.network.http_connection_manager"}}
REFUSALS = {
    "a server at a port that only the pods have": (
        edge(virtual(to()), denies(to=[{"operation": {"ports": ["8080"]}}]), port=8080), "does not publish"),
    "a server at a port that nothing publishes": (edge(virtual(to()), port=9999), "does not publish"),
    "a regular expression before an exact path": (
        edge(virtual({"match": [{"uri": {"regex": "/[[:alpha:]]+"}}], "directResponse": {"status": 403}},
                     to({"exact": "/admin"}))), "may both fit"),
    "a regular expression of RE2 alone": (
        edge(virtual({"match": [{"uri": {"regex": r"/\pL+"}}], "directResponse": {"status": 403}},
                     to({"exact": "/admin"}))), "may both fit"),
    "a filter for a listener's name, after another field": (
        edge(envoy({"context": "GATEWAY", "listener": {"filterChain": MANAGER, "name": "0.0.0.0_8080"}})),
        "names ports or routes"),
    "a filter for a filter chain's port": (
        edge(envoy({"listener": {"filter_chain": {"destination_port": 8443}}})), "names ports or routes"),
    "a filter for a label that istiod sets": (edge(envoy({"context": "GATEWAY"}, CANONICAL)), "the label service."),
    "a plugin for a label that istiod sets": (
        edge(of(PLUGIN, "WasmPlugin", "basic-auth", selector={"matchLabels": dict([CANONICAL])}, phase="AUTHN")),
        "the label service."),
    "a plugin for the old pods' port": (
        edge(of(PLUGIN, "WasmPlugin", "basic-auth", match=[{"ports": [{"number": 8080}]}], phase="AUTHN")),
        "names ports or routes"),
    "a policy for a label that the injector sets": (
        edge(of(SECURITY, "AuthorizationPolicy", "p", action="DENY", rules=[{}],
                selector={"matchLabels": {"service.istio.io/canonical-revision": "v1"}})), "does not show it"),
    "a policy for the old pods' address": (
        edge(denies(when=[{"key": "destination.ip", "values": ["10.0.0.1"]}])), "other addresses than 10.0.0.1"),
    "a gateway of another revision than its pods": (edge(labels=CANARY), "is not that of the gateway's pods"),
    "more rules than a route may have": (
        edge(virtual(*(to({"exact": f"/p{number}"}) for number in range(17)))), "needs 17 rules"),
    "a host that the API server refuses": (edge(virtual(to(), hosts=["A.example"])), "does not accept the host"),
    "a host that Istio completes": (edge(virtual(to(), hosts=["web"])), "whole name"),
    "a path that the API server refuses": (
        edge(virtual(to({"exact": "/a/../b"}))), "does not accept the path"),
    "a rewrite-target at another path of the host": (
        [ingress("admin", "/admin", auth_url=AUTH_URL), ingress("rest", "/"), ingress("x", "/x", rewrite_target="/y")],
        "reads its paths as regular expressions"),
    "a path that is a prefix of strings": (
        [ingress("admin", "/admin", "ImplementationSpecific", auth_url=AUTH_URL), ingress("rest", "/")],
        "is ImplementationSpecific"),
    "an authorizer for all Ingresses": (
        [ingress("rest", "/"), controller(**{"global-auth-url": AUTH_URL})], "sets global-auth-url for all"),
    "a list of addresses for all Ingresses": (
        [ingress("rest", "/"), controller(**{"whitelist-source-range": "10.0.0.0/8"})], "sets whitelist-source-range"),
    "a path that nginx compares decoded": ([ingress("odd", "/a@b")], "the regular expression /a@b"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSALS)
def test_what_would_become_weaker_is_refused(name):
    objects, words = REFUSALS[name]
    with pytest.raises(LegacyError) as caught:
        translate(objects)
    assert words in str(caught.value)


NEW = {"istio": "edge", policies.GATEWAY_NAME: "front"}


def test_what_names_nothing_of_the_old_gateway_stays():
    plugin = of(PLUGIN, "WasmPlugin", "basic-auth", selector={"matchLabels": {"istio": "edge"}}, phase="AUTHN")
    outer = envoy({"context": "SIDECAR_INBOUND", "listener": {"portNumber": 8080}})
    found = translate(edge(envoy({"context": "GATEWAY", "listener": {"filterChain": MANAGER}}), plugin))
    assert "EnvoyFilter edge/authn, WasmPlugin edge/basic-auth" in found[-1].notes[0]
    assert "EnvoyFilter edge/authn" in translate(edge(outer))[-1].notes[0]


def test_a_port_of_the_pods_that_two_ports_of_the_service_lead_to_stays_denied_at_both():
    before = edge(virtual(to()), denies(to=[{"operation": {"ports": ["8080"]}}]))
    before[1]["spec"]["ports"].append({"port": 8080, "targetPort": 8080})
    after = [one.manifest for one in translate(before) if one.manifest]
    assert reached(after, ("edge", "front"), ("edge", NEW), Call(port="80"), Asked(80)) == "refused"


def test_the_new_gateway_has_the_revision_of_the_old_pods_and_its_policies():
    policy = denies()
    policy["metadata"]["labels"] = CANARY
    made = [one.manifest for one in translate(edge(virtual(to()), policy, labels=CANARY, pods=CANARY)) if one.manifest]
    (gateway,) = [one for one in made if one["kind"] == "Gateway"]
    assert gateway["metadata"]["labels"] == CANARY
    for revision, expected in (("canary", ["deny-istio"]), ("default", [])):
        found = policies.applying(made, "AuthorizationPolicy", "edge", NEW, Mesh(revision=revision))
        assert [one["metadata"]["name"] for one in found] == expected


def test_an_object_has_what_the_api_server_accepts():
    twice = virtual({**to(), "match": [{"uri": {"prefix": "/a"}}, {"uri": {"prefix": "/b"}}], "rewrite": {"uri": "/c"}})
    twice["spec"]["gateways"].append("edge/front")
    (route,) = [one.manifest for one in translate(edge(twice)) if one.manifest.get("kind") == "HTTPRoute"]
    assert route["spec"]["parentRefs"] == [{"name": "front", "sectionName": "http"}]
    assert [len(one["matches"]) for one in route["spec"]["rules"]] == [1, 1]  # a prefix' rewrite has one match


def asks(objects, path):
    made = [one.manifest for one in translate(objects) if one.manifest]
    labels = {policies.GATEWAY_NAME: "ingress"}
    got = reached(made, ("shop", "ingress"), ("shop", labels), Call(port="80"), Asked(80, path=path), ("auth-sso",))
    return "asks" in got, "asks" in nginx(objects, Asked(80, path=path))


@pytest.mark.parametrize("path", ["/public/..%2Fadmin", "//admin", "/public/%2e%2e/admin", "/admin", "/publicx"])
def test_other_spellings_of_a_path_ask_the_authorizer_too(path):
    assert asks([ingress("all", "/", auth_url=AUTH_URL), ingress("pub", "/public")], path) == (True, True)


def test_a_free_path_stays_free_and_one_with_a_slash_is_free_below_it_alone():
    for free, path, expected in (("/public", "/public/a", False), ("/public/", "/public/a", False),
                                 ("/public/", "/public", True)):  # fmt: skip
        assert asks([ingress("all", "/", auth_url=AUTH_URL), ingress("pub", free)], path)[0] is expected


PUBLIC = {"loadBalancerSourceRanges": ["203.0.113.0/24"],
          "ports": [{"port": 80, "targetPort": "http"}, {"port": 443, "targetPort": "https"}]}  # fmt: skip
WEBHOOK = of("v1", "Service", "ingress-nginx-controller-admission", ports=[{"port": 443, "targetPort": "webhook"}])


def test_the_new_gateway_is_reached_by_those_who_reached_the_controller():
    kind = "networking.istio.io/service-type"
    for spec, expected in ((None, {kind: "ClusterIP"}), ({**PUBLIC, "type": "NodePort"}, {kind: "NodePort"}),
                           ({**PUBLIC, "type": "LoadBalancer"}, {"a.aws/scheme": "internal"})):  # fmt: skip
        service = of("v1", "Service", "ingress-nginx-controller", **(spec or {}))
        service["metadata"]["annotations"] = {"a.aws/scheme": "internal"} if spec else {}
        found = [one.manifest for one in translate([ingress("rest", "/"), WEBHOOK, *([service] if spec else [])])]
        (gateway,) = [one for one in found if one.get("kind") == "Gateway"]
        assert expected.items() <= gateway["spec"]["infrastructure"]["annotations"].items()
        options = str([one for one in found if one.get("kind") == "ConfigMap"])
        assert ("203.0.113.0/24" in options) is bool(spec)
    with pytest.raises(LegacyError, match="does not publish port 80"):
        translate([ingress("rest", "/"), {**service, "spec": {"ports": PUBLIC["ports"][1:]}}])
    with pytest.raises(LegacyError, match="several Services of the controller"):
        translate([ingress("rest", "/"), service, {**service, "metadata": {**service["metadata"], "name": "inner",
                   "labels": {"app.kubernetes.io/name": "ingress-nginx"}}}])  # fmt: skip


def test_an_ingress_of_another_class_and_a_missing_configmap_are_named():
    (left,) = translate([ingress("all", "/", cls="internal", auth_url=AUTH_URL)])
    assert "Ingress shop/all is not of the class nginx" in left.warnings[0]
    for more, expected in (([], True), ([controller(**{"proxy-body-size": "8m"})], False)):
        notes = str([one.notes for one in translate([ingress("rest", "/"), *more])])
        assert ("ConfigMap is not in the files" in notes) is expected
