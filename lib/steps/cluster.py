"""Step 01: the EKS cluster and its roles, network, access entries, add-ons and nodes; or an existing cluster.

Each act creates or updates one kind of AWS object; lib/steps/cluster_requests.py shows its requests. With
`cluster_source: existing` the acts do nothing.
"""

from __future__ import annotations

import sys
from typing import Any

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
from lib.params.eks import AddOnName
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
REMOTE_INTERVAL, LOCAL_INTERVAL = 15, 1  # seconds between two reads: AWS takes minutes, a local endpoint seconds

Roles = dict[str, tuple[str, list[str]]]  # by role name: the service that assumes it, ARNs of its managed policies


def state(run: Run) -> pd.DataFrame:
    """Return the current state: on EKS your identity and the account's clusters, else the API server."""
    if run.params.cluster_source == "existing":
        rows = [("API server", run.cluster.host), ("version", run.cluster.version())]
    else:
        identity = session.whoami(run.aws("sts"))
        with session.aws_errors():
            names = session.paginate(run.aws("eks"), "list_clusters", "clusters")
        rows = [("you", identity["arn"]), ("account", identity["account"]), ("clusters", ", ".join(names) or "none")]
    return pd.DataFrame(rows, columns=["what", "now"])


def ensure_roles(run: Run) -> pd.DataFrame:
    """Create or update the IAM roles of the control plane and of the nodes."""
    if run.params.cluster_source == "eks":
        _ensure_roles(run, cluster_roles(run.params.cluster_name))
    return run.recent()


def ensure_network(run: Run) -> pd.DataFrame:
    """Create or update the VPC, or check the existing subnets that the params name."""
    if run.params.cluster_source == "eks":
        exists = clusters.find_cluster(run.aws("eks"), run.params.cluster_name)
        cluster_network.ensure(run, cluster_network.check_existing(run, fresh=not exists))
    return run.recent()


def ensure_cluster(run: Run) -> pd.DataFrame:
    """Create or update the control plane, and wait until it is ACTIVE."""
    if run.params.cluster_source == "existing":
        return run.recent()
    params, eks, pause = run.params, run.aws("eks"), poll_interval(run)
    config = control_plane.ControlPlaneConfig.of(params)
    role = role_arn(run, cluster_role(params.cluster_name))
    subnets, _ = cluster_network.subnet_ids(run)
    _, action = clusters.ensure_cluster(
        eks, params.cluster_name, params.kubernetes_version, role, subnets, run.tags,
        config=config, deadline=params.deadline, **pause,
    )  # fmt: skip
    run.changed("cluster", params.cluster_name, action)
    found = clusters.wait_cluster_active(eks, params.cluster_name, params.deadline, **pause)
    _, action = control_plane.ensure(eks, found, config, params.deadline, **pause)
    run.changed("control plane", params.cluster_name, action)
    return run.recent()


def ensure_access(run: Run) -> pd.DataFrame:
    """Create, update or delete access entries until they are those of the params."""
    if run.params.cluster_source == "eks":
        found = clusters.get_cluster(run.aws("eks"), run.params.cluster_name)
        access_entries.ensure_entries(run.aws("eks"), found, run.params.access_entries, run.tags, run.changed)
    return run.recent()


def ensure_addons(run: Run) -> pd.DataFrame:
    """Create or update the add-ons of the params; Pod Identity comes first, since others get their roles from it."""
    if run.params.cluster_source == "existing":
        return run.recent()
    params, eks = run.params, run.aws("eks")
    found = clusters.get_cluster(eks, params.cluster_name)
    for name in addon_order(run):
        role = ""
        if name == addons.EBS_CSI_DRIVER:
            (role,) = _ensure_roles(run, addon_roles(params.cluster_name))
        _, action = addons.ensure_addon(
            eks, found, name, params.addons[name], run.tags, params.deadline, role, **poll_interval(run)
        )
        run.changed("add-on", name, action)
    return run.recent()


def ensure_nodes(run: Run) -> pd.DataFrame:
    """Create or update launch template and node group, and wait until nodes and add-ons are ACTIVE."""
    if run.params.cluster_source == "existing":
        return run.recent()
    params, eks, pause = run.params, run.aws("eks"), poll_interval(run)
    cluster, template = params.cluster_name, template_name(params.cluster_name)
    launch, action = launch_template.ensure_template(run.aws("ec2"), template, template_data(run), run.tags)
    run.changed("launch template", template, action)
    _, subnets = cluster_network.subnet_ids(run)
    _, action = node_groups.ensure_node_group(
        eks, cluster, NODE_GROUP, role_arn(run, node_role(cluster)), subnets,
        node_groups.NodeGroupConfig.of(params), run.tags,
        template=launch, version=params.kubernetes_version, deadline=params.deadline, **pause,
    )  # fmt: skip
    run.changed("node group", NODE_GROUP, action)
    clusters.wait_node_group_active(eks, cluster, NODE_GROUP, params.deadline, **pause)
    for name in params.addons:  # the pods of some add-ons wait for nodes
        addons.wait_addon_active(eks, cluster, name, params.deadline, **pause)
    return run.recent()


def ensure(run: Run) -> pd.DataFrame:
    """Do all acts of step 01 in order; return what each object was: created, changed or unchanged."""
    if run.params.cluster_source == "eks":
        control_plane.ControlPlaneConfig.of(run.params)  # fails before the first write
        exists = clusters.find_cluster(run.aws("eks"), run.params.cluster_name)
        cluster_network.check_existing(run, fresh=not exists)
    acts = (ensure_roles, ensure_network, ensure_cluster, ensure_access, ensure_addons, ensure_nodes)
    return pd.concat([act(run) for act in acts], ignore_index=True)


def ensure_kubeconfig(run: Run) -> str:
    """Write .kube/<env> for the cluster; return the line that a shell needs for kubectl."""
    params = run.params
    if params.cluster_source == "existing":
        return f"your own kubeconfig, context {params.kube_context or '(the current one)'}"
    found = clusters.get_cluster(run.aws("eks"), params.cluster_name)
    action = kubeconfig.write_kubeconfig(
        params.kubeconfig,
        found["name"],
        found["endpoint"],
        found["certificateAuthority"]["data"],
        python=sys.executable,
        root=ROOT,
        region=params.region,
        endpoint_url=params.aws_endpoint_url,
        profile=params.aws_profile,
        credentials_file=params.aws_credentials_file,
    )
    run.changed("kubeconfig", params.env, action)
    if action == "changed":
        run.forget_cluster()  # the connection so far may lead to a deleted cluster
    return f"export KUBECONFIG={params.kubeconfig.relative_to(ROOT)}"


def check(run: Run) -> None:
    """Record whether the cluster answers this identity and its nodes are ready; record version, endpoint and ids."""
    run.check_ready("API server ready", True, run.cluster.ready)
    is_real = run.params.cluster_source == "eks" and not run.params.aws_endpoint_url
    wanted = run.params.node_count if is_real else 1
    run.check_ready(f"nodes Ready, at least {wanted}", True, lambda: ready_nodes(run.cluster) >= wanted)
    if run.params.cluster_source == "eks":
        minor = ".".join(run.cluster.version()[1:].split(".")[:2])
        run.check("Kubernetes version", run.params.kubernetes_version, minor)
        run.fact("cluster_arn", clusters.get_cluster(run.aws("eks"), run.params.cluster_name)["arn"])
    run.fact("endpoint", run.cluster.host)
    run.fact("kubernetes", run.cluster.version())
    run.fact("kube_system_uid", run.cluster.get("v1", "Namespace", "kube-system")["metadata"]["uid"])


def access_entry_table(run: Run) -> pd.DataFrame:
    """Return who may use the cluster's API: principal, type, groups, policies; empty for an existing cluster."""
    if run.params.cluster_source == "existing":
        return pd.DataFrame(columns=access_entries.COLUMNS)
    found = clusters.get_cluster(run.aws("eks"), run.params.cluster_name)
    return pd.DataFrame(access_entries.list_entries(run.aws("eks"), found), columns=access_entries.COLUMNS)


def addon_table(run: Run) -> pd.DataFrame:
    """Return the add-ons of the params as EKS describes them: version, status, publisher, issues."""
    rows = []
    for name in run.params.addons if run.params.cluster_source == "eks" else ():
        found = addons.find_addon(run.aws("eks"), run.params.cluster_name, name)
        rows.append(addons.row(found) if found else (name, "", "not known", "", ""))
        run.fact(f"add-on {name}", " ".join(filter(None, rows[-1][1:4])))
    return pd.DataFrame(rows, columns=addons.COLUMNS)


def ready_nodes(cluster: kubernetes_cluster.Cluster) -> int:
    """Return how many nodes are Ready."""
    return sum(is_ready(node) for node in cluster.items("v1", "Node"))


def cluster_role(cluster: str) -> str:
    """Return the name of the control plane's role."""
    return f"{cluster}-cluster"


def node_role(cluster: str) -> str:
    """Return the name of the nodes' role."""
    return f"{cluster}-nodes"


def cluster_roles(cluster: str) -> Roles:
    """Return the roles of the control plane and of the nodes."""
    return {
        cluster_role(cluster): ("eks.amazonaws.com", CLUSTER_POLICIES),
        node_role(cluster): ("ec2.amazonaws.com", NODE_POLICIES),
    }


def addon_roles(cluster: str) -> Roles:
    """Return the roles of add-ons' pods: only the EBS CSI driver has one."""
    return {f"{cluster}-ebs-csi": (iam_roles.POD_IDENTITY, DRIVER_POLICIES)}


def poll_interval(run: Run) -> dict[str, Any]:
    """Return the pause between two reads of a slow status, as an option of lib.aws's waits."""
    return {"pause": LOCAL_INTERVAL if run.params.aws_endpoint_url else REMOTE_INTERVAL}


def template_name(cluster: str) -> str:
    """Return the name of the nodes' launch template."""
    return f"{cluster}-{NODE_GROUP}"


def _ensure_roles(run: Run, wanted: Roles) -> list[str]:
    arns = []
    for name, (service, policies) in wanted.items():
        role, action = iam_roles.ensure_role(run.aws("iam"), name, service, policies, run.tags)
        arns.append(role["Arn"])
        run.changed("role", name, action)
    return arns


def role_arn(run: Run, name: str) -> str:
    """Return the ARN of an existing role."""
    return iam_roles.get_role(run.aws("iam"), name)["Arn"]


def addon_order(run: Run) -> list[AddOnName]:
    """Return the add-ons of the params in the order of their creation."""
    return sorted(run.params.addons, key=lambda name: name != addons.POD_IDENTITY_AGENT)


def template_data(run: Run) -> dict[str, Any]:
    """Return the launch template's data by the params."""
    params, name = run.params, template_name(run.params.cluster_name)
    return launch_template.template_data(params.node_disk_gib, params.node_ami_type, name, run.tags)
