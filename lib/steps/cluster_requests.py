"""Step 01: the boto3 calls that create the cluster, shown before each act."""

from __future__ import annotations

import json
from typing import Any

from IPython.display import Markdown, display

from lib.aws import access_entries, addons, clusters, control_plane, iam_roles, launch_template, node_groups
from lib.run import Run
from lib.steps import cluster, cluster_network

Calls = list[tuple[str, dict[str, Any]]]  # client and method, arguments


def show(run: Run, act: str) -> None:
    """Show the boto3 calls that create the objects of an act; the runbook makes them only for missing objects.

    Args:
        run: the run of step 01.
        act: "roles", "network", "cluster", "access", "add-ons" or "nodes".
    """
    if run.params.cluster_source == "existing":
        display(Markdown("The cluster exists: AWS gets no request."))
        return
    calls = "\n".join(f"{call}(**{json.dumps(request, indent=2)})" for call, request in _CALLS[act](run))
    display(Markdown(f"```python\n{calls or '# the params ask for none'}\n```"))


def _roles(run: Run) -> Calls:
    calls: Calls = []
    for name, (service, policies) in cluster.cluster_roles(run.params.cluster_name).items():
        calls.append(("iam.create_role", iam_roles.create_request(name, service, run.tags)))
        calls += [("iam.attach_role_policy", {"RoleName": name, "PolicyArn": policy}) for policy in policies]
    return calls


def _cluster(run: Run) -> Calls:
    params, config = run.params, control_plane.ControlPlaneConfig.of(run.params)
    role = cluster.role_arn(run, cluster.cluster_role(params.cluster_name))
    subnets, _ = cluster_network.subnet_ids(run)
    name, version = params.cluster_name, params.kubernetes_version
    return [("eks.create_cluster", clusters.create_request(name, version, role, subnets, run.tags, config))]


def _access(run: Run) -> Calls:
    calls: Calls = []
    for entry in run.params.access_entries:
        name = run.params.cluster_name
        calls.append(("eks.create_access_entry", access_entries.create_request(name, entry, run.tags)))
        calls += [("eks.associate_access_policy", each) for each in access_entries.policy_requests(name, entry)]
    return calls


def _addons(run: Run) -> Calls:
    calls: Calls = []
    for name in cluster.addon_order(run):
        wanted, role = run.params.addons[name], "…" if name in addons.SERVICE_ACCOUNTS else ""
        request = addons.create_request(run.params.cluster_name, name, wanted.version, wanted.configuration, role)
        calls.append(("eks.create_addon", {**request, "resolveConflicts": "OVERWRITE", "tags": run.tags}))
    return calls


def _nodes(run: Run) -> Calls:
    params, name = run.params, cluster.template_name(run.params.cluster_name)
    role = cluster.role_arn(run, cluster.node_role(params.cluster_name))
    _, subnets = cluster_network.subnet_ids(run)
    group = node_groups.create_request(
        params.cluster_name, cluster.NODE_GROUP, role, subnets, node_groups.NodeGroupConfig.of(params), run.tags,
        {"name": name, "version": "1"}, params.kubernetes_version,
    )  # fmt: skip
    template = launch_template.create_request(name, cluster.template_data(run), run.tags)
    return [("ec2.create_launch_template", template), ("eks.create_nodegroup", group)]


_CALLS = {
    "roles": _roles,
    "network": cluster_network.create_requests,
    "cluster": _cluster,
    "access": _access,
    "add-ons": _addons,
    "nodes": _nodes,
}
