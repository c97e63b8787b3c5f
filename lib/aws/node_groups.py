"""The managed node group: created, or updated where EKS allows that, each update waited for.

Amazon EKS API Reference: CreateNodegroup, UpdateNodegroupConfig, UpdateNodegroupVersion.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from lib.aws.clusters import BUSY, check_fixed, create_with_new_role, find_node_group, wait_node_group_active
from lib.aws.eks_updates import wait_update
from lib.aws.session import aws_errors
from lib.aws.tags import check_owned

ON_DEMAND = "ON_DEMAND"
DEFAULT_AMI_TYPE = "AL2023_x86_64_STANDARD"


@dataclass(frozen=True)
class NodeGroupConfig:
    """What a node group is to be: `least` and `most` are `count` where they are not given."""

    instance_types: Sequence[str]
    count: int
    least: int | None = None
    most: int | None = None
    ami_type: str = DEFAULT_AMI_TYPE
    capacity_type: str = ON_DEMAND
    labels: dict[str, str] = field(default_factory=dict)
    taints: Sequence[dict[str, str]] = ()

    @classmethod
    def of(cls, here) -> NodeGroupConfig:
        """Return what the params say."""
        types = [here.node_instance_type, *(one for one in here.node_other_types if one != here.node_instance_type)]
        size = here.node_count, here.node_min, here.node_max
        taints = [{"key": one.key, "value": one.value, "effect": one.effect} for one in here.node_taints]
        return cls(types, *size, here.node_ami_type, here.node_capacity, dict(here.node_labels), taints)

    @property
    def scaling(self) -> dict[str, int]:
        """Return it as EKS wants it."""
        least, most = (self.count if one is None else one for one in (self.least, self.most))
        return {"minSize": least, "maxSize": most, "desiredSize": self.count}


@aws_errors()
def ensure_node_group(
    eks,
    cluster: str,
    name: str,
    role_arn: str,
    subnet_ids: list[str],
    nodes: NodeGroupConfig,
    tags: dict[str, str],
    *,
    template: dict[str, str] | None = None,
    version: str | None = None,
    deadline: float = 1800,
    **options,
) -> tuple[dict, str]:
    """Create the node group, or update it; return (node group, action), see lib.eks.wait_node_group_active.

    Size, labels and taints are changed, and its nodes replaced for another version of the launch template (`template`:
    name and version) or of Kubernetes; both updates are waited for, `deadline` seconds each. Role, subnets, instance
    types, AMI and capacity type, and which template it is, cannot be changed: AwsError. `options` are those of
    lib.checks.until.
    """
    found = find_node_group(eks, cluster, name)
    if found is None:
        return create_with_new_role(
            lambda: eks.create_nodegroup(
                **_stated(cluster, name, role_arn, subnet_ids, nodes, tags, template, version)
            )["nodegroup"],
            options,
        ), "created"
    what = f"node group {name}"
    check_owned(what, found.get("tags", {}), tags)
    check_fixed(what, "role", found["nodeRole"], role_arn)
    check_fixed(what, "subnets", sorted(found["subnets"]), sorted(subnet_ids))
    check_fixed(what, "instance types", sorted(found["instanceTypes"]), sorted(nodes.instance_types))
    check_fixed(what, "AMI type", found["amiType"], nodes.ami_type)
    check_fixed(what, "capacity type", found.get("capacityType", ON_DEMAND), nodes.capacity_type)
    if found["status"] in BUSY:  # a run that was broken off may have begun this: EKS takes one change at a time
        found = wait_node_group_active(eks, cluster, name, deadline, **options)
    used = found.get("launchTemplate") or {}
    if template:
        check_fixed(what, "launch template", used.get("name"), template["name"])
    changes = _config(found, nodes)
    asked = {"clusterName": cluster, "nodegroupName": name}
    about = (eks, cluster)
    if changes:
        update = eks.update_nodegroup_config(**asked, **changes)["update"]
        wait_update(*about, update, what, deadline, of={"nodegroupName": name}, **options)
    newer = {"version": version} if version and found["version"] != version else {}
    if template and used.get("version") != template["version"]:
        newer["launchTemplate"] = template
    if newer:
        update = eks.update_nodegroup_version(**asked, **newer)["update"]
        wait_update(*about, update, what, deadline, of={"nodegroupName": name}, **options)
    if not changes and not newer:
        return found, "unchanged"
    return find_node_group(eks, cluster, name), "changed"


def _stated(cluster, name, role_arn, subnet_ids, nodes: NodeGroupConfig, tags, template, version) -> dict:
    more = {"labels": nodes.labels, "taints": list(nodes.taints), "launchTemplate": template, "version": version}
    return {
        "clusterName": cluster,
        "nodegroupName": name,
        "nodeRole": role_arn,
        "subnets": subnet_ids,
        "instanceTypes": list(nodes.instance_types),
        "amiType": nodes.ami_type,
        "capacityType": nodes.capacity_type,
        "scalingConfig": nodes.scaling,
        "tags": tags,
        **{key: value for key, value in more.items() if value},
    }


def _config(found: dict, nodes: NodeGroupConfig) -> dict:
    """What UpdateNodegroupConfig has to change."""
    changes: dict = {}
    if found["scalingConfig"] != nodes.scaling:
        changes["scalingConfig"] = nodes.scaling
    labels = found.get("labels") or {}
    newer = {key: value for key, value in nodes.labels.items() if labels.get(key) != value}
    gone = sorted(labels.keys() - nodes.labels.keys())
    if newer or gone:
        changes["labels"] = {"addOrUpdateLabels": newer, "removeLabels": gone}
    have, want = (_by_place(taints) for taints in (found.get("taints") or [], nodes.taints))
    added = [want[key] for key in want if have.get(key) != want[key]]
    removed = [have[key] for key in have if key not in want]
    if added or removed:
        changes["taints"] = {"addOrUpdateTaints": added, "removeTaints": removed}
    return changes


def _by_place(taints) -> dict[tuple[str, str], dict[str, str]]:
    return {(one["key"], one["effect"]): {"value": "", **one} for one in taints}
