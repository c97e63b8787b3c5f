"""Istio's Gateways as Gateways of the Gateway API, in the namespace of their pods.

istiod makes the pods and the Service of such a Gateway. So the gateway's policies, certificates and the policies of its
whole namespace keep their place only if the Gateway is where the old pods were.
Source: https://istio.io/latest/docs/tasks/traffic-management/ingress/gateway-api/
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from lib.errors import LegacyError
from lib.gateway_api import exposure
from lib.gateway_api.exposure import PROXY_CONFIG
from lib.gateway_api.read import Gateway, Server
from lib.istio import routes
from lib.istio.gateway_api import API
from lib.legacy.write import Translated

CLASS = "istio"
PODS_OF = ("Deployment", "DaemonSet", "StatefulSet")
PLAIN = ("HTTP", "HTTP2", "GRPC")
OWN = ("sidecar.istio.io/", "istio.io/", "service.istio.io/", "security.istio.io/", "gateway.networking.k8s.io/",
       "pod-template-hash", "controller-revision-hash")  # labels that new pods do not keep  # fmt: skip
REVISION = "istio.io/rev"
AS_IS = "experimental.istio.io/disable-gateway-port-translation"
TLS_MODE = "gateway.istio.io/tls-terminate-mode"
NAMESPACE_NAME = "kubernetes.io/metadata.name"
REPLACED = (
    "istiod makes a Deployment, a Service and an account {new} of this Gateway. They replace the Deployment {old} with "
    "its Service. Point the hosts' DNS names at the new Service, then delete the old Gateway and objects. Until "
    "then the old Gateway and the old Service select the new pods too, because those keep the old labels."
)
MOVED = "Istio's Gateway was in {old}. This Gateway is where its pods and their policies are, in {new}."
REDIRECT = "httpsRedirect: the Gateway API redirects by a route."
PODS = (
    "Of the old pods only labels and the annotation proxy.istio.io/config are carried over. Compare "
    "the rest (replicas, resources, volumes) with the Deployment that istiod makes."
)
OLD_TLS = "The server took {0}; the Gateway API's listeners take TLS 1.2 or newer."
SEPARATE = "Istio's Gateways {0} share their pods. Each new Gateway has its own pods, Service and address."


@dataclass(frozen=True)
class Old:
    """An Istio Gateway with the workload behind it.

    Attributes:
        name: The Gateway's name; `home` is its namespace.
        home: The namespace of Istio's Gateway.
        spec: Its spec.
        namespace: The namespace of its pods, and of the new Gateway.
        deployment: Its pods' Deployment.
        service: The Service that leads to the pods.
        shared: Whether another Deployment has the pods' service account.
        listeners: Each new listener, with its server and the only namespace that may attach routes ("" for all).
    """

    name: str
    home: str
    spec: Gateway
    namespace: str
    deployment: Mapping
    service: Mapping
    shared: bool = False
    listeners: Sequence[tuple[dict, Server, str]] = field(default_factory=list)

    @property
    def labels(self) -> dict[str, str]:
        """The labels of the old pods."""
        return _labels(self.deployment)

    @property
    def accounts(self) -> tuple[str, str]:
        """The namespace/name of the old and of the new service account."""
        return f"{self.namespace}/{account(self.deployment)}", f"{self.namespace}/{self.name}-{CLASS}"

    def ports(self) -> dict[str, list[str]]:
        """Return the new pods' ports for each of the old ones: they listen at the Service's ports."""
        made: dict[str, list[str]] = {}
        for one in self.service["spec"].get("ports") or []:
            if one.get("protocol", "TCP") == "TCP":
                made.setdefault(str(routes.target(one, [self.pod]) or one["port"]), []).append(str(one["port"]))
        return made

    @property
    def pod(self) -> Mapping:
        """The old pods' template."""
        return self.deployment["spec"]["template"]


def behind(name: str, home: str, spec: Gateway, objects: Sequence[Mapping]) -> Old:
    """Return a Gateway with its workload.

    Raises:
        LegacyError: The files have no Deployment, or several, or no Service for it.
    """
    workloads = [one for one in objects if one["kind"] in PODS_OF]
    pods = [one for one in workloads if spec.selector.items() <= _labels(one).items()]
    wanted = ", ".join(f"{key}={value}" for key, value in spec.selector.items()) or "all pods"
    if len(pods) != 1 or not spec.selector:
        raise LegacyError(
            f"{len(pods)} Deployments have the labels {wanted}, and their namespace decides about policies and "
            "certificates. Give the gateway's Deployment and its Service: kubectl get deployment,service -o yaml."
        )
    space = pods[0]["metadata"]["namespace"]
    services = [
        one
        for one in objects
        if one["kind"] == "Service"
        and one["metadata"]["namespace"] == space
        and (one["spec"].get("selector") or {"": ""}).items() <= _labels(pods[0]).items()
    ]
    if len(services) != 1:
        raise LegacyError(
            f"{len(services)} Services in {space} lead to the gateway's pods, and the Service says who reaches them. "
            "Give exactly that Service."
        )
    old = Old(name, home, spec, space, pods[0], services[0])
    own = account(pods[0])
    same = [one for one in workloads if one["metadata"]["namespace"] == space and account(one) == own]
    _check_ports(old)
    return replace(old, shared=len(same) > 1 or own == "default", listeners=list(_listeners(old)))


def has_labels(old: Old, wanted: Mapping[str, str]) -> bool:
    """Return whether the old pods have all these labels.

    Raises:
        LegacyError: The injector sets one of them, and the Deployment does not show its value.
    """
    labels = old.labels
    if any(labels.get(key, value) != value for key, value in wanted.items()):
        return False
    missing = [key for key in wanted if key not in labels]
    if missing and all(key.startswith(OWN) for key in missing):
        raise LegacyError(
            f"it selects the label {missing[0]}. Istio may set that at the pods of the gateway {old.home}/{old.name}, "
            "and the Deployment does not show it. Select a label of the Deployment's template."
        )
    return not missing


def check_revision(one: Mapping, old: Old) -> None:
    """Raise LegacyError if another revision than that of the gateway's pods reads an object."""
    stated, own = (one["metadata"].get("labels") or {}).get(REVISION, ""), old.labels.get(REVISION, "")
    if stated not in ("", own):
        raise LegacyError(
            f"its label {REVISION}={stated} is not that of the gateway's pods ({own or 'none'}), so it may have no "
            "effect there now. Give the Deployment's template the same label, or remove it here."
        )


def translate(old: Old, others: Iterable[Old]) -> list[Translated]:
    """Return the Gateway, its options, and the redirect to https.

    Raises:
        LegacyError: A server has no equal.
    """
    name, space = old.name, old.namespace
    labels = {key: value for key, value in old.labels.items() if not key.startswith(OWN)}
    notes = [REPLACED.format(new=f"{name}-{CLASS}", old=old.deployment["metadata"]["name"]), PODS]
    notes += [MOVED.format(old=old.home, new=space)] if old.home != space else []
    shared = sorted(f"{one.home}/{one.name}" for one in others if one.deployment is old.deployment)
    notes += [SEPARATE.format(", ".join(shared))] if len(shared) > 1 else []
    config = (old.pod["metadata"].get("annotations") or {}).get(PROXY_CONFIG, "")
    infrastructure, made = exposure.infrastructure(name, space, old.service, labels, config)
    versions = [server.tls.min_protocol_version for _, server, _ in old.listeners if server.tls]
    warnings = [OLD_TLS.format(one) for one in versions if one in ("TLSV1_0", "TLSV1_1")]
    spec = {
        "gatewayClassName": CLASS,
        "infrastructure": infrastructure,
        "listeners": [listener for listener, _, _ in old.listeners],
    }
    gateway = of("Gateway", name, space, {"spec": spec})
    if revision := old.labels.get(REVISION):
        gateway["metadata"]["labels"] = {REVISION: revision}
    made.append(Translated(gateway, notes, list(dict.fromkeys(warnings))))
    redirects = [listener["name"] for listener, server, _ in old.listeners if server.tls and server.tls.https_redirect]
    if redirects:
        made.append(Translated(to_https(name, space, redirects), [REDIRECT]))
    return made


def to_https(name: str, space: str, sections: Iterable[str], hosts: Sequence[str] = ()) -> dict:
    """Return the route that redirects these listeners of a Gateway to https, for these hosts or for all."""
    parents = [{"name": name, "sectionName": one} for one in sections]
    filters = [{"type": "RequestRedirect", "requestRedirect": {"scheme": "https", "statusCode": 301}}]
    route = {"parentRefs": parents, **({"hostnames": hosts} if hosts else {}), "rules": [{"filters": filters}]}
    return of("HTTPRoute", f"{name}-to-https", space, {"spec": route})


def account(deployment: Mapping) -> str:
    """Return the service account of a Deployment's pods."""
    return deployment["spec"]["template"]["spec"].get("serviceAccountName", "default")


def of(kind: str, name: str, namespace: str, content: Mapping, api: str = API) -> dict:
    """Return an object of the Gateway API, or of `api`."""
    return {"apiVersion": api, "kind": kind, "metadata": {"name": name, "namespace": namespace}, **content}


def _labels(deployment: Mapping) -> dict[str, str]:
    return deployment["spec"]["template"]["metadata"].get("labels") or {}


def _check_ports(old: Old) -> None:
    published = {port for found in old.ports().values() for port in found}
    for port in [str(server.port.number) for server in old.spec.servers]:
        if port not in published or AS_IS in (old.service["metadata"].get("labels") or {}):
            raise LegacyError(
                f"the Service {old.service['metadata']['name']} does not publish the server's port {port}, and istiod "
                "would. Write the Service's port into the server, or leave that server with Istio's Gateway."
            )


def _listeners(old: Old) -> Iterable[tuple[dict, Server, str]]:
    """Yield a listener for each host of each server, with its server and the namespace that may attach routes."""
    taken = set()
    for server in old.spec.servers:
        for number, stated in enumerate(server.hosts):
            space, _, host = stated.rpartition("/")
            space = old.home if space == "." else "" if space == "*" else space
            key = server.port.number, host
            if key in taken or routes.is_address(host):
                raise LegacyError(f"port {key[0]} has the host {host} twice, or it is an address. Write it once.")
            taken.add(key)
            name = (server.port.name or f"port-{server.port.number}") + (f"-{number}" if number else "")
            yield _listener(old, server, name, host, space), server, space


def _listener(old: Old, server: Server, name: str, host: str, space: str) -> dict:
    redirects = bool(server.tls and server.tls.https_redirect)
    made: dict = {"name": name, "port": server.port.number, "protocol": "HTTP"}
    if host != "*":
        made["hostname"] = host
    if server.port.protocol == "HTTPS" and server.tls and server.tls.mode and not redirects:
        made |= {"protocol": "HTTPS", "tls": _tls(server)}
    elif server.port.protocol not in PLAIN or (server.tls and server.tls.mode):
        raise LegacyError(
            f"port {server.port.number} speaks {server.port.protocol}: only HTTP, and HTTPS that ends at the gateway, "
            "become routes of HTTP. Leave that server with Istio's Gateway."
        )
    allowed: dict = {"from": "All"}
    if redirects or space == old.namespace:
        allowed = {"from": "Same"}
    elif space:
        allowed = {"from": "Selector", "selector": {"matchLabels": {NAMESPACE_NAME: space}}}
    return {**made, "allowedRoutes": {"namespaces": allowed}}


def _tls(server: Server) -> dict:
    tls = server.tls
    assert tls
    made: dict = {"mode": "Terminate"}
    if tls.mode == "ISTIO_MUTUAL":
        return {**made, "options": {TLS_MODE: tls.mode}}
    if not tls.credential_name:
        raise LegacyError("a certificate in the pods' files has no equal. Put it into a Secret: credentialName.")
    made["certificateRefs"] = [{"name": tls.credential_name}]
    return made if tls.mode == "SIMPLE" else {**made, "options": {TLS_MODE: tls.mode}}
