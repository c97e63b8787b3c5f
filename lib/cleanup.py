"""Step 99: what the runbook made, and taking it away in an order that leaves nothing behind."""

from __future__ import annotations

import pandas as pd

from lib import aws, clusters, eks, istio, mesh, network, plan
from lib.checks import wait
from lib.errors import RunbookError
from lib.kube import MANAGER
from lib.probes import worlds
from lib.probes.model import HARDENED
from lib.run import Run
from lib.why import labs

SECURITY = "security.istio.io/v1"


def inventory(run: Run) -> pd.DataFrame:
    """Return what is there of what the runbook makes: objects of the cluster, and of the account."""
    return pd.DataFrame([*_in_cluster(run), *_in_account(run)], columns=["where", "kind", "name"])


def delete_objects(run: Run) -> None:
    """Delete the policies, then the namespaces with all that is in them, then Istio, and wait until they are gone."""
    if not _reachable(run):
        return
    for kind in ("AuthorizationPolicy", "RequestAuthentication", "PeerAuthentication"):
        for thing in _managed(run, SECURITY, kind):
            run.delete({"apiVersion": SECURITY, "kind": kind, **thing})
    for namespace in _namespaces(run):
        run.delete({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    for api_version, kind in _CLUSTER_WIDE:
        for thing in _managed(run, api_version, kind):
            run.delete({"apiVersion": api_version, "kind": kind, **thing})
    wait("the runbook's objects gone", lambda: _in_cluster(run), lambda left: not left, deadline=run.params.deadline)


def delete_cluster(run: Run) -> None:
    """Delete node group, cluster, network and roles of the EKS environment; an existing cluster is left alone."""
    if run.params.cluster_source == "existing":
        return
    plan.check_account(run)
    service, name, limit = run.aws("eks"), run.params.cluster_name, run.params.deadline
    run.changed("node group", clusters.NODE_GROUP, eks.delete_node_group(service, name, clusters.NODE_GROUP, run.tags))
    eks.wait_node_group_gone(service, name, clusters.NODE_GROUP, limit)
    run.changed("cluster", name, eks.delete_cluster(service, name, run.tags))
    eks.wait_cluster_gone(service, name, limit)
    run.changed("network", name, network.delete_network(run.aws("ec2"), run.tags))
    for role in clusters.roles(name):
        run.changed("role", role, aws.delete_role(run.aws("iam"), role, run.tags))
    run.params.kubeconfig.unlink(missing_ok=True)


_CLUSTER_WIDE = [
    ("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicyBinding"),
    ("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicy"),
    ("admissionregistration.k8s.io/v1", "MutatingWebhookConfiguration"),
    ("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration"),
    ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding"),
    ("rbac.authorization.k8s.io/v1", "ClusterRole"),
    ("apiextensions.k8s.io/v1", "CustomResourceDefinition"),
]


def _namespaces(run: Run) -> list[str]:
    probed = (worlds.NAMESPACE, worlds.STRANGERS, HARDENED, labs.HOME)
    wanted = (*probed, run.params.namespace, mesh.KEYCLOAK, istio.ROOT_NAMESPACE)
    return [name for name in wanted if _is_ours(run.cluster.find("v1", "Namespace", name))]


def _managed(run: Run, api_version: str, kind: str) -> list[dict]:
    found = [thing for thing in run.cluster.items(api_version, kind) if _is_ours(thing)]
    return [{"metadata": {key: thing["metadata"].get(key) for key in ("name", "namespace")}} for thing in found]


def _is_ours(thing: dict | None) -> bool:
    fields = (thing or {}).get("metadata", {}).get("managedFields", [])
    return any(entry.get("manager") == MANAGER and entry.get("operation") == "Apply" for entry in fields)


def _in_cluster(run: Run) -> list[tuple[str, str, str]]:
    if not _reachable(run):
        return []
    wide = [
        ("cluster", kind, thing["metadata"]["name"])
        for api, kind in _CLUSTER_WIDE
        for thing in _managed(run, api, kind)
    ]
    return [("cluster", "Namespace", name) for name in _namespaces(run)] + wide


def _in_account(run: Run) -> list[tuple[str, str, str]]:
    if run.params.cluster_source == "existing":
        return []
    name, found = run.params.cluster_name, []
    listed = [one for page in run.aws("eks").get_paginator("list_clusters").paginate() for one in page["clusters"]]
    found += [("account", "cluster", one) for one in listed if one == name]
    wanted = [{"Name": f"tag:{key}", "Values": [value]} for key, value in run.tags.items()]
    vpcs = run.aws("ec2").describe_vpcs(Filters=wanted)["Vpcs"]
    found += [("account", "vpc", vpc["VpcId"]) for vpc in vpcs]
    names = {
        role["RoleName"] for page in run.aws("iam").get_paginator("list_roles").paginate() for role in page["Roles"]
    }
    return found + [("account", "role", role) for role in clusters.roles(name) if role in names]


def _reachable(run: Run) -> bool:
    try:
        return run.cluster.ready()
    except RunbookError:
        return False
