"""The way in on AWS: what a Service of type LoadBalancer says to the controller that makes its load balancer.

Annotations: AWS Load Balancer Controller, guide/service/annotations; cloud-provider-aws, docs/service_controller.md.
"""

from __future__ import annotations

import copy
import ipaddress

import yaml

AWS = "service.beta.kubernetes.io/aws-load-balancer-"
LBC, IN_TREE = "aws-load-balancer-controller", "in-tree"  # the two that make network load balancers
IP, INSTANCE = "ip", "instance"
GATEWAY = "istio-ingressgateway"
STATUS_PORT, HEALTH = 15021, "/healthz/ready"  # where a gateway tells whether it is ready
TLS = 443  # the port that is TLS at the load balancer
OF_AWS = {  # what only a controller of AWS understands, by the params' names, with the values that ask for nothing
    "load_balancer_target_type": None,
    "acm_certificate_arn": None,
    "load_balancer_preserve_client_ip": None,
    "load_balancer_cross_zone": False,
    "load_balancer_idle_seconds": None,
    "load_balancer_health_seconds": None,
}
ONLY_LBC = ("load_balancer_preserve_client_ip", "load_balancer_idle_seconds", "load_balancer_proxy_protocol")


def dressed(service: dict, here, of_gateway: bool = False) -> dict:
    """Return a Service of type LoadBalancer with what the params say: annotations, source ranges, traffic policy.

    With neither a controller nor annotations in the params it is what it was. A port 443 is TLS that the load balancer
    ends with the certificate of the params, and encrypts anew on its way to the pods. Proxy protocol is for gateways
    alone: Keycloak is also asked past the load balancer.
    """
    made = copy.deepcopy(service)
    before = made["metadata"].get("annotations") or {}
    notes = {**before, **_notes(made, here, of_gateway), **here.load_balancer_annotations}
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


def problem(here) -> str:
    """Return why these params cannot work together, as a sentence without its full stop; '' where they can."""
    controller, kind, acm = here.load_balancer_controller, target_type(here), here.acm_certificate_arn
    asked = [name for name, nothing in OF_AWS.items() if getattr(here, name) != nothing]
    refused = [name for name in ONLY_LBC if getattr(here, name) not in (None, False)] if controller == IN_TREE else []
    if here.load_balancer_scheme == "internal":
        asked.insert(0, "load_balancer_scheme: internal")
    if asked and not controller:
        return f"{asked[0]} needs load_balancer_controller ({LBC} or {IN_TREE}); say which the cluster has"
    if controller == IN_TREE and here.load_balancer_preserve_client_ip is False:
        refused.append("load_balancer_preserve_client_ip")
    if refused:
        return f"{refused[0]} is not what the in-tree controller can set; take load_balancer_controller: {LBC}"
    if controller == IN_TREE and kind == IP:
        return f"load_balancer_target_type: ip needs load_balancer_controller: {LBC}; the in-tree one registers nodes"
    if kind == IP and here.external_traffic_policy == "Local":
        return "external_traffic_policy: Local does nothing with load_balancer_target_type: ip; remove one of them"
    if here.load_balancer_preserve_client_ip and kind == INSTANCE and here.external_traffic_policy != "Local":
        return (
            "load_balancer_preserve_client_ip with load_balancer_target_type: instance needs "
            "external_traffic_policy: Local; otherwise the node puts its own address in the client's place"
        )
    if acm and here.load_balancer_idle_seconds:
        return "load_balancer_idle_seconds cannot be set with acm_certificate_arn: TLS listeners have 350 s, always"
    if acm and (region := acm.split(":")[3]) != here.region:
        return f"acm_certificate_arn must be of region {here.region}, where the load balancer is; it is of {region}"
    return _ranges_problem(here) or _contradiction(here)


def certificate_problem(here) -> str:
    """Return why the certificates of these params do not fit each other, as `problem` does."""
    if here.ca_file and here.tls != "given":
        return "ca_file is for tls: given; remove it"
    if here.acm_certificate_arn and here.tls == "off":
        return "acm_certificate_arn needs tls: own-ca or given, since the pods are asked by TLS as well"
    if here.acm_certificate_arn and not (here.keycloak_host and here.gateway_host):
        return "acm_certificate_arn needs keycloak_host and gateway_host, the names that it is for"
    return ""


def _ranges_problem(here) -> str:
    for text in here.load_balancer_source_ranges:
        try:
            ipaddress.ip_network(text)
        except ValueError as error:
            return f"load_balancer_source_ranges must be networks such as 203.0.113.0/24; {error}"
    if any(text.endswith("/0") for text in here.load_balancer_source_ranges[1:]):
        return "load_balancer_source_ranges holds everybody (/0) beside others, which then mean nothing; remove one"
    return ""


def _contradiction(here) -> str:
    """Two words about one thing: an annotation by hand that the params say otherwise."""
    service = {"spec": {"ports": [{"port": 80}, {"port": TLS}]}}
    said = _notes(service, here, of_gateway=True)
    other = [key for key, value in here.load_balancer_annotations.items() if said.get(key, value) != value]
    return f"load_balancer_annotations says {other[0]} otherwise than the params do; remove it there" if other else ""


def _notes(service: dict, here, of_gateway: bool) -> dict[str, str]:
    """The annotations that the params come to; none without a controller of AWS."""
    controller, ports = here.load_balancer_controller, service["spec"]["ports"]
    if controller is None:
        return {}
    from lib.aws import session  # boto3, and so half a second: every params file is checked here, and few ask for this

    # Said always: where it is not, the AWS Load Balancer Controller makes an internal one since 2.2
    tags = ",".join(f"{key}={value}" for key, value in session.tags(here.cluster_name).items())
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
