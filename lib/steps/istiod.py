"""Step 02: istiod and the ingress gateway: their objects, and checks of what they do."""

from __future__ import annotations

import pandas as pd

from lib.aws import clusters, security_groups
from lib.istio import installation, istioctl
from lib.kubernetes import service_annotations
from lib.run import Run

DEPRECATED = "authentication.istio.io/v1alpha1"  # removed in Istio 1.6
KINDS = ["MeshPolicy", "Policy"]  # of the article


def objects(run: Run, authority: str) -> list[dict]:
    """Return the objects that `istioctl install` would apply, with the load balancer that the params describe.

    Args:
        run: names istioctl, the images and the settings in its params.
        authority: certificates, as PEM, that istiod trusts in addition to the system's when it fetches keys.
    """
    params = run.params
    manifest = istioctl.manifest(params.istioctl, params.istio_hub, params.istio_tag, params.istio_settings, authority)
    return service_annotations.gateway(manifest, params)


def summary(changes: pd.DataFrame) -> pd.DataFrame:
    """Return how many objects of each kind were created, changed or left unchanged."""
    return changes.groupby(["kind", "action"]).size().rename("objects").reset_index()


def wait(run: Run) -> None:
    """Wait until istiod is rolled out."""
    run.cluster.wait_rolled_out("Deployment", "istiod", installation.ROOT_NAMESPACE, run.params.deadline)


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
