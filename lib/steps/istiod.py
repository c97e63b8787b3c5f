"""Step 02: istiod and the ingress gateway, of Istio's own kinds or of the Gateway API, and checks of what they do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
import yaml

from lib import polling
from lib.aws import clusters, security_groups
from lib.errors import RunbookError
from lib.istio import gateway_api, installation, istioctl
from lib.kubernetes import manifests, service_annotations
from lib.names import ISTIO_INGRESS, LOGIN
from lib.run import MANIFESTS, Run
from lib.steps import clean_up, gateway_tls

DEPRECATED = "authentication.istio.io/v1alpha1"  # removed in Istio 1.6
KINDS = ["MeshPolicy", "Policy"]  # of the article
NO_INGRESS = ["components.ingressGateways[0].name=istio-ingressgateway", "components.ingressGateways[0].enabled=false"]
NETWORKING = "networking.istio.io/v1"
FILES = ("keycloak-edge.yaml", "hardened/gateway.yaml")  # gateways, in manifests/ and in manifests/gateway-api/


def objects(run: Run, authority: str) -> list[dict]:
    """Return the objects that `istioctl install` would apply, with the load balancer that the params describe.

    Args:
        run: names istioctl, the images and the settings in its params.
        authority: certificates, as PEM, that istiod trusts in addition to the system's when it fetches keys.
    """
    without = NO_INGRESS if run.params.gateway_api == installation.GATEWAY_API else []
    return service_annotations.gateway(_manifest(run, authority, without), run.params)


def summary(changes: pd.DataFrame) -> pd.DataFrame:
    """Return how many objects of each kind were created, changed or left unchanged."""
    return changes.groupby(["kind", "action"]).size().rename("objects").reset_index()


def ensure_gateway(run: Run) -> pd.DataFrame:
    """Delete the gateways of the kinds that `gateway_api` does not name; make the ingress gateway of the Gateway API.

    Istio's own ingress gateway is among `objects`. The Gateway API needs its definitions and a Gateway. istiod makes a
    Deployment, a Service and a ServiceAccount of it.

    Returns:
        The changed objects.

    Raises:
        RunbookError: the cluster lacks the Gateway API's definitions, and the params name no file with them.
    """
    if run.params.gateway_api == installation.ISTIO:
        if run.cluster.find("v1", "Namespace", ISTIO_INGRESS):
            _delete_gateway_api(run)
        return run.recent()
    file = run.params.gateway_api_crds
    defined = run.apply(definitions(Path(file).expanduser()) if file else [])
    accepted = lambda: run.cluster.find(gateway_api.API, "GatewayClass", "istio")  # noqa: E731
    fix = "install the Gateway API's CRDs, or set gateway_api_crds to them; istiod then makes this GatewayClass"
    polling.wait("the GatewayClass istio", accepted, deadline=run.params.deadline, fix=fix)
    gateway = run.apply(gateway_tls.gateway(run))
    old = installation.INGRESS[installation.ISTIO]
    if run.cluster.find("v1", "Service", old.name, old.namespace):
        _delete_istios(run)
    return pd.concat([defined, gateway, run.recent()], ignore_index=True)


def wait(run: Run) -> None:
    """Wait until istiod is rolled out."""
    run.cluster.wait_rolled_out("Deployment", "istiod", installation.ROOT_NAMESPACE, run.params.deadline)


def _manifest(run: Run, authority: str, further: Sequence[str] = ()) -> list[dict]:
    params = run.params
    settings = [*params.istio_settings, *further]
    return istioctl.manifest(params.istioctl, params.istio_hub, params.istio_tag, settings, authority)


def definitions(path: Path) -> list[dict]:
    """Return the CustomResourceDefinitions of a file, or of the YAML files of a folder."""
    files = sorted(path.glob("*.yaml")) if path.is_dir() else [path]
    try:
        found = [obj for file in files for obj in yaml.load_all(file.read_text(), yaml.CSafeLoader) if obj]
    except OSError as error:
        raise RunbookError(f"gateway_api_crds: {error}. Name a file that exists, or remove the line.") from None
    return [obj for obj in found if obj["kind"] == manifests.DEFINITION]


def _delete_istios(run: Run) -> None:
    """Delete the gateways and routes of Istio's own kinds; the ingress gateway's Service, which tells of them, last."""
    for kind in ("VirtualService", "Gateway"):
        _delete_managed(run, NETWORKING, kind, but=LOGIN)  # its login is a filter of a gateway of Istio's own kind
    pairs = [(manifests.load(MANIFESTS / file), manifests.load(MANIFESTS / "gateway-api" / file)) for file in FILES]
    pairs.append((_manifest(run, ""), _manifest(run, "", NO_INGRESS)))
    for old, new in pairs:
        kept = {_key(one) for one in new}
        gone = [
            one for one in old if _key(one) not in kept and not one["apiVersion"].startswith("networking.istio.io/")
        ]
        for one in sorted(gone, key=lambda one: one["kind"] == "Service"):
            run.delete(one)


def _delete_gateway_api(run: Run) -> None:
    """Delete routes and Gateways, the ingress gateway's namespace last.

    The definitions stay: with them goes the GatewayClass, which istiod does not make again before it restarts.
    """
    for kind in ("HTTPRoute", "ReferenceGrant", "Gateway"):
        _delete_managed(run, gateway_api.API, kind)
    run.delete({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": ISTIO_INGRESS}})


def _delete_managed(run: Run, api_version: str, kind: str, but: str = "") -> None:
    """Delete the runbook's objects of a kind, except those of the namespace `but`."""
    for one in clean_up.managed(run, api_version, kind):
        if not but or one["metadata"]["namespace"] != but:
            run.delete({"apiVersion": api_version, "kind": kind, **one})


def _key(obj: Mapping) -> tuple[str, str, str]:
    return obj["kind"], obj["metadata"].get("namespace", ""), obj["metadata"]["name"]


def check_version(run: Run) -> None:
    """Record whether istiod has the image that the params name, and whether istioctl has istiod's version."""
    image = run.cluster.pod("app=istiod", installation.ROOT_NAMESPACE)["spec"]["containers"][0]["image"]
    run.check("istiod's image", f"{run.params.istio_hub}/pilot:{run.params.istio_tag}", image)
    run.check("istioctl's version is istiod's", istioctl.version(run.params.istioctl), run.params.istio_tag)
    run.fact("istiod", image)


def check_injection(run: Run) -> None:
    """Record whether the API server can reach istiod on the nodes, and whether a pod would get a sidecar."""
    if run.params.cluster_source == "eks":
        cluster = clusters.get_cluster(run.aws("eks"), run.params.cluster_name)
        group = cluster["resourcesVpcConfig"]["clusterSecurityGroupId"]
        closed = security_groups.closed_ports(run.aws("ec2"), group, installation.PORTS)
        fix = f"add a rule to {group} that lets it in from itself: without 15017 no pod gets a sidecar"
        name = f"closed ports in the cluster's security group, of {installation.PORTS}"
        run.check(name, [], closed, fix if closed else "")
    fix = "let the control plane reach the nodes' port 15017 (their security group), and see istiod's log"
    run.check_ready(
        "a pod gets its sidecar (dry run)", True, lambda: installation.injects_sidecar(run.cluster), why=lambda: fix
    )


def check_old_kinds(run: Run) -> None:
    """Record whether the API server no longer knows the kinds that the article applies."""
    gone = [kind for kind in KINDS if run.cluster.find(DEPRECATED, kind, "default") is None]
    run.check("the article's kinds are gone", KINDS, gone, f"Istio 1.6 removed {DEPRECATED}")
