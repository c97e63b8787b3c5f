"""The installed Istio: its root namespace, ingress gateway and trust domain, and whether it injects sidecars."""

from __future__ import annotations

from typing import NamedTuple, TypedDict

from lib.istio import mesh, proxy
from lib.kubernetes.cluster import Cluster
from lib.names import HARDENED, ISTIO_INGRESS, ISTIO_SYSTEM, KEYCLOAK_EDGE

ROOT_NAMESPACE = ISTIO_SYSTEM
GATEWAY = "istio-ingressgateway"  # the ingress gateway's Service, Deployment and ServiceAccount
PORTS = (15012, 15017)  # istiod's ports: for the proxies, and for the API server, which calls the injection webhook
JWKS_CA, JWKS_CA_KEY = "pilot-jwks-extra-cacerts", "extra.pem"  # ConfigMap: CAs that istiod trusts when it fetches keys


class GatewayService(NamedTuple):
    """A gateway's Service of type LoadBalancer, and its Deployment."""

    name: str
    namespace: str
    deployment: str


# By the kinds that make the gateways. istiod names what it makes of a Gateway <Gateway>-<GatewayClass>.
ISTIO, GATEWAY_API = "istio", "gateway-api"
INGRESS = {
    ISTIO: GatewayService(GATEWAY, ROOT_NAMESPACE, GATEWAY),
    GATEWAY_API: GatewayService("httpbin-gateway-istio", ISTIO_INGRESS, "httpbin-gateway-istio"),
}
KEYCLOAK_GATEWAY = {
    ISTIO: GatewayService("keycloak-http", KEYCLOAK_EDGE, "gateway"),
    GATEWAY_API: GatewayService("keycloak-istio", KEYCLOAK_EDGE, "keycloak-istio"),
}
HARDENED_GATEWAY = {
    ISTIO: GatewayService("gateway", HARDENED, "gateway"),
    GATEWAY_API: GatewayService("gateway-istio", HARDENED, "gateway-istio"),
}


class Ingress(TypedDict):
    """The live ingress gateway; a Gateway selects `labels`."""

    namespace: str
    account: str
    labels: dict[str, str]


def ingress(cluster: Cluster, service: GatewayService = INGRESS[ISTIO]) -> Ingress:
    """Return the live ingress gateway's namespace, service account and labels.

    They come from the pod behind its Service, because charts differ: Helm's labels the pod `istio: ingress`.
    """
    selector = cluster.get("v1", "Service", service.name, service.namespace)["spec"]["selector"]
    pod = cluster.pod(",".join(f"{key}={value}" for key, value in selector.items()), service.namespace)
    pod_labels = pod["metadata"]["labels"]
    labels = {"istio": pod_labels["istio"]} if "istio" in pod_labels else selector
    return {"namespace": service.namespace, "account": pod["spec"]["serviceAccountName"], "labels": labels}


def injects_sidecar(cluster: Cluster) -> bool:
    """Return whether a pod that asks for a sidecar gets one; a dry run, so the cluster keeps no pod."""
    metadata = {"name": "asks-for-a-sidecar", "namespace": "default", "labels": {"sidecar.istio.io/inject": "true"}}
    spec = {"containers": [{"name": "one", "image": "none"}]}
    return proxy.has_proxy(cluster.dry_run({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}))


def trust_domain(cluster: Cluster) -> str:
    """Return the mesh's trust domain, the first part of each principal."""
    return mesh.read(cluster).trust_domain
