"""Step 99: list what the runbook created, and delete it in an order that leaves nothing behind."""

from __future__ import annotations

import os

import pandas as pd

from lib.aws import clusters, iam_roles, launch_template, leftovers, tags, vpc
from lib.aws.session import aws_errors
from lib.errors import AwsError, RunbookError
from lib.istio import installation, policies
from lib.kubernetes.cluster import MANAGER
from lib.kubernetes.manifests import DEFINITION
from lib.names import HARDENED, ISTIO_INGRESS, KEYCLOAK_EDGE, LABS, LOGIN, PROBES, ROLES, STRANGERS, WATCH
from lib.polling import until, wait
from lib.run import Run
from lib.steps import authority, cluster, endpoints
from lib.steps.guard import check_account, is_local

DELETION_DEADLINE = 600  # seconds that the cluster's controllers get to delete what they created


def inventory(run: Run) -> pd.DataFrame:
    """Return the existing objects of the runbook and its cluster: those in the cluster, and those in the account."""
    return pd.DataFrame([*_in_cluster(run), *_in_account(run)], columns=["where", "kind", "name"])


def guard(run: Run) -> None:
    """Raise AwsError before anything is deleted if the account or the cluster is another, or CONFIRM=yes is missing.

    A local endpoint needs no CONFIRM=yes. For an existing cluster the runbook deletes nothing in the account.
    """
    if run.params.cluster_source == "existing":
        return
    check_account(run)
    found = clusters.find_cluster(run.aws("eks"), run.params.cluster_name)
    if found:
        tags.check_owned(f"cluster {found['name']}", found.get("tags", {}), run.tags)
    if is_local(run) or os.environ.get("CONFIRM") == "yes":
        return
    if doomed := _in_account(run):
        raise AwsError(
            f"expected CONFIRM=yes before {len(doomed)} objects are deleted in account {run.params.account_id}, got "
            f"none; read the list above, then run: make clean-up ENV={run.params.env} CONFIRM=yes."
        )


def delete_cluster_objects(run: Run) -> None:
    """Delete policies, then namespaces with their contents, then Istio, and wait until they are gone.

    In the runbook's own cluster, delete every Service of type LoadBalancer and every volume claim, whoever made it.
    That cluster is deleted next, and the functions for the account delete what remains.
    """
    guard(run)
    own_cluster = run.params.cluster_source == "eks"
    if own_cluster:
        _ensure_kubeconfig(run)
    if not _reachable(run):
        return
    for kind in (policies.RULES, policies.REQUESTS, policies.PEERS):
        for metadata in managed(run, policies.API, kind):
            run.delete({"apiVersion": policies.API, "kind": kind, **metadata})
    for kind, metadata in _billed_objects(run) if own_cluster else []:
        run.delete({"apiVersion": "v1", "kind": kind, **metadata})
    for namespace in _namespaces(run):
        run.delete({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    for api_version, kind in _CLUSTER_WIDE:
        for metadata in managed(run, api_version, kind):
            run.delete({"apiVersion": api_version, "kind": kind, **metadata})
    what, limit = "the runbook's objects gone", min(run.params.deadline, DELETION_DEADLINE)
    if own_cluster:
        until(lambda: [*_in_cluster(run), *_billed_objects(run)], lambda left: not left, deadline=limit, what=what)
    else:
        wait(what, lambda: _in_cluster(run), lambda left: not left, deadline=limit)
        run.params.authority_file.unlink(missing_ok=True)


def delete_load_balancers(run: Run) -> None:
    """Wait until Kubernetes has deleted its load balancers, delete those that remain, and wait until they are gone.

    If the cluster answers, its controllers get DELETION_DEADLINE seconds. The runbook finds the rest by the cluster's
    tags.
    """
    guard(run)
    if run.params.cluster_source == "existing":
        return
    elbv2, ec2, name = run.aws("elbv2"), run.aws("ec2"), run.params.cluster_name
    if _reachable(run):
        left = lambda: [*_load_balancing(run), *leftovers.volumes(ec2, name)]  # noqa: E731
        leftovers.wait_deleted(left, "load balancers and volumes gone", min(run.params.deadline, DELETION_DEADLINE))
    _mark_deleted(run, leftovers.delete_load_balancers(elbv2, name, run.params.deadline))


def delete_cluster(run: Run) -> None:
    """Delete node group, cluster, their leftovers, network and roles; nothing if the cluster is an existing one."""
    guard(run)
    if run.params.cluster_source == "existing":
        return
    service, name, limit = run.aws("eks"), run.params.cluster_name, run.params.deadline
    ec2, iam = run.aws("ec2"), run.aws("iam")
    run.changed(
        "node group", cluster.NODE_GROUP, clusters.delete_node_group(service, name, cluster.NODE_GROUP, run.tags)
    )
    clusters.wait_node_group_gone(service, name, cluster.NODE_GROUP, limit, **cluster.poll_interval(run))
    template = cluster.template_name(name)
    run.changed("launch template", template, launch_template.delete_template(ec2, template, run.tags))
    run.changed("cluster", name, clusters.delete_cluster(service, name, run.tags))
    clusters.wait_cluster_gone(service, name, limit, **cluster.poll_interval(run))
    _mark_deleted(run, leftovers.delete_leftovers(ec2, name, run.tags, min(limit, DELETION_DEADLINE)))
    run.changed("network", name, vpc.delete_network(ec2, run.tags, limit))
    for role in (*cluster.addon_roles(name), *cluster.cluster_roles(name)):
        run.changed("role", role, iam_roles.delete_role(iam, role, run.tags))
    for one in leftovers.identity_providers(iam, run.tags):
        with aws_errors():
            iam.delete_open_id_connect_provider(OpenIDConnectProviderArn=one.id)
        run.changed(one.kind, one.name, "deleted")
    for one in _logs(run):
        with aws_errors():
            run.aws("logs").delete_log_group(logGroupName=one.id)
        run.changed(one.kind, one.id, "deleted")
    for file in (run.params.kubeconfig, run.params.authority_file):
        file.unlink(missing_ok=True)


def check(run: Run) -> pd.DataFrame:
    """Record whether nothing is left, with the names of the remaining objects; return these."""
    left = inventory(run)
    names = "; ".join(f"{row.kind} {row.name}" for row in left.itertuples(index=False))
    advice = "run make clean-up again: it continues where it stopped" if names else ""
    run.check("nothing is left", "nothing", names or "nothing", advice)
    return left


_CLUSTER_WIDE = [
    ("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicyBinding"),
    ("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicy"),
    ("admissionregistration.k8s.io/v1", "MutatingWebhookConfiguration"),
    ("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration"),
    ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding"),
    ("rbac.authorization.k8s.io/v1", "ClusterRole"),
    ("apiextensions.k8s.io/v1", DEFINITION),
]


def _namespaces(run: Run) -> list[str]:
    probed = (PROBES, STRANGERS, HARDENED, LABS, LOGIN, ROLES, WATCH)
    wanted = (
        *probed,
        run.params.namespace,
        KEYCLOAK_EDGE,
        endpoints.KEYCLOAK,
        authority.HOME,
        ISTIO_INGRESS,
        installation.ROOT_NAMESPACE,
    )
    return [name for name in wanted if _is_ours(run.cluster.find("v1", "Namespace", name))]


def managed(run: Run, api_version: str, kind: str) -> list[dict]:
    """Return the objects of a kind that the runbook applied: their metadata's name and namespace."""
    found = [item for item in run.cluster.items(api_version, kind) if _is_ours(item)]
    return [{"metadata": {key: item["metadata"].get(key) for key in ("name", "namespace")}} for item in found]


def _is_ours(manifest: dict | None) -> bool:
    fields = (manifest or {}).get("metadata", {}).get("managedFields", [])
    return any(entry.get("manager") == MANAGER and entry.get("operation") == "Apply" for entry in fields)


def _in_cluster(run: Run) -> list[tuple[str, str, str]]:
    if not _reachable(run):
        return []
    wide = [
        ("cluster", kind, item["metadata"]["name"]) for api, kind in _CLUSTER_WIDE for item in managed(run, api, kind)
    ]
    return [("cluster", "Namespace", name) for name in _namespaces(run)] + wide


def _in_account(run: Run) -> list[tuple[str, str, str]]:
    if run.params.cluster_source == "existing":
        return []
    service, ec2, iam, name = run.aws("eks"), run.aws("ec2"), run.aws("iam"), run.params.cluster_name
    found = [(kind, name) for kind, one in (("cluster", clusters.find_cluster(service, name)),) if one]
    if found and clusters.find_node_group(service, name, cluster.NODE_GROUP):
        found.append(("node group", cluster.NODE_GROUP))
    objects = [*_load_balancing(run), *leftovers.security_groups(ec2, name), *leftovers.volumes(ec2, name)]
    objects += [*leftovers.owned_objects(ec2, run.tags), *leftovers.identity_providers(iam, run.tags), *_logs(run)]
    objects += leftovers.interfaces(ec2, name, run.tags)
    found += [(one.kind, " ".join(filter(None, (one.id.rpartition(":")[2], one.name)))) for one in objects]
    found += [
        ("role", role)
        for role in (*cluster.addon_roles(name), *cluster.cluster_roles(name))
        if iam_roles.find_role(iam, role)
    ]
    return [("account", *row) for row in found]


def _load_balancing(run: Run) -> list[leftovers.AccountObject]:
    elbv2, name = run.aws("elbv2"), run.params.cluster_name
    return [*leftovers.load_balancers(elbv2, name), *leftovers.target_groups(elbv2, name)]


def _logs(run: Run) -> list[leftovers.AccountObject]:
    return leftovers.log_groups(run.aws("logs"), run.params.cluster_name) if run.params.delete_log_group else []


def _mark_deleted(run: Run, objects: list[leftovers.AccountObject]) -> None:
    for one in objects:
        run.changed(one.kind, one.name or one.id, "deleted")


def _billed_objects(run: Run) -> list[tuple[str, dict]]:
    """Return the cluster's objects that AWS bills: Services with a load balancer, and claims for a volume."""
    services = [item for item in run.cluster.items("v1", "Service") if item["spec"].get("type") == "LoadBalancer"]
    found = [("Service", item) for item in services]
    found += [("PersistentVolumeClaim", item) for item in run.cluster.items("v1", "PersistentVolumeClaim")]
    return [(kind, {"metadata": {key: one["metadata"][key] for key in ("name", "namespace")}}) for kind, one in found]


def _ensure_kubeconfig(run: Run) -> None:
    """Write the kubeconfig if an interrupted run created the cluster without it."""
    found = clusters.find_cluster(run.aws("eks"), run.params.cluster_name)
    if found and found.get("endpoint") and not run.params.kubeconfig.exists():
        cluster.ensure_kubeconfig(run)


def _reachable(run: Run) -> bool:
    try:
        return run.cluster.ready()
    except RunbookError:
        return False
