"""Which params of load balancers and of TLS go together."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from lib.kubernetes.load_balancer import IN_TREE, INSTANCE, IP, LBC, TLS, service_annotations, target_type

if TYPE_CHECKING:
    from lib.params.model import Params

OF_AWS = {  # what only a controller of AWS understands, by the params' names, with the values that ask for nothing
    "load_balancer_target_type": None,
    "acm_certificate_arn": None,
    "load_balancer_preserve_client_ip": None,
    "load_balancer_cross_zone": False,
    "load_balancer_idle_seconds": None,
    "load_balancer_health_seconds": None,
}
ONLY_LBC = ("load_balancer_preserve_client_ip", "load_balancer_idle_seconds", "load_balancer_proxy_protocol")


def problem(params: Params) -> str:
    """Return why these params cannot work together, as a sentence without its full stop; '' where they can."""
    controller, kind, acm = params.load_balancer_controller, target_type(params), params.acm_certificate_arn
    asked = [name for name, nothing in OF_AWS.items() if getattr(params, name) != nothing]
    refused = [name for name in ONLY_LBC if getattr(params, name) not in (None, False)] if controller == IN_TREE else []
    if params.load_balancer_scheme == "internal":
        asked.insert(0, "load_balancer_scheme: internal")
    if asked and not controller:
        return f"{asked[0]} needs load_balancer_controller ({LBC} or {IN_TREE}); say which the cluster has"
    if controller == IN_TREE and params.load_balancer_preserve_client_ip is False:
        refused.append("load_balancer_preserve_client_ip")
    if refused:
        return f"{refused[0]} is not what the in-tree controller can set; take load_balancer_controller: {LBC}"
    if controller == IN_TREE and kind == IP:
        return f"load_balancer_target_type: ip needs load_balancer_controller: {LBC}; the in-tree one registers nodes"
    if kind == IP and params.external_traffic_policy == "Local":
        return "external_traffic_policy: Local does nothing with load_balancer_target_type: ip; remove one of them"
    if params.load_balancer_preserve_client_ip and kind == INSTANCE and params.external_traffic_policy != "Local":
        return (
            "load_balancer_preserve_client_ip with load_balancer_target_type: instance needs "
            "external_traffic_policy: Local; otherwise the node puts its own address in the client's place"
        )
    if acm and params.load_balancer_idle_seconds:
        return "load_balancer_idle_seconds cannot be set with acm_certificate_arn: TLS listeners have 350 s, always"
    if acm and (region := acm.split(":")[3]) != params.region:
        return f"acm_certificate_arn must be of region {params.region}, where the load balancer is; it is of {region}"
    return _ranges_problem(params) or _contradiction(params)


def certificate_problem(params: Params) -> str:
    """Return why the certificates of these params do not fit each other, as `problem` does."""
    if params.ca_file and params.tls != "given":
        return "ca_file is for tls: given; remove it"
    if params.acm_certificate_arn and params.tls == "off":
        return "acm_certificate_arn needs tls: own-ca or given, since the pods are asked by TLS as well"
    if params.acm_certificate_arn and not (params.keycloak_host and params.gateway_host):
        return "acm_certificate_arn needs keycloak_host and gateway_host, the names that it is for"
    return ""


def _ranges_problem(params: Params) -> str:
    for text in params.load_balancer_source_ranges:
        try:
            ipaddress.ip_network(text)
        except ValueError as error:
            return f"load_balancer_source_ranges must be networks such as 203.0.113.0/24; {error}"
    if any(text.endswith("/0") for text in params.load_balancer_source_ranges[1:]):
        return "load_balancer_source_ranges holds everybody (/0) beside others, which then mean nothing; remove one"
    return ""


def _contradiction(params: Params) -> str:
    """Two words about one thing: an annotation by hand that the params say otherwise."""
    service = {"spec": {"ports": [{"port": 80}, {"port": TLS}]}}
    annotations = service_annotations(service, params, of_gateway=True)
    other = [key for key, value in params.load_balancer_annotations.items() if annotations.get(key, value) != value]
    return f"load_balancer_annotations says {other[0]} otherwise than the params do; remove it there" if other else ""
