"""Load balancers on AWS: the annotations and fields of a Service that its load balancer's controller reads.

Source: AWS Load Balancer Controller, guide/service/annotations; cloud-provider-aws, docs/service_controller.md.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Literal, Protocol

import yaml

from lib import names
from lib.kubernetes import manifests

if TYPE_CHECKING:  # the params import this module, and need no client of Kubernetes
    from lib.kubernetes.rest import Object

AWS = "service.beta.kubernetes.io/aws-load-balancer-"
LBC, IN_TREE = "aws-load-balancer-controller", "in-tree"  # the two controllers that make network load balancers
IP, INSTANCE = "ip", "instance"
GATEWAY = "istio-ingressgateway"
STATUS_PORT, HEALTH = 15021, "/healthz/ready"  # the health check of a gateway
PROXY_CONFIG = "proxy.istio.io/config"  # annotation of a pod: its own part of the proxies' configuration
TLS = 443  # the port at which the load balancer ends TLS, with a certificate of ACM


class LoadBalancerSettings(Protocol):
    """The fields of the params that this module reads; lib.params describes each."""

    cluster_name: str
    load_balancer_controller: Literal["aws-load-balancer-controller", "in-tree"] | None
    load_balancer_scheme: Literal["internet-facing", "internal"]
    load_balancer_target_type: Literal["ip", "instance"] | None
    load_balancer_source_ranges: list[str]
    load_balancer_annotations: dict[str, str]
    load_balancer_proxy_protocol: bool
    load_balancer_preserve_client_ip: bool | None
    load_balancer_cross_zone: bool
    load_balancer_idle_seconds: int | None
    load_balancer_health_seconds: int | None
    load_balancer_tls_policy: str
    external_traffic_policy: Literal["Cluster", "Local"] | None
    acm_certificate_arn: str | None
    trusted_proxies: int


def annotate(service: Object, params: LoadBalancerSettings, of_gateway: bool = False) -> Object:
    """Return a Service of type LoadBalancer with the params' annotations, source ranges and traffic policy.

    If the params name neither a controller nor annotations, the Service stays as it is. At port 443 the load balancer
    ends TLS with the params' certificate, and encrypts again to the pods. Only a gateway gets proxy protocol: some
    clients reach Keycloak without the load balancer.
    """
    made = copy.deepcopy(service)
    before = made["metadata"].get("annotations") or {}
    notes = {**before, **service_annotations(made, params, of_gateway), **params.load_balancer_annotations}
    if notes:
        made["metadata"]["annotations"] = notes
    if params.load_balancer_source_ranges:
        made["spec"]["loadBalancerSourceRanges"] = params.load_balancer_source_ranges
    if params.external_traffic_policy:
        made["spec"]["externalTrafficPolicy"] = params.external_traffic_policy
    return made


def gateway(objects: list[Object], params: LoadBalancerSettings) -> list[Object]:
    """Return a gateway's objects: its Service with annotations, its pods with the number of proxies before them.

    In Istio's whole manifest, which has CustomResourceDefinitions, only the ingress gateway's own objects change.
    """
    whole = any(obj["kind"] == manifests.DEFINITION for obj in objects)
    made = [obj if whole and obj["metadata"]["name"] != GATEWAY else _of_gateway(obj, params) for obj in objects]
    return made + [options for obj in objects if (options := _gateway_api_options(obj, params))]


def topology(params: LoadBalancerSettings) -> dict[str, Any]:
    """Return Istio's gatewayTopology: whether a PROXY header comes first, and how many proxies to trust.

    An NLB adds nothing to X-Forwarded-For. If no other proxy is before the gateway, that header is the client's own
    claim. Envoy then takes the client's address from the connection, or from the PROXY header.
    """
    found: dict[str, Any] = {"proxyProtocol": {}} if params.load_balancer_proxy_protocol else {}
    return {**found, "numTrustedProxies": params.trusted_proxies} if params.trusted_proxies else found


def target_type(params: LoadBalancerSettings) -> str:
    """Return the load balancer's targets: the pods' addresses (ip), or the nodes' ports (instance).

    The default is ip if the controller can do it; the in-tree one cannot. A request to a pod needs no second hop over
    another node, and cannot return to the node that sent it.
    """
    return params.load_balancer_target_type or (IP if params.load_balancer_controller == LBC else INSTANCE)


def service_annotations(service: Object, params: LoadBalancerSettings, of_gateway: bool) -> dict[str, str]:
    """Return the annotations that the params ask for; {} without a controller of AWS."""
    controller, ports = params.load_balancer_controller, service["spec"]["ports"]
    if controller is None:
        return {}
    # Always set: the AWS Load Balancer Controller's default is internal since 2.2
    tags = ",".join(f"{key}={value}" for key, value in names.tags(params.cluster_name).items())
    notes = {f"{AWS}scheme": params.load_balancer_scheme, f"{AWS}additional-resource-tags": tags}
    if controller == IN_TREE:
        notes = {f"{AWS}type": "nlb", **notes}
        if params.load_balancer_scheme == "internal":
            notes[f"{AWS}internal"] = "true"
        if params.load_balancer_cross_zone:
            notes[f"{AWS}cross-zone-load-balancing-enabled"] = "true"
    else:
        notes = {f"{AWS}type": "external", f"{AWS}nlb-target-type": target_type(params), **notes}
        notes |= _attributes(params, [port["port"] for port in ports])
        if of_gateway and params.load_balancer_proxy_protocol:
            notes[f"{AWS}proxy-protocol"] = "*"
        if of_gateway and target_type(params) == IP:
            notes |= {f"{AWS}healthcheck-protocol": "http", f"{AWS}healthcheck-port": str(STATUS_PORT)}
            notes[f"{AWS}healthcheck-path"] = HEALTH
    if params.load_balancer_health_seconds:
        notes[f"{AWS}healthcheck-interval"] = str(params.load_balancer_health_seconds)
    if params.acm_certificate_arn and TLS in [port["port"] for port in ports]:
        notes |= {f"{AWS}ssl-cert": params.acm_certificate_arn, f"{AWS}ssl-ports": str(TLS)}
        notes |= {f"{AWS}backend-protocol": "ssl", f"{AWS}ssl-negotiation-policy": params.load_balancer_tls_policy}
    return notes


def _attributes(params: LoadBalancerSettings, ports: list[int]) -> dict[str, str]:
    found: dict[str, str] = {}
    if params.load_balancer_cross_zone:
        found[f"{AWS}attributes"] = "load_balancing.cross_zone.enabled=true"
    if params.load_balancer_preserve_client_ip is not None:
        kept = str(params.load_balancer_preserve_client_ip).lower()
        found[f"{AWS}target-group-attributes"] = f"preserve_client_ip.enabled={kept}"
    if params.load_balancer_idle_seconds:
        idle = f"tcp.idle_timeout.seconds={params.load_balancer_idle_seconds}"
        found |= {f"{AWS}listener-attributes.TCP-{port}": idle for port in ports}
    return found


def _gateway_api_options(obj: Object, params: LoadBalancerSettings) -> Object | None:
    """Return the ConfigMap that adds the params to what istiod makes of a Gateway; None if there is nothing to add.

    Source: istio.io, Kubernetes Gateway API, "Customizations": `infrastructure.parametersRef`
    """
    if obj["kind"] != "Gateway" or not obj["apiVersion"].startswith(f"{names.GATEWAY_GROUP}/"):
        return None
    ports = [{"port": one["port"]} for one in obj["spec"]["listeners"]]
    plain = {"metadata": {}, "spec": {"ports": ports}}
    service = annotate(plain, params, of_gateway=True)
    data = {}
    if service != plain:
        spec = {key: value for key, value in service["spec"].items() if key != "ports"}
        data["service"] = yaml.safe_dump({"metadata": service["metadata"], "spec": spec}, sort_keys=False)
    if topology(params):
        notes = {PROXY_CONFIG: yaml.safe_dump({"gatewayTopology": topology(params)}, sort_keys=False)}
        template = {"metadata": {"annotations": notes}}
        data["deployment"] = yaml.safe_dump({"spec": {"template": template}}, sort_keys=False)
    if not data:
        return None
    metadata = {"name": f"{obj['metadata']['name']}-options", "namespace": obj["metadata"]["namespace"]}
    obj["spec"].setdefault("infrastructure", {})["parametersRef"] = {
        "group": "",
        "kind": "ConfigMap",
        "name": metadata["name"],
    }
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def _of_gateway(obj: Object, params: LoadBalancerSettings) -> Object:
    if obj["kind"] == "Service":
        return annotate(obj, params, of_gateway=True)
    if obj["kind"] != "Deployment" or not topology(params):
        return obj
    made = copy.deepcopy(obj)
    metadata = made["spec"]["template"]["metadata"]
    notes = metadata.get("annotations") or {}
    config = {**yaml.safe_load(notes.get(PROXY_CONFIG, "{}")), "gatewayTopology": topology(params)}
    metadata["annotations"] = {**notes, PROXY_CONFIG: yaml.safe_dump(config, sort_keys=False)}
    return made
