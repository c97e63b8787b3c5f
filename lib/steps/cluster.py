"""Step 01: the EKS cluster with all that it needs, or the one that a kubeconfig names."""

from __future__ import annotations

import sys

import pandas as pd

from lib.aws import (
    access_entries,
    addons,
    clusters,
    control_plane,
    iam_roles,
    kubeconfig,
    launch_template,
    node_groups,
    session,
)
from lib.kubernetes import cluster as kubernetes_cluster
from lib.kubernetes.status import is_ready
from lib.params import ROOT
from lib.run import Run
from lib.steps import cluster_network

NODE_GROUP = "workers"
CLUSTER_POLICIES = ["arn:aws:iam::aws:policy/AmazonEKSClusterPolicy"]
NODE_POLICIES = [
    "arn:aws:iam::aws:policy/AmazonEKSWorkerNodePolicy",
    "arn:aws:iam::aws:policy/AmazonEKS_CNI_Policy",
    "arn:aws:iam::aws:policy/AmazonEC2ContainerRegistryReadOnly",
]


DRIVER_POLICIES = ["arn:aws:iam::aws:policy/service-role/AmazonEBSCSIDriverPolicy"]
LOOK, LOOK_HERE = 15, 1  # seconds between two looks at what takes AWS minutes, and a local endpoint seconds


def state(run: Run) -> pd.DataFrame:
    """Return what there is now: for EKS your identity and the account's clusters, else the API server."""
    if run.params.cluster_source == "existing":
        return pd.DataFrame(
            [("API server", run.cluster.host), ("version", run.cluster.version())], columns=["what", "now"]
        )
    who = session.whoami(run.aws("sts"))
    with session.aws_errors():
        there = session.paginate(run.aws("eks"), "list_clusters", "clusters")
    rows = [("you", who["arn"]), ("account", who["account"]), ("clusters", ", ".join(there) or "none")]
    return pd.DataFrame(rows, columns=["what", "now"])


def ensure(run: Run) -> pd.DataFrame:
    """Create or update roles, network, cluster and node group, and wait until they are active; return what each was."""
    if run.params.cluster_source == "eks":
        _ensure_eks(run)
    return run.recent()


def ensure_kubeconfig(run: Run) -> str:
    """Write .kube/<env> for the cluster; return the line that a shell needs for kubectl."""
    if run.params.cluster_source == "existing":
        return f"your own kubeconfig, context {run.params.kube_context or '(the current one)'}"
    here, found = run.params, run.aws("eks").describe_cluster(name=run.params.cluster_name)["cluster"]
    action = kubeconfig.write_kubeconfig(
        here.kubeconfig,
        found["name"],
        found["endpoint"],
        found["certificateAuthority"]["data"],
        python=sys.executable,
        root=ROOT,
        region=here.region,
        endpoint_url=here.aws_endpoint_url,
        profile=here.aws_profile,
        credentials_file=here.aws_credentials_file,
    )
    run.changed("kubeconfig", here.env, action)
    if action == "changed":
        run.forget_cluster()  # what this step has looked at until now may have been another one, that is gone
    return f"export KUBECONFIG={here.kubeconfig.relative_to(ROOT)}"


def check(run: Run) -> None:
    """Record whether the cluster answers to this identity and its nodes are ready, and what it is."""
    run.check_ready("API server ready", True, run.cluster.ready)
    wanted = run.params.node_count if run.params.cluster_source == "eks" and not run.params.aws_endpoint_url else 1
    run.check_ready(f"nodes Ready, at least {wanted}", True, lambda: ready_nodes(run.cluster) >= wanted)
    if run.params.cluster_source == "eks":
        run.check(
            "Kubernetes version", run.params.kubernetes_version, ".".join(run.cluster.version()[1:].split(".")[:2])
        )
        found = run.aws("eks").describe_cluster(name=run.params.cluster_name)["cluster"]
        run.fact("cluster_arn", found["arn"])
    run.fact("endpoint", run.cluster.host)
    run.fact("kubernetes", run.cluster.version())
    run.fact("kube_system_uid", run.cluster.get("v1", "Namespace", "kube-system")["metadata"]["uid"])


def access_entry_table(run: Run) -> pd.DataFrame:
    """Return who may use the cluster's API: principal, type, groups, policies; empty where it is not EKS's to say."""
    if run.params.cluster_source == "existing":
        return pd.DataFrame(columns=access_entries.COLUMNS)
    service = run.aws("eks")
    with session.aws_errors():
        found = service.describe_cluster(name=run.params.cluster_name)["cluster"]
    return pd.DataFrame(access_entries.list_entries(service, found), columns=access_entries.COLUMNS)


def addon_table(run: Run) -> pd.DataFrame:
    """Return the add-ons of the params as EKS tells of them: version, status, who made them, what ails them."""
    rows = []
    for name in run.params.addons if run.params.cluster_source == "eks" else ():
        found = addons.find_addon(run.aws("eks"), run.params.cluster_name, name)
        rows.append(addons.row(found) if found else (name, "", "not known", "", ""))
        run.fact(f"add-on {name}", " ".join(filter(None, rows[-1][1:4])))
    return pd.DataFrame(rows, columns=addons.COLUMNS)


def ready_nodes(cluster: kubernetes_cluster.Cluster) -> int:
    """Return how many nodes say they are Ready."""
    return sum(is_ready(node) for node in cluster.items("v1", "Node"))


def cluster_roles(name: str) -> dict[str, tuple[str, list[str]]]:
    """Return, by role name, the service that assumes it and its managed policies."""
    return {
        f"{name}-cluster": ("eks.amazonaws.com", CLUSTER_POLICIES),
        f"{name}-nodes": ("ec2.amazonaws.com", NODE_POLICIES),
    }


def addon_roles(name: str) -> dict[str, tuple[str, list[str]]]:
    """Return the same of roles that pods of add-ons have, where the params name those: the EBS CSI driver's."""
    return {f"{name}-ebs-csi": (iam_roles.POD_IDENTITY, DRIVER_POLICIES)}


def poll_interval(run: Run) -> dict[str, float]:
    """Return the pause between two looks at what takes long, as an option for lib.eks's waits."""
    return {"pause": LOOK_HERE if run.params.aws_endpoint_url else LOOK}


def template_name(cluster: str) -> str:
    """Return the name of the launch template of a cluster's nodes."""
    return f"{cluster}-{NODE_GROUP}"


def _ensure_eks(run: Run) -> None:
    here, service = run.params, run.aws("eks")
    name, limit = here.cluster_name, here.deadline
    pause = poll_interval(run)
    wishes = control_plane.ControlPlaneConfig.of(here)
    given = cluster_network.check_existing(run, fresh=not clusters.find_cluster(service, name))
    cluster_role, node_role = _ensure_roles(run, cluster_roles(name))
    subnets, node_subnets = cluster_network.ensure(run, given)
    about = {"reach": wishes.reach, "more": wishes.creating, "deadline": limit, **pause}
    _, action = clusters.ensure_cluster(
        service, name, here.kubernetes_version, cluster_role, subnets, run.tags, **about
    )
    run.changed("cluster", name, action)
    cluster = clusters.wait_cluster_active(service, name, limit, **pause)
    cluster, action = control_plane.ensure(service, cluster, wishes, limit, **pause)
    run.changed("control plane", name, action)
    access_entries.ensure_entries(service, cluster, here.access_entries, run.tags, run.changed)
    _ensure_addons(run, cluster, limit, pause)
    _ensure_nodes(run, node_role, node_subnets, pause)
    clusters.wait_node_group_active(service, name, NODE_GROUP, limit, **pause)
    for addon in here.addons:  # some want nodes to be ACTIVE
        addons.wait_addon_active(service, name, addon, limit, **pause)


def _ensure_nodes(run: Run, role: str, subnets: list[str], pause: dict) -> None:
    here, name = run.params, template_name(run.params.cluster_name)
    data = launch_template.template_data(here.node_disk_gib, here.node_ami_type, name, run.tags)
    template, action = launch_template.ensure_template(run.aws("ec2"), name, data, run.tags)
    run.changed("launch template", name, action)
    _, action = node_groups.ensure_node_group(
        run.aws("eks"), here.cluster_name, NODE_GROUP, role, subnets, node_groups.NodeGroupConfig.of(here), run.tags,
        template=template, version=here.kubernetes_version, deadline=here.deadline, **pause,
    )  # fmt: skip
    run.changed("node group", NODE_GROUP, action)


def _ensure_roles(run: Run, wanted: dict[str, tuple[str, list[str]]]) -> list[str]:
    arns = []
    for name, (principal, policies) in wanted.items():
        role, action = iam_roles.ensure_role(run.aws("iam"), name, principal, policies, run.tags)
        arns.append(role["Arn"])
        run.changed("role", name, action)
    return arns


def _ensure_addons(run: Run, cluster: dict, limit: float, pause: dict) -> None:
    here, role = run.params, ""
    for name in sorted(here.addons, key=lambda one: one != addons.POD_IDENTITY_AGENT):  # by whom others get their roles
        if name == addons.EBS_CSI_DRIVER:
            (role,) = _ensure_roles(run, addon_roles(here.cluster_name))
        about = (run.aws("eks"), cluster, name, here.addons[name], run.tags, limit)
        _, action = addons.ensure_addon(*about, role if name in addons.SERVICE_ACCOUNTS else "", **pause)
        run.changed("add-on", name, action)
