"""The params of load balancers and of TLS that do not fit each other."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import TYPE_CHECKING

from lib.kubernetes.service_annotations import IN_TREE, INSTANCE, IP, LBC, TLS, service_annotations, target_type

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


def problems(params: Params) -> Iterator[str]:
    """Yield each reason why these params do not fit each other, as a sentence without its full stop."""
    controller, kind, acm = params.load_balancer_controller, target_type(params), params.acm_certificate_arn
    asked = [name for name, nothing in OF_AWS.items() if getattr(params, name) != nothing]
    refused = [name for name in ONLY_LBC if getattr(params, name) not in (None, False)] if controller == IN_TREE else []
    if params.load_balancer_scheme == "internal":
        asked.insert(0, "load_balancer_scheme: internal")
    if asked and not controller:
        yield f"{asked[0]} needs load_balancer_controller ({LBC} or {IN_TREE}); say which the cluster has"
    if controller == IN_TREE and params.load_balancer_preserve_client_ip is False:
        refused.append("load_balancer_preserve_client_ip")
    if refused:
        yield f"{refused[0]} is not what the in-tree controller can set; take load_balancer_controller: {LBC}"
    if controller == IN_TREE and kind == IP:
        yield f"load_balancer_target_type: ip needs load_balancer_controller: {LBC}; the in-tree one registers nodes"
    if kind == IP and params.external_traffic_policy == "Local":
        yield "external_traffic_policy: Local does nothing with load_balancer_target_type: ip; remove one of them"
    if params.load_balancer_preserve_client_ip and kind == INSTANCE and params.external_traffic_policy != "Local":
        yield (
            "load_balancer_preserve_client_ip with load_balancer_target_type: instance needs "
            "external_traffic_policy: Local; otherwise the node puts its own address in the client's place"
        )
    if acm and params.load_balancer_idle_seconds:
        yield "load_balancer_idle_seconds cannot be set with acm_certificate_arn: TLS listeners have 350 s, always"
    if acm and (region := acm.split(":")[3]) != params.region:
        yield f"acm_certificate_arn must be of region {params.region}, where the load balancer is; it is of {region}"
    yield from _ranges_problems(params)
    yield from _contradictions(params)


def certificate_problems(params: Params) -> Iterator[str]:
    """Yield each reason why the certificates of these params do not fit each other."""
    if params.ca_file and params.tls != "given":
        yield "ca_file is for tls: given; remove it"
    if params.acm_certificate_arn and params.tls == "off":
        yield "acm_certificate_arn needs tls: own-ca or given, since the pods are asked by TLS as well"
    if params.acm_certificate_arn and not (params.keycloak_host and params.gateway_host):
        yield "acm_certificate_arn needs keycloak_host and gateway_host, the names that it is for"


def _ranges_problems(params: Params) -> Iterator[str]:
    families: dict[int, list[int]] = {}  # the lengths of the prefixes, for IPv4 and IPv6
    for text in params.load_balancer_source_ranges:
        try:
            network = ipaddress.ip_network(text)
            families.setdefault(network.version, []).append(network.prefixlen)
        except ValueError as error:
            yield f"load_balancer_source_ranges must be networks such as 203.0.113.0/24; {error}"
    if any(0 in lengths and len(lengths) > 1 for lengths in families.values()):
        yield "load_balancer_source_ranges holds everybody (/0) beside others, which then mean nothing; remove one"
    if 6 in families and params.load_balancer_controller == IN_TREE:
        yield f"load_balancer_source_ranges has IPv6, which the in-tree controller refuses; remove it, or take {LBC}"


def _contradictions(params: Params) -> Iterator[str]:
    """Yield the annotation that contradicts the params."""
    service = {"spec": {"ports": [{"port": 80}, {"port": TLS}]}}
    annotations = service_annotations(service, params, of_gateway=True)
    other = [key for key, value in params.load_balancer_annotations.items() if annotations.get(key, value) != value]
    if other:
        yield f"load_balancer_annotations says {other[0]} otherwise than the params do; remove it there"
