"""Gateways of Istio's own kinds and of the Gateway API: hosts, ports and backends agree, and one leaves the other."""

import pytest
import yaml

from lib.errors import MissingStep
from lib.istio import gateway_api, installation
from lib.kubernetes import manifests, service_annotations
from lib.kubernetes.cluster import MANAGER
from lib.names import GATEWAY_GROUP, KEYCLOAK_EDGE
from lib.probes import workloads
from lib.steps import endpoints, gateway_tls, istiod, keycloak
from tests.support.little_cluster import Cluster, Served, new_run


class Live(Cluster):
    """A cluster in memory with a gateway's pod, which can list and delete."""

    def pod(self, labels, namespace):
        return {"metadata": {"labels": {"istio": "ingressgateway"}}, "spec": {"serviceAccountName": "gw"}}

    def get(self, api_version, kind, name, namespace=None):
        return self.find(api_version, kind, name, namespace) or {"spec": {"selector": {"istio": "ingressgateway"}}}

    def items(self, api_version, kind, namespace=None, labels=""):
        ours = [{"manager": MANAGER, "operation": "Apply"}]
        found = [thing for thing in super().items(api_version, kind, namespace) if thing["apiVersion"] == api_version]
        return [{**thing, "metadata": {**thing["metadata"], "managedFields": ours}} for thing in found]

    def delete(self, api_version, kind, name, namespace=None):
        return "deleted" if self.kept.pop((kind, namespace, name), None) else "absent"


def of(api, **more):
    return new_run(Live(), gateway_api=api, **more)


def kinds(objects):
    return [one["kind"] for one in objects]


def test_a_route_names_its_hosts_and_its_backend_in_both_forms():
    (virtual,) = gateway_tls.route(of(installation.ISTIO), "x", "probes", ["x.example"])
    (route,) = gateway_tls.route(of(installation.GATEWAY_API), "x", "probes", ["x.example"])
    assert virtual["spec"]["hosts"] == route["spec"]["hostnames"] == ["x.example"]
    destination = virtual["spec"]["http"][0]["route"][0]["destination"]
    assert destination == {"host": "x.probes.svc.cluster.local", "port": {"number": 8000}}
    assert route["spec"]["rules"] == [{"backendRefs": [{"name": "x", "port": 8000}]}]
    assert virtual["metadata"] == route["metadata"] == {"name": "x", "namespace": "probes"}


def test_a_route_without_hosts_takes_every_host():
    (virtual,) = gateway_tls.route(of(installation.ISTIO), "x")
    (route,) = gateway_tls.route(of(installation.GATEWAY_API), "x")
    assert virtual["spec"]["hosts"] == ["*"] and route["spec"]["hostnames"] == []


@pytest.mark.parametrize("tls", ["own-ca", "off"])
def test_both_gateways_open_the_same_ports(tls):
    (istios,) = gateway_tls.gateway(of(installation.ISTIO, tls=tls))
    theirs = gateway_tls.gateway(of(installation.GATEWAY_API, tls=tls))
    (gateway,) = (one for one in theirs if one["kind"] == "Gateway")
    ports = [(one["port"]["number"], one["port"]["protocol"]) for one in istios["spec"]["servers"]]
    assert ports == [(one["port"], one["protocol"]) for one in gateway["spec"]["listeners"]]
    assert ("HTTPRoute" in kinds(theirs)) is (tls != "off")  # the redirect


def test_without_tls_routes_and_listeners_are_plain():
    run = of(installation.GATEWAY_API, tls="off")
    objects = [
        *keycloak.gateway_objects(run),
        *gateway_tls.load(run, "hardened/gateway.yaml"),
        *gateway_tls.route(run, "x"),
    ]
    listeners = [one for each in objects if each["kind"] == "Gateway" for one in each["spec"]["listeners"]]
    assert {(one["port"], one["protocol"], "tls" in one) for one in listeners} == {(80, "HTTP", False)}
    assert {one["spec"]["parentRefs"][0]["sectionName"] for one in objects if one["kind"] == "HTTPRoute"} == {"http"}
    ports = [one["port"] for each in objects if each["kind"] == "HTTPRoute" and each["metadata"]["name"] == "keycloak"
             for rule in each["spec"]["rules"] for one in rule["backendRefs"]]  # fmt: skip
    assert ports == [80, 80]


def test_the_load_balancers_settings_reach_the_service_that_istiod_makes():
    run = of(
        installation.GATEWAY_API,
        load_balancer_controller="aws-load-balancer-controller",
        load_balancer_target_type="instance",
        external_traffic_policy="Local",
        load_balancer_source_ranges=["203.0.113.0/24"],
        load_balancer_proxy_protocol=True,
    )
    objects = gateway_tls.gateway(run)
    (gateway,), (options,) = ([one for one in objects if one["kind"] == kind] for kind in ("Gateway", "ConfigMap"))
    named = gateway["spec"]["infrastructure"]["parametersRef"]
    assert named == {"group": "", "kind": "ConfigMap", "name": options["metadata"]["name"]}
    service = yaml.safe_load(options["data"]["service"])
    assert service["metadata"]["annotations"][f"{service_annotations.AWS}scheme"] == "internet-facing"
    assert service["spec"] == {"loadBalancerSourceRanges": ["203.0.113.0/24"], "externalTrafficPolicy": "Local"}
    template = yaml.safe_load(options["data"]["deployment"])["spec"]["template"]["metadata"]["annotations"]
    assert yaml.safe_load(template["proxy.istio.io/config"]) == {"gatewayTopology": {"proxyProtocol": {}}}


def test_the_hardened_gateways_policy_names_the_gateway():
    run = of(installation.GATEWAY_API)
    run.cluster.kept["Service", "keycloak-edge", "keycloak-istio"] = {"kind": "Service", "apiVersion": "v1"}
    run.cluster.wait_address = lambda *_: "sso.example"
    run.cluster.kept["ConfigMap", "istio-system", "istio"] = {"apiVersion": "v1", "data": {"mesh": "{}"}}
    policies = {one["metadata"]["name"]: one for one in workloads.policies(workloads.hardened_objects(run))}
    target = {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "gateway"}
    assert policies["gateway"]["spec"]["targetRefs"] == [target] and "selector" not in policies["gateway"]["spec"]
    principals = policies["httpbin-hardened"]["spec"]["rules"][0]["from"][0]["source"]["principals"]
    assert principals == ["cluster.local/ns/hardened/sa/gateway-istio"]


def test_istios_own_kinds_leave_the_definitions_alone_of_the_gateway_api(tmp_path):
    run = of(installation.GATEWAY_API)
    api_version, kind = "apiextensions.k8s.io/v1", manifests.DEFINITION
    definition = {"apiVersion": api_version, "kind": kind, "metadata": {"name": f"gateways.{GATEWAY_GROUP}"}}
    objects = [*gateway_tls.gateway(run), *gateway_tls.route(run, "httpbin"), *keycloak.gateway_objects(run)]
    run.apply([definition, *objects])
    before = of(installation.ISTIO)
    before.cluster.kept = run.cluster.kept
    istiod.ensure_gateway(before)
    left = {(kind, name) for kind, _, name in run.cluster.kept}
    assert not left & {("Gateway", "httpbin-gateway"), ("HTTPRoute", "httpbin"), ("Namespace", "istio-ingress")}
    assert (kind, f"gateways.{GATEWAY_GROUP}") in left
    assert not [thing for thing in run.cluster.kept.values() if thing.get("apiVersion") == gateway_api.API]
    assert before.recent().empty  # ensure_gateway has reported them


def test_the_gateway_apis_gateway_is_made_and_reported_with_its_definitions(tmp_path):
    api_version, kind = "apiextensions.k8s.io/v1", manifests.DEFINITION
    definition = {"apiVersion": api_version, "kind": kind, "metadata": {"name": "x"}}
    (tmp_path / "crds.yaml").write_text(yaml.safe_dump(definition))
    run = of(installation.GATEWAY_API, gateway_api_crds=str(tmp_path))
    run.cluster.kept["GatewayClass", None, "istio"] = {"apiVersion": gateway_api.API, "kind": "GatewayClass"}
    changes = istiod.ensure_gateway(run)
    assert [*changes["kind"]] == [kind, "Namespace", "Gateway", "HTTPRoute"]
    assert [*changes["action"]] == ["created"] * 4


def test_a_cluster_with_istios_own_kinds_alone_is_not_touched():
    run = of(installation.ISTIO)
    assert istiod.ensure_gateway(run).empty


def test_a_service_that_istiod_has_not_made_yet_is_waited_for():
    """Step 03 asked for the address right after it applied the Gateway, and said that step 03 was missing."""
    cluster = Served()
    run = new_run(cluster, gateway_api=installation.GATEWAY_API)
    with pytest.raises(MissingStep, match="keycloak-istio"):
        endpoints.keycloak_host(run)
    cluster.kept["Gateway", KEYCLOAK_EDGE, "keycloak"] = {"kind": "Gateway"}
    assert endpoints.keycloak_host(run) == "198.18.0.2"
