"""Step 99: what the runbook made, and taking it away in an order that leaves nothing behind."""

from __future__ import annotations

import os

import pandas as pd

from lib.aws import clusters, iam_roles, launch_template, leftovers, session, tags, vpc
from lib.errors import AwsError, RunbookError
from lib.istio import installation
from lib.kubernetes.cluster import MANAGER
from lib.names import HARDENED, LABS, PROBES, STRANGERS
from lib.polling import until, wait
from lib.run import Run
from lib.steps import authority, cluster, endpoints
from lib.steps import guard as guards

VANISH = 600  # seconds that the cluster's controllers are given to take away what they made
SECURITY = "security.istio.io/v1"


def inventory(run: Run) -> pd.DataFrame:
    """Return what is there of what the runbook and its cluster made: objects of the cluster, and of the account."""
    return pd.DataFrame([*_in_cluster(run), *_in_account(run)], columns=["where", "kind", "name"])


def guard(run: Run) -> None:
    """Raise AwsError before anything is deleted, unless account and cluster are the ones meant and it is confirmed.

    At a local endpoint nobody is asked for a yes, and an existing cluster's account is none of the runbook's.
    """
    if run.params.cluster_source == "existing":
        return
    guards.check_account(run)
    found = clusters.find_cluster(run.aws("eks"), run.params.cluster_name)
    if found:
        tags.check_owned(f"cluster {found['name']}", found.get("tags", {}), run.tags)
    doomed = _in_account(run)
    if doomed and not guards.is_local(run) and os.environ.get("CONFIRM") != "yes":
        raise AwsError(
            f"expected CONFIRM=yes before {len(doomed)} things are deleted in account {run.params.account_id}, got "
            f"none; see the list above, then say make clean-up ENV={run.params.env} CONFIRM=yes."
        )


def delete_cluster_objects(run: Run) -> None:
    """Delete policies, then namespaces with all that is in them, then Istio, and wait until they are gone.

    Of a cluster that is the runbook's own, all load balancers and volumes go, also those that others asked for. It is
    deleted next, so what will not go there is left to the account's part.
    """
    guard(run)
    own = run.params.cluster_source == "eks"
    if own:
        _ensure_kubeconfig(run)
    if not _reachable(run):
        return
    for kind in ("AuthorizationPolicy", "RequestAuthentication", "PeerAuthentication"):
        for thing in _managed(run, SECURITY, kind):
            run.delete({"apiVersion": SECURITY, "kind": kind, **thing})
    for kind, thing in _costly(run) if own else []:
        run.delete({"apiVersion": "v1", "kind": kind, **thing})
    for namespace in _namespaces(run):
        run.delete({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    for api_version, kind in _CLUSTER_WIDE:
        for thing in _managed(run, api_version, kind):
            run.delete({"apiVersion": api_version, "kind": kind, **thing})
    gone = {"good": lambda left: not left, "deadline": min(run.params.deadline, VANISH)}
    if own:
        until(lambda: [*_in_cluster(run), *_costly(run)], what="the runbook's objects gone", **gone)
    else:
        wait("the runbook's objects gone", lambda: _in_cluster(run), **gone)
        run.params.authority_file.unlink(missing_ok=True)


def delete_load_balancers(run: Run) -> None:
    """Delete the load balancers that Kubernetes made, where it does not do so itself, and wait until they are gone.

    As long as the cluster answers, its controllers are given time; what they leave, or nobody can delete any more, goes
    by the cluster's tags.
    """
    guard(run)
    if run.params.cluster_source == "existing":
        return
    elbv2, ec2, name = run.aws("elbv2"), run.aws("ec2"), run.params.cluster_name
    if _reachable(run):
        left = lambda: [*_balanced(run), *leftovers.volumes(ec2, name)]  # noqa: E731
        leftovers.wait_deleted(left, "load balancers and volumes gone", min(run.params.deadline, VANISH))
    _tell(run, leftovers.delete_load_balancers(elbv2, name, run.params.deadline))


def delete_cluster(run: Run) -> None:
    """Delete node group, cluster, what is left of both, network and roles; an existing cluster is left alone."""
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
    _tell(run, leftovers.delete_leftovers(ec2, name, run.tags, min(limit, VANISH)))
    run.changed("network", name, vpc.delete_network(ec2, run.tags, limit))
    for role in (*cluster.addon_roles(name), *cluster.cluster_roles(name)):
        run.changed("role", role, iam_roles.delete_role(iam, role, run.tags))
    for one in leftovers.identity_providers(iam, run.tags):
        with session.aws_errors():
            iam.delete_open_id_connect_provider(OpenIDConnectProviderArn=one.id)
        run.changed(one.kind, one.name, "deleted")
    for one in _logs(run):
        with session.aws_errors():
            run.aws("logs").delete_log_group(logGroupName=one.id)
        run.changed(one.kind, one.id, "deleted")
    for file in (run.params.kubeconfig, run.params.authority_file):
        file.unlink(missing_ok=True)


def check(run: Run) -> pd.DataFrame:
    """Record whether nothing is left, with the names of what is; return it."""
    left = inventory(run)
    names = "; ".join(f"{row.kind} {row.name}" for row in left.itertuples(index=False))
    advice = "run make clean-up again: it goes on where it was" if names else ""
    run.check("nothing is left", "nothing", names or "nothing", advice)
    return left


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
    probed = (PROBES, STRANGERS, HARDENED, LABS)
    wanted = (
        *probed,
        run.params.namespace,
        endpoints.KEYCLOAK_EDGE,
        endpoints.KEYCLOAK,
        authority.HOME,
        installation.ROOT_NAMESPACE,
    )
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
    service, ec2, iam, name = run.aws("eks"), run.aws("ec2"), run.aws("iam"), run.params.cluster_name
    found = [(kind, name) for kind, one in (("cluster", clusters.find_cluster(service, name)),) if one]
    if found and clusters.find_node_group(service, name, cluster.NODE_GROUP):
        found.append(("node group", cluster.NODE_GROUP))
    made = [*_balanced(run), *leftovers.security_groups(ec2, name), *leftovers.volumes(ec2, name)]
    made += [*leftovers.owned_objects(ec2, run.tags), *leftovers.identity_providers(iam, run.tags), *_logs(run)]
    made += leftovers.interfaces(ec2, name, run.tags)
    found += [(one.kind, " ".join(filter(None, (one.id.rpartition(":")[2], one.name)))) for one in made]
    found += [
        ("role", role)
        for role in (*cluster.addon_roles(name), *cluster.cluster_roles(name))
        if iam_roles.find_role(iam, role)
    ]
    return [("account", *row) for row in found]


def _balanced(run: Run) -> list[leftovers.AccountObject]:
    elbv2, name = run.aws("elbv2"), run.params.cluster_name
    return [*leftovers.load_balancers(elbv2, name), *leftovers.target_groups(elbv2, name)]


def _logs(run: Run) -> list[leftovers.AccountObject]:
    return leftovers.log_groups(run.aws("logs"), run.params.cluster_name) if run.params.delete_log_group else []


def _tell(run: Run, things: list[leftovers.AccountObject]) -> None:
    for one in things:
        run.changed(one.kind, one.name or one.id, "deleted")


def _costly(run: Run) -> list[tuple[str, dict]]:
    """What in the cluster has something in the account that costs money: load balancers and volumes."""
    things = [
        ("Service", thing)
        for thing in run.cluster.items("v1", "Service")
        if thing["spec"].get("type") == "LoadBalancer"
    ]
    things += [("PersistentVolumeClaim", thing) for thing in run.cluster.items("v1", "PersistentVolumeClaim")]
    return [(kind, {"metadata": {key: one["metadata"][key] for key in ("name", "namespace")}}) for kind, one in things]


def _ensure_kubeconfig(run: Run) -> None:
    """A run that was interrupted may have made the cluster and not its kubeconfig."""
    here, found = run.params, clusters.find_cluster(run.aws("eks"), run.params.cluster_name)
    if found and found.get("endpoint") and not here.kubeconfig.exists():
        cluster.ensure_kubeconfig(run)


def _reachable(run: Run) -> bool:
    try:
        return run.cluster.ready()
    except RunbookError:
        return False
