"""What the params say of the way in reaches the Services; what cannot work together is refused in a sentence."""

import json

import pytest
import yaml

from lib.errors import ParamsError
from lib.kubernetes import manifests, service_annotations
from lib.params import ROOT, load
from tests.support.tiny import write_params

AWS = service_annotations.AWS
ARN = "arn:aws:acm:us-east-1:123456789012:certificate/1234"
LBC = "load_balancer_controller: aws-load-balancer-controller\n"
IN_TREE = "load_balancer_controller: in-tree\n"
PORTS = [{"name": "status-port", "port": 15021}, {"port": 80}, {"port": 443}]


def params(tmp_path, more=""):
    write_params(tmp_path, more=more)
    return load("tiny", folder=tmp_path)


def service(ports=PORTS, **spec):
    return {"kind": "Service", "metadata": {"name": "istio-ingressgateway"}, "spec": {"ports": ports, **spec}}


def notes(here, thing=None, of_gateway=True):
    found = service_annotations.annotate(thing or service(), here, of_gateway)["metadata"].get("annotations", {})
    tags = found.pop(f"{AWS}additional-resource-tags", "")
    assert tags == ("Project=istio-keycloak-runbook,Cluster=runbook" if found else "")
    return {key.removeprefix(AWS): value for key, value in found.items()}


def test_where_the_params_say_nothing_nothing_is_said(tmp_path):
    here, things = params(tmp_path), manifests.load(ROOT / "notebooks/manifests/hardened/gateway.yaml")
    assert (
        service_annotations.annotate(service(), here, True) == service()
        and service_annotations.gateway(things, here) == things
    )
    for env in ("dev", "existing"):
        assert notes(load(env)) == {} and service_annotations.topology(load(env)) == {}


def test_in_tree(tmp_path):
    assert notes(params(tmp_path, IN_TREE)) == {"type": "nlb", "scheme": "internet-facing"}
    internal = params(tmp_path, IN_TREE + "load_balancer_scheme: internal\nload_balancer_cross_zone: true")
    found = notes(internal)
    assert (found["scheme"], found["internal"]) == ("internal", "true")
    assert found["cross-zone-load-balancing-enabled"] == "true"


def test_the_aws_load_balancer_controller_is_never_left_to_its_internal_default(tmp_path):
    found = notes(params(tmp_path, LBC))
    assert found == {
        "type": "external", "nlb-target-type": "ip", "scheme": "internet-facing",
        "healthcheck-protocol": "http", "healthcheck-port": "15021", "healthcheck-path": "/healthz/ready",
    }  # fmt: skip
    assert "healthcheck-port" not in notes(params(tmp_path, LBC), of_gateway=False)


def test_all_of_it(tmp_path):
    here = params(
        tmp_path,
        LBC + "load_balancer_target_type: instance\nexternal_traffic_policy: Local\n"
        "load_balancer_proxy_protocol: true\n"
        "load_balancer_preserve_client_ip: true\nload_balancer_idle_seconds: 1800\nload_balancer_health_seconds: 10\n"
        "load_balancer_source_ranges: [203.0.113.0/24]\nload_balancer_cross_zone: true\ntrusted_proxies: 1\n"
        f"load_balancer_annotations: {{{AWS}name: mine}}",
    )
    made = service_annotations.annotate(service(), here, True)
    assert made["spec"]["loadBalancerSourceRanges"] == ["203.0.113.0/24"]
    assert made["spec"]["externalTrafficPolicy"] == "Local"
    found = notes(here)
    assert found["nlb-target-type"] == "instance" and found["proxy-protocol"] == "*" and found["name"] == "mine"
    assert found["target-group-attributes"] == "preserve_client_ip.enabled=true"
    assert found["attributes"] == "load_balancing.cross_zone.enabled=true" and found["healthcheck-interval"] == "10"
    idle = {found[f"listener-attributes.TCP-{port}"] for port in (80, 443, 15021)}
    assert idle == {"tcp.idle_timeout.seconds=1800"}
    assert "healthcheck-path" not in found  # kube-proxy's own health check is asked
    assert service_annotations.topology(here) == {"proxyProtocol": {}, "numTrustedProxies": 1}
    assert "proxy-protocol" not in notes(here, of_gateway=False)


@pytest.mark.parametrize("controller", [LBC, IN_TREE])
def test_tls_ended_by_the_load_balancer_is_encrypted_anew(tmp_path, controller):
    names = "keycloak_host: sso.example.org\ngateway_host: httpbin.example.org\n"
    here = params(tmp_path, f"{controller}{names}acm_certificate_arn: {ARN}")
    found = notes(here)
    assert (found["ssl-cert"], found["ssl-ports"], found["backend-protocol"]) == (ARN, "443", "ssl")
    assert found["ssl-negotiation-policy"] == "ELBSecurityPolicy-TLS13-1-2-2021-06"
    assert "ssl-cert" not in notes(here, service([{"port": 80}]))


def test_istios_own_gateway_gets_annotations_and_its_pods_the_topology(tmp_path):
    here = params(tmp_path, LBC + "load_balancer_proxy_protocol: true")
    pods = {"kind": "Deployment", "spec": {"template": {"metadata": {"annotations": {"a": "b"}}}}}
    whole = [
        {"kind": "CustomResourceDefinition", "metadata": {"name": "x"}},
        service(), {**pods, "metadata": {"name": "istio-ingressgateway"}},
        {**pods, "metadata": {"name": "istiod"}}, {**service(), "metadata": {"name": "istiod"}},
    ]  # fmt: skip
    before = json.dumps(whole)
    _, way, proxy, istiod, its = service_annotations.gateway(whole, here)
    assert json.dumps(whole) == before
    assert way["metadata"]["annotations"][f"{AWS}scheme"] == "internet-facing"
    told = proxy["spec"]["template"]["metadata"]["annotations"]
    assert told["a"] == "b" and yaml.safe_load(told["proxy.istio.io/config"]) == {
        "gatewayTopology": {"proxyProtocol": {}}
    }
    assert istiod == whole[3] and its == whole[4]


def test_the_hardened_gateway_too(tmp_path):
    things = manifests.load(ROOT / "notebooks/manifests/hardened/gateway.yaml")
    made = {
        one["kind"]: one for one in service_annotations.gateway(things, params(tmp_path, LBC + "trusted_proxies: 2"))
    }
    assert made["Service"]["metadata"]["annotations"][f"{AWS}scheme"] == "internet-facing"
    told = made["Deployment"]["spec"]["template"]["metadata"]["annotations"]["proxy.istio.io/config"]
    assert yaml.safe_load(told) == {"gatewayTopology": {"numTrustedProxies": 2}}


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("load_balancer_scheme: internal", "load_balancer_scheme: internal needs load_balancer_controller"),
        ("load_balancer_idle_seconds: 90", "load_balancer_idle_seconds needs load_balancer_controller"),
        (f"acm_certificate_arn: {ARN}", "acm_certificate_arn needs load_balancer_controller"),
        (IN_TREE + "load_balancer_target_type: ip", "the in-tree one registers nodes"),
        (IN_TREE + "load_balancer_idle_seconds: 90", "load_balancer_idle_seconds is not what the in-tree"),
        (IN_TREE + "load_balancer_proxy_protocol: true", "load_balancer_proxy_protocol is not what the in-tree"),
        (IN_TREE + "load_balancer_preserve_client_ip: false", "load_balancer_preserve_client_ip is not what"),
        (LBC + "external_traffic_policy: Local", "does nothing with load_balancer_target_type: ip"),
        (
            LBC + "load_balancer_target_type: instance\nload_balancer_preserve_client_ip: true",
            "needs external_traffic_policy: Local; otherwise the node puts its own address",
        ),
        (LBC + f"acm_certificate_arn: {ARN}\nload_balancer_idle_seconds: 90", "TLS listeners have 350 s"),
        (LBC + f"acm_certificate_arn: {ARN.replace('east', 'west')}", "must be of region us-east-1"),
        (LBC + "acm_certificate_arn: arn:aws:iam::123456789012:role/x", "acm_certificate_arn"),
        ("load_balancer_source_ranges: [203.0.113.7/24]", "such as 203.0.113.0/24; 203.0.113.7/24 has"),
        ("load_balancer_source_ranges: [203.0.113.0/24, 0.0.0.0/0]", "holds everybody"),
        (LBC + f"load_balancer_annotations: {{{AWS}scheme: internal}}", f"{AWS}scheme otherwise than the params do"),
    ],
)
def test_what_cannot_work_is_refused(tmp_path, more, words):
    with pytest.raises(ParamsError) as refused:
        params(tmp_path, more)
    assert words in str(refused.value) and "tiny.yml" in str(refused.value)
