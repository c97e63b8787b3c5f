"""Drift, field by field: what is there is not what the params say; whether that can be changed, and how."""

from __future__ import annotations

from dataclasses import dataclass

from lib.aws.control_plane import ControlPlaneConfig, differences, missing_public_cidrs
from lib.aws.node_groups import NodeGroupConfig

YES, NO = "yes", "no"


@dataclass(frozen=True)
class Difference:
    """One field of one object that is not as the params say; `change` is yes, no, or how."""

    what: str
    field: str
    found: str
    wanted: str
    change: str

    @property
    def problem(self) -> str:
        """Return it as a sentence where it cannot be changed; "" where it can."""
        if self.change.startswith(YES):
            return ""
        how = self.change.partition(": ")[2] or "set the params back, or clean up first"
        got = f"got {self.found}, which cannot be changed; {how}"
        return f"expected {self.field} of {self.what} to be {self.wanted}, {got}."


def of_cluster(found: dict | None, name: str, version: str, role: str, subnets: list[str]) -> list[Difference]:
    """Return how a cluster differs; `role` is a name, `subnets` are ids. AWS: DescribeCluster, UpdateClusterVersion."""
    if found is None:
        return []
    what = f"cluster {name}"
    told = _differing(what, "version", found["version"], version, _version_change(found["version"], version))
    told += _differing(what, "role", _last(found["roleArn"]), role, NO)
    return told + _differing(what, "subnets", _listed(found["resourcesVpcConfig"]["subnetIds"]), _listed(subnets), NO)


def of_control_plane(found: dict | None, name: str, here) -> list[Difference]:
    """Return how what else a cluster was told differs from the params `here`. AWS: UpdateClusterConfig."""
    if missing_public_cidrs(here):
        return []
    told = differences(found, ControlPlaneConfig.of(here))
    return [Difference(f"cluster {name}", field, now, then, YES if may else NO) for field, now, then, may in told]


def of_node_group(
    found: dict | None, name: str, role: str, subnets: list[str], nodes: NodeGroupConfig, template: str = ""
) -> list[Difference]:
    """Return how a node group differs. AWS: DescribeNodegroup, UpdateNodegroupConfig."""
    if found is None:
        return []
    what = f"node group {name}"
    told = _differing(what, "node count", _size(found["scalingConfig"]), _size(nodes.scaling), YES)
    told += _differing(what, "labels", _pairs(found.get("labels")), _pairs(nodes.labels), YES)
    told += _differing(what, "taints", _taints(found.get("taints")), _taints(nodes.taints), YES)
    told += _differing(what, "instance types", _listed(found["instanceTypes"]), _listed(nodes.instance_types), NO)
    told += _differing(what, "AMI type", found.get("amiType", nodes.ami_type), nodes.ami_type, NO)
    told += _differing(what, "capacity", found.get("capacityType", nodes.capacity_type), nodes.capacity_type, NO)
    if template:
        told += _differing(what, "launch template", (found.get("launchTemplate") or {}).get("name"), template, NO)
    told += _differing(what, "role", _last(found["nodeRole"]), role, NO)
    return told + _differing(what, "subnets", _listed(found["subnets"]), _listed(subnets), NO)


def of_roles(attached: dict[str, list[str] | None], wanted: dict[str, list[str]]) -> list[Difference]:
    """Return which policies roles lack; None is a role that is not there. What they have besides stays."""
    return [
        Difference(f"role {name}", "policies", _listed(map(_last, have)) or "none", _listed(map(_last, policies)), YES)
        for name, policies in wanted.items()
        if (have := attached.get(name)) is not None and not set(policies) <= set(have)
    ]


def of_vpc(found: dict | None, name: str, cidr: str) -> list[Difference]:
    """Return how the VPC that the runbook made differs."""
    return _differing(f"vpc {name}", "range", found["CidrBlock"], cidr, NO) if found else []


def _version_change(found: str, wanted: str) -> str:
    (_, now), (_, then) = (map(int, one.split(".")[:2]) for one in (found, wanted))
    if then == now + 1:
        return f"{YES}, in minutes, and never back"
    if then > now:
        return f"{NO}: EKS takes one minor at a time, so 1.{now + 1} first"
    return NO


def _differing(what: str, field: str, found: str | None, wanted: str, change: str) -> list[Difference]:
    return [] if found == wanted else [Difference(what, field, found or "none", wanted, change)]


def _size(scaling: dict) -> str:
    sizes = {key: scaling.get(key) for key in ("minSize", "desiredSize", "maxSize")}
    one = len(set(sizes.values())) == 1
    return str(sizes["desiredSize"]) if one else ", ".join(f"{key} {value}" for key, value in sizes.items())


def _pairs(labels: dict | None) -> str:
    return _listed(f"{key}={value}" for key, value in (labels or {}).items()) or "none"


def _taints(taints) -> str:
    return _listed(f"{one['key']}={one.get('value', '')}:{one['effect']}" for one in taints or ()) or "none"


def _listed(names) -> str:
    return ", ".join(sorted(names))


def _last(arn: str) -> str:
    return arn.rpartition("/")[2]
