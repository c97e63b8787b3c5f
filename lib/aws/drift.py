"""Drift, field by field: where an AWS object differs from the params, and whether that can be changed.

The one list of immutable fields: the plan shows these differences, and each `ensure_` function refuses the immutable
ones. Amazon EKS API Reference: UpdateClusterConfig, UpdateClusterVersion, UpdateNodegroupConfig.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lib.errors import AwsError

if TYPE_CHECKING:
    from lib.aws.node_groups import NodeGroupConfig

YES, NO = "yes", "no"


@dataclass(frozen=True)
class Difference:
    """One field of one object that differs from the params; `change` is "yes…", "no", or "no: what to do"."""

    what: str
    field: str
    found: str
    wanted: str
    change: str

    @property
    def problem(self) -> str:
        """Return the problem as a sentence if the field cannot be changed, else ""."""
        if self.change.startswith(YES):
            return ""
        fix = self.change.partition(": ")[2] or "set the params back, or clean up first"
        return (
            f"expected {self.field} of {self.what} to be {self.wanted}, got {self.found}, which cannot be changed; "
            f"{fix}."
        )


def check_changeable(differences: Iterable[Difference]) -> None:
    """Raise AwsError that names every difference that cannot be changed."""
    if problems := [item.problem for item in differences if item.problem]:
        raise AwsError(" ".join(problems))


def of_cluster(
    found: Mapping[str, Any] | None, name: str, version: str, role: str, subnets: Sequence[str]
) -> list[Difference]:
    """Return how a cluster differs: version, role (name or ARN) and subnets (ids)."""
    if found is None:
        return []
    what, subnet_ids = f"cluster {name}", found["resourcesVpcConfig"]["subnetIds"]
    return [
        *_compare(what, "version", found["version"], version, _version_change(found["version"], version)),
        *_compare(what, "role", _last(found["roleArn"]), _last(role), NO),
        *_compare(what, "subnets", _joined(subnet_ids), _joined(subnets), NO),
    ]


def of_node_group(
    found: Mapping[str, Any] | None,
    name: str,
    role: str,
    subnets: Sequence[str],
    nodes: NodeGroupConfig,
    template: str = "",
) -> list[Difference]:
    """Return how a node group differs; `role` is a name or ARN, `template` a launch template's name if there is one."""
    if found is None:
        return []
    what, launch_template = f"node group {name}", (found.get("launchTemplate") or {}).get("name")
    return [
        *_compare(what, "node count", _size(found["scalingConfig"]), _size(nodes.scaling), YES),
        *_compare(what, "labels", _pairs(found.get("labels")), _pairs(nodes.labels), YES),
        *_compare(what, "taints", _taints(found.get("taints")), _taints(nodes.taints), YES),
        *_compare(what, "instance types", _joined(found["instanceTypes"]), _joined(nodes.instance_types), NO),
        *_compare(what, "AMI type", found.get("amiType", nodes.ami_type), nodes.ami_type, NO),
        *_compare(what, "capacity", found.get("capacityType", nodes.capacity_type), nodes.capacity_type, NO),
        *(_compare(what, "launch template", launch_template, template, NO) if template else []),
        *_compare(what, "role", _last(found["nodeRole"]), _last(role), NO),
        *_compare(what, "subnets", _joined(found["subnets"]), _joined(subnets), NO),
    ]


def of_roles(attached: Mapping[str, list[str] | None], wanted: Mapping[str, list[str]]) -> list[Difference]:
    """Return which managed policies roles lack, by ARN; None stands for a missing role. Additional policies stay."""
    return [
        Difference(f"role {name}", "policies", _joined(map(_last, have)) or "none", _joined(map(_last, policies)), YES)
        for name, policies in wanted.items()
        if (have := attached.get(name)) is not None and not set(policies) <= set(have)
    ]


def of_vpc(found: Mapping[str, Any] | None, name: str, cidr: str) -> list[Difference]:
    """Return how the runbook's own VPC differs."""
    return _compare(f"vpc {name}", "range", found["CidrBlock"], cidr, NO) if found else []


def _version_change(found: str, wanted: str) -> str:
    """EKS upgrades one minor version at a time, and never downgrades."""
    (_, now), (_, then) = (map(int, version.split(".")[:2]) for version in (found, wanted))
    if then == now + 1:
        return f"{YES}, in minutes, and never back"
    if then > now:
        return f"{NO}: EKS upgrades one minor version at a time, set 1.{now + 1} first"
    return f"{NO}: EKS never downgrades, set the params back"


def _compare(what: str, field: str, found: str | None, wanted: str, change: str) -> list[Difference]:
    return [] if found == wanted else [Difference(what, field, found or "none", wanted, change)]


def _size(scaling: Mapping[str, int]) -> str:
    sizes = {key: scaling.get(key) for key in ("minSize", "desiredSize", "maxSize")}
    if len(set(sizes.values())) == 1:
        return str(sizes["desiredSize"])
    return ", ".join(f"{key} {value}" for key, value in sizes.items())


def _pairs(labels: Mapping[str, str] | None) -> str:
    return _joined(f"{key}={value}" for key, value in (labels or {}).items()) or "none"


def _taints(taints: Iterable[Mapping[str, str]] | None) -> str:
    return _joined(f"{taint['key']}={taint.get('value', '')}:{taint['effect']}" for taint in taints or ()) or "none"


def _joined(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))


def _last(arn: str) -> str:
    return arn.rpartition("/")[2]
