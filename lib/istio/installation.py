"""The installed Istio: its root namespace, ingress gateway and trust domain, and whether it injects sidecars."""

from __future__ import annotations

from typing import Any, TypedDict

import yaml

from lib.istio import proxy
from lib.kubernetes.cluster import Cluster
from lib.names import ISTIO_SYSTEM

ROOT_NAMESPACE = ISTIO_SYSTEM
GATEWAY = "istio-ingressgateway"  # the ingress gateway's Service, Deployment and ServiceAccount
PORTS = (15012, 15017)  # istiod's ports: for the proxies, and for the API server, which calls the injection webhook
JWKS_CA, JWKS_CA_KEY = "pilot-jwks-extra-cacerts", "extra.pem"  # ConfigMap: CAs that istiod trusts when it fetches keys


class Ingress(TypedDict):
    """The live ingress gateway; a Gateway selects `labels`."""

    namespace: str
    account: str
    labels: dict[str, str]


def ingress(cluster: Cluster) -> Ingress:
    """Return the live ingress gateway's namespace, service account and labels.

    They come from the pod behind its Service, because charts differ: Helm's labels the pod `istio: ingress`.
    """
    selector = cluster.get("v1", "Service", GATEWAY, ROOT_NAMESPACE)["spec"]["selector"]
    pod = cluster.pod(",".join(f"{key}={value}" for key, value in selector.items()), ROOT_NAMESPACE)
    pod_labels = pod["metadata"]["labels"]
    labels = {"istio": pod_labels["istio"]} if "istio" in pod_labels else selector
    return {"namespace": ROOT_NAMESPACE, "account": pod["spec"]["serviceAccountName"], "labels": labels}


def ingress_selector(cluster: Cluster) -> str:
    """Return the live ingress gateway's labels as a selector."""
    return ",".join(f"{key}={value}" for key, value in ingress(cluster)["labels"].items())


def injects_sidecar(cluster: Cluster) -> bool:
    """Return whether a pod that asks for a sidecar gets one; a dry run, so the cluster keeps no pod."""
    metadata = {"name": "asks-for-a-sidecar", "namespace": "default", "labels": {"sidecar.istio.io/inject": "true"}}
    spec = {"containers": [{"name": "one", "image": "none"}]}
    return proxy.has_proxy(cluster.dry_run({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}))


def trust_domain(cluster: Cluster) -> str:
    """Return the mesh's trust domain, the first part of each principal."""
    mesh: dict[str, Any] = yaml.safe_load(cluster.get("v1", "ConfigMap", "istio", ROOT_NAMESPACE)["data"]["mesh"])
    return mesh.get("trustDomain") or "cluster.local"
