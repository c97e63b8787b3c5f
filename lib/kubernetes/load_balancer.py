"""The way in on AWS: what a Service of type LoadBalancer says to the controller that makes its load balancer.

Annotations: AWS Load Balancer Controller, guide/service/annotations; cloud-provider-aws, docs/service_controller.md.
"""

from __future__ import annotations

import copy

import yaml

from lib import names

AWS = "service.beta.kubernetes.io/aws-load-balancer-"
LBC, IN_TREE = "aws-load-balancer-controller", "in-tree"  # the two that make network load balancers
IP, INSTANCE = "ip", "instance"
GATEWAY = "istio-ingressgateway"
STATUS_PORT, HEALTH = 15021, "/healthz/ready"  # where a gateway tells whether it is ready
TLS = 443  # the port that is TLS at the load balancer


def dressed(service: dict, here, of_gateway: bool = False) -> dict:
    """Return a Service of type LoadBalancer with what the params say: annotations, source ranges, traffic policy.

    With neither a controller nor annotations in the params it is what it was. A port 443 is TLS that the load balancer
    ends with the certificate of the params, and encrypts anew on its way to the pods. Proxy protocol is for gateways
    alone: Keycloak is also asked past the load balancer.
    """
    made = copy.deepcopy(service)
    before = made["metadata"].get("annotations") or {}
    notes = {**before, **annotations(made, here, of_gateway), **here.load_balancer_annotations}
    if notes:
        made["metadata"]["annotations"] = notes
    if here.load_balancer_source_ranges:
        made["spec"]["loadBalancerSourceRanges"] = here.load_balancer_source_ranges
    if here.external_traffic_policy:
        made["spec"]["externalTrafficPolicy"] = here.external_traffic_policy
    return made


def gateway(things: list[dict], here) -> list[dict]:
    """Return a gateway's objects with its Service dressed, and its pods told who stands before them.

    Of Istio's whole manifest only the ingress gateway's own two are touched; else all Services and Deployments.
    """
    whole = any(thing["kind"] == "CustomResourceDefinition" for thing in things)
    return [thing if whole and thing["metadata"]["name"] != GATEWAY else _of_gateway(thing, here) for thing in things]


def topology(here) -> dict:
    """Return Istio's gatewayTopology: whether a PROXY header comes first, and how many proxies X-Forwarded-For is of.

    An NLB adds nothing to X-Forwarded-For. So as long as no other proxy stands before the gateway, what a client says
    there is worth nothing, and Envoy takes the address of the connection, or of the PROXY header.
    """
    found = {"proxyProtocol": {}} if here.load_balancer_proxy_protocol else {}
    return {**found, "numTrustedProxies": here.trusted_proxies} if here.trusted_proxies else found


def target_type(here) -> str:
    """Return what the load balancer sends to: pods' addresses (ip), or nodes' ports (instance).

    Pods, where there is a choice (the in-tree controller knows nodes alone): no second hop over another node, and no
    way back to the node that asked.
    """
    return here.load_balancer_target_type or (IP if here.load_balancer_controller == LBC else INSTANCE)


def annotations(service: dict, here, of_gateway: bool) -> dict[str, str]:
    """The annotations that the params come to; none without a controller of AWS."""
    controller, ports = here.load_balancer_controller, service["spec"]["ports"]
    if controller is None:
        return {}
    # Said always: where it is not, the AWS Load Balancer Controller makes an internal one since 2.2
    tags = ",".join(f"{key}={value}" for key, value in names.tags(here.cluster_name).items())
    notes = {f"{AWS}scheme": here.load_balancer_scheme, f"{AWS}additional-resource-tags": tags}
    if controller == IN_TREE:
        notes = {f"{AWS}type": "nlb", **notes}
        if here.load_balancer_scheme == "internal":
            notes[f"{AWS}internal"] = "true"
        if here.load_balancer_cross_zone:
            notes[f"{AWS}cross-zone-load-balancing-enabled"] = "true"
    else:
        notes = {f"{AWS}type": "external", f"{AWS}nlb-target-type": target_type(here), **notes}
        notes |= _attributes(here, [port["port"] for port in ports])
        if of_gateway and here.load_balancer_proxy_protocol:
            notes[f"{AWS}proxy-protocol"] = "*"
        if of_gateway and target_type(here) == IP:
            notes |= {f"{AWS}healthcheck-protocol": "http", f"{AWS}healthcheck-port": str(STATUS_PORT)}
            notes[f"{AWS}healthcheck-path"] = HEALTH
    if here.load_balancer_health_seconds:
        notes[f"{AWS}healthcheck-interval"] = str(here.load_balancer_health_seconds)
    if here.acm_certificate_arn and TLS in [port["port"] for port in ports]:
        notes |= {f"{AWS}ssl-cert": here.acm_certificate_arn, f"{AWS}ssl-ports": str(TLS)}
        notes |= {f"{AWS}backend-protocol": "ssl", f"{AWS}ssl-negotiation-policy": here.load_balancer_tls_policy}
    return notes


def _attributes(here, ports: list[int]) -> dict[str, str]:
    found = {}
    if here.load_balancer_cross_zone:
        found[f"{AWS}attributes"] = "load_balancing.cross_zone.enabled=true"
    if here.load_balancer_preserve_client_ip is not None:
        kept = str(here.load_balancer_preserve_client_ip).lower()
        found[f"{AWS}target-group-attributes"] = f"preserve_client_ip.enabled={kept}"
    if here.load_balancer_idle_seconds:
        idle = f"tcp.idle_timeout.seconds={here.load_balancer_idle_seconds}"
        found |= {f"{AWS}listener-attributes.TCP-{port}": idle for port in ports}
    return found


def _of_gateway(thing: dict, here) -> dict:
    if thing["kind"] == "Service":
        return dressed(thing, here, of_gateway=True)
    if thing["kind"] != "Deployment" or not topology(here):
        return thing
    made = copy.deepcopy(thing)
    about = made["spec"]["template"]["metadata"]
    about["annotations"] = {
        **(about.get("annotations") or {}),
        "proxy.istio.io/config": yaml.safe_dump({"gatewayTopology": topology(here)}, sort_keys=False),
    }
    return made
