"""Service quotas: AWS's limit, the current use, and how much more a run needs."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from lib.aws.optional import try_read
from lib.aws.session import error_code, paginate

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client

VPCS, GATEWAYS, NAT, ADDRESSES = "VPCs", "internet gateways", "NAT gateways in a zone", "Elastic IP addresses"
CLUSTERS, GROUPS, BALANCERS = "EKS clusters", "node groups of a cluster", "network load balancers"
ON_DEMAND, SPOT = "vCPUs on demand", "vCPUs spot"
CODES = {  # ServiceCode and QuotaCode of each; source: AWS General Reference, "Service endpoints and quotas"
    VPCS: ("vpc", "L-F678F1CE"),
    GATEWAYS: ("vpc", "L-A4707A72"),
    NAT: ("vpc", "L-FE5A380F"),
    ADDRESSES: ("ec2", "L-0263D0A3"),
    CLUSTERS: ("eks", "L-1194D53C"),
    GROUPS: ("eks", "L-6D54EA21"),
    BALANCERS: ("elasticloadbalancing", "L-69A177A2"),
    ON_DEMAND: ("ec2", "L-1216C47A"),
    SPOT: ("ec2", "L-34B43A08"),
}
# Instance families that share the standard vCPU quota (EC2 user guide, "EC2 instance type quotas")
STANDARD = "acdhimrtz"
RUNNING = [{"Name": "instance-state-name", "Values": ["pending", "running"]}]


@dataclass(frozen=True)
class Quota:
    """One quota: current use, how many more are needed, the limit. None is not known, with the reason in `why`."""

    kind: str
    there: int | None
    more: int
    limit: int | None
    why: str = ""

    @property
    def says(self) -> str:
        """Return the verdict in a word or two."""
        if self.there is None or self.limit is None:
            return self.why
        return "fits" if self.there + self.more <= self.limit else "would be hit"

    @property
    def problem(self) -> str:
        """Return the problem as a sentence if the quota would be exceeded, else ""."""
        if self.says != "would be hit":
            return ""
        service, code = CODES[self.kind]
        return (
            f"expected room for {self.more} more {self.kind}, got {self.there} of {self.limit} used; delete unused "
            f"ones, or ask AWS for a higher quota ({service} {code})."
        )


def rows(client: Callable[[str], Any], more: Mapping[str, int], cluster: str, zones: list[str]) -> list[Quota]:
    """Return a Quota for each kind that needs `more`. Service Quotas API Reference: GetServiceQuota.

    `client` creates boto3's clients; `zones` are the zones of new NAT gateways.
    """
    found: list[Quota] = []
    defaults: dict[str, tuple[Any, str]] = {}
    for kind, number in more.items():
        if number <= 0:
            continue
        limit, why = _limit(client("service-quotas"), *CODES[kind], defaults)
        there, unseen = try_read(partial(_there, client, kind, cluster, zones))
        found.append(Quota(kind, there, number, limit, why or unseen))
    return found


def vcpus(ec2: EC2Client, instance_type: str) -> int | None:
    """Return how many vCPUs an instance has; None if it is not known, or not of the standard families."""
    if not standard(instance_type):
        return None
    types: list[Any] = [instance_type]  # the stubs take the types of their own list alone
    found, _ = try_read(lambda: ec2.describe_instance_types(InstanceTypes=types)["InstanceTypes"])
    return found[0]["VCpuInfo"]["DefaultVCpus"] if found else None


def standard(instance_type: str) -> bool:
    """Whether an instance's vCPUs count as standard ones: m5.large's do, inf2.xlarge's do not."""
    family = re.match(r"[a-z]+", instance_type)
    return bool(family and len(family[0]) == 1 and family[0] in STANDARD)


def _limit(service: Any, kind: str, code: str, defaults: dict[str, tuple[Any, str]]) -> tuple[int | None, str]:
    """Return the account's own limit, else AWS's default: some quotas have no account value."""

    def own() -> float | None:
        try:
            return service.get_service_quota(ServiceCode=kind, QuotaCode=code)["Quota"]["Value"]
        except ClientError as error:
            if "NoSuchResource" not in error_code(error):
                raise
            return None

    found, why = try_read(own)
    if found is None and not why:
        if kind not in defaults:
            defaults[kind] = try_read(
                lambda: paginate(service, "list_aws_default_service_quotas", "Quotas", ServiceCode=kind)
            )
        listed, why = defaults[kind]
        values = [one["Value"] for one in listed or [] if one["QuotaCode"] == code]
        found, why = (values[0], "") if values else (None, why or "not known: Service Quotas has none of that code")
    return (None, why) if found is None else (math.floor(found), "")


def _there(client: Callable[[str], Any], kind: str, cluster: str, zones: list[str]) -> int:
    ec2 = client("ec2")
    if kind == VPCS:
        return len(paginate(ec2, "describe_vpcs", "Vpcs"))
    if kind == GATEWAYS:
        return len(paginate(ec2, "describe_internet_gateways", "InternetGateways"))
    if kind == ADDRESSES:
        return len(paginate(ec2, "describe_addresses", "Addresses"))
    if kind == NAT:
        return _in_fullest_zone(ec2, zones)
    if kind == CLUSTERS:
        return len(paginate(client("eks"), "list_clusters", "clusters"))
    if kind == GROUPS:
        if cluster not in paginate(client("eks"), "list_clusters", "clusters"):
            return 0
        return len(paginate(client("eks"), "list_nodegroups", "nodegroups", clusterName=cluster))
    if kind == BALANCERS:
        found = paginate(client("elbv2"), "describe_load_balancers", "LoadBalancers")
        return len([one for one in found if one["Type"] == "network"])
    return sum(_vcpus(one) for one in _running(ec2) if (one.get("InstanceLifecycle") == "spot") == (kind == SPOT))


def _in_fullest_zone(ec2: EC2Client, zones: list[str]) -> int:
    places = {one["SubnetId"]: one["AvailabilityZone"] for one in paginate(ec2, "describe_subnets", "Subnets")}
    counted = dict.fromkeys(zones, 0)
    for one in paginate(ec2, "describe_nat_gateways", "NatGateways"):
        zone = places.get(one["SubnetId"])
        if zone in counted and one["State"] in ("pending", "available", "deleting"):
            counted[zone] += 1
    return max(counted.values(), default=0)


def _running(ec2: EC2Client) -> list[dict[str, Any]]:
    groups = paginate(ec2, "describe_instances", "Reservations", Filters=RUNNING)
    found = [one for group in groups for one in group["Instances"]]
    return [one for one in found if standard(one["InstanceType"])]


def _vcpus(instance: dict[str, Any]) -> int:
    cpu = instance.get("CpuOptions", {})
    return cpu.get("CoreCount", 1) * cpu.get("ThreadsPerCore", 1)
