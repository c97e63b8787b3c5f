"""The managed node group: create it, or update what EKS can update, and wait for each update.

Amazon EKS API Reference: CreateNodegroup, UpdateNodegroupConfig, UpdateNodegroupVersion.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lib.aws import drift
from lib.aws.clusters import BUSY, create_with_new_role, find_node_group, wait_node_group_active
from lib.aws.eks_updates import wait_update
from lib.aws.session import aws_errors
from lib.aws.tags import check_owned
from lib.ensured import Ensured

if TYPE_CHECKING:
    from mypy_boto3_eks import EKSClient

    from lib.params import Params

ON_DEMAND = "ON_DEMAND"
DEFAULT_AMI_TYPE = "AL2023_x86_64_STANDARD"


@dataclass(frozen=True)
class NodeGroupConfig:
    """The wanted node group; `least` and `most` nodes default to `count`."""

    instance_types: Sequence[str]
    count: int
    least: int | None = None
    most: int | None = None
    ami_type: str = DEFAULT_AMI_TYPE
    capacity_type: str = ON_DEMAND
    labels: dict[str, str] = field(default_factory=dict)
    taints: Sequence[dict[str, str]] = ()

    @classmethod
    def of(cls, params: Params) -> NodeGroupConfig:
        """Return the node group of the params."""
        first = params.node_instance_type
        return cls(
            instance_types=[first, *(kind for kind in params.node_other_types if kind != first)],
            count=params.node_count,
            least=params.node_min,
            most=params.node_max,
            ami_type=params.node_ami_type,
            capacity_type=params.node_capacity,
            labels=dict(params.node_labels),
            taints=[{"key": taint.key, "value": taint.value, "effect": taint.effect} for taint in params.node_taints],
        )

    @property
    def scaling(self) -> dict[str, int]:
        """Return the scalingConfig of CreateNodegroup."""
        least, most = (self.count if size is None else size for size in (self.least, self.most))
        return {"minSize": least, "maxSize": most, "desiredSize": self.count}


def create_request(
    cluster: str,
    name: str,
    role_arn: str,
    subnet_ids: Sequence[str],
    nodes: NodeGroupConfig,
    tags: dict[str, str],
    template: dict[str, str] | None = None,
    version: str | None = None,
) -> dict[str, Any]:
    """Return what CreateNodegroup gets; `template` is {"name", "version"} of a launch template."""
    optional = {"labels": nodes.labels, "taints": list(nodes.taints), "launchTemplate": template, "version": version}
    return {
        "clusterName": cluster,
        "nodegroupName": name,
        "nodeRole": role_arn,
        "subnets": list(subnet_ids),
        "instanceTypes": list(nodes.instance_types),
        "amiType": nodes.ami_type,
        "capacityType": nodes.capacity_type,
        "scalingConfig": nodes.scaling,
        "tags": tags,
        **{key: value for key, value in optional.items() if value},
    }


@aws_errors()
def ensure_node_group(
    eks: EKSClient,
    cluster: str,
    name: str,
    role_arn: str,
    subnet_ids: Sequence[str],
    nodes: NodeGroupConfig,
    tags: dict[str, str],
    *,
    template: dict[str, str] | None = None,
    version: str | None = None,
    deadline: float = 1800,
    **options: Any,
) -> Ensured:
    """Create the node group, or update it and wait for the updates.

    Size, labels and taints change in place. Another Kubernetes version, or another version of the launch template,
    replaces the nodes.

    Args:
        eks: boto3's EKS client.
        cluster: the cluster's name.
        name: the node group's name.
        role_arn: the nodes' role.
        subnet_ids: the nodes' subnets.
        nodes: size, instance types, labels and taints.
        tags: the runbook's tags.
        template: {"name", "version"} of the launch template.
        version: the Kubernetes version.
        deadline: seconds that each update may take.
        **options: those of lib.polling.until.

    Returns:
        The node group as DescribeNodegroup describes it, and "created", "changed" or "unchanged". A new node group is
        not ACTIVE yet: see `clusters.wait_node_group_active`.

    Raises:
        AwsError: the node group lacks these tags, or an immutable field differs (lib/aws/drift.py).
        TimedOut: an update did not end in time.
    """
    found = find_node_group(eks, cluster, name)
    if found is None:
        request = create_request(cluster, name, role_arn, subnet_ids, nodes, tags, template, version)
        return Ensured(create_with_new_role(lambda: eks.create_nodegroup(**request)["nodegroup"], options), "created")
    what = f"node group {name}"
    check_owned(what, found.get("tags", {}), tags)
    template_name = template["name"] if template else ""
    drift.check_changeable(drift.of_node_group(found, name, role_arn, subnet_ids, nodes, template_name))
    if found["status"] in BUSY:  # an interrupted run may have started an update, and EKS takes one at a time
        found = wait_node_group_active(eks, cluster, name, deadline, **options)
    names: dict[str, Any] = {"clusterName": cluster, "nodegroupName": name}
    config = _config_changes(found, nodes)
    if config:
        update = eks.update_nodegroup_config(**names, **config)["update"]
        wait_update(eks, cluster, update, what, deadline, of={"nodegroupName": name}, **options)
    newer: dict[str, Any] = {"version": version} if version and found["version"] != version else {}
    if template and (found.get("launchTemplate") or {}).get("version") != template["version"]:
        newer["launchTemplate"] = template
    if newer:
        update = eks.update_nodegroup_version(**names, **newer)["update"]
        wait_update(eks, cluster, update, what, deadline, of={"nodegroupName": name}, **options)
    if not config and not newer:
        return Ensured(found, "unchanged")
    return Ensured(find_node_group(eks, cluster, name) or found, "changed")


def _config_changes(found: dict[str, Any], nodes: NodeGroupConfig) -> dict[str, Any]:
    """Return the arguments of UpdateNodegroupConfig; empty if nothing differs."""
    changes: dict[str, Any] = {}
    if found["scalingConfig"] != nodes.scaling:
        changes["scalingConfig"] = nodes.scaling
    labels = found.get("labels") or {}
    updated = {key: value for key, value in nodes.labels.items() if labels.get(key) != value}
    removed = sorted(labels.keys() - nodes.labels.keys())
    if updated or removed:
        changes["labels"] = {"addOrUpdateLabels": updated, "removeLabels": removed}
    have, want = (_by_key(taints) for taints in (found.get("taints") or [], nodes.taints))
    added_taints = [want[key] for key in want if have.get(key) != want[key]]
    removed_taints = [have[key] for key in have if key not in want]
    if added_taints or removed_taints:
        changes["taints"] = {"addOrUpdateTaints": added_taints, "removeTaints": removed_taints}
    return changes


def _by_key(taints: Iterable[Mapping[str, str]]) -> dict[tuple[str, str], dict[str, str]]:
    return {(taint["key"], taint["effect"]): {"value": "", **taint} for taint in taints}
