"""Service quotas of the sandbox's account: AWS's defaults, told by the Service Quotas API, and kept to by what creates.

RequestServiceQuotaIncrease is granted at once, also when it asks for less: so a test can fill an account up.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from moto.backends import get_backend

from sandbox.iam.access_keys import ACCOUNT
from sandbox.iam.signed_call import Call, Refusal


@dataclass(frozen=True)
class Quota:
    """One quota: AWS's name and default; what it counts here, and how a call that goes beyond is refused."""

    service: str
    code: str
    name: str
    default: float
    action: str = ""  # the call that it limits
    count: Callable[[Call], int] | None = None
    refusal: str = ""
    message: str = "The maximum number of {name} has been reached."


def _of(call: Call, service: str):
    """What moto has of a service; imported when it is asked for, since that takes a second."""
    return get_backend(service)[ACCOUNT][call.region]


def _nat_in_zone(call: Call) -> int:
    ec2 = _of(call, "ec2")
    zone = lambda subnet_id: ec2.get_subnet(subnet_id).availability_zone  # noqa: E731
    try:
        wanted = zone(call.form.get("SubnetId", ""))
    except Exception:  # moto refuses it next, in its own words
        return 0
    held = [one for one in ec2.nat_gateways.values() if one.state != "deleted"]
    return sum(one.subnet_id in ec2.subnets[wanted] for one in held)


def _groups(call: Call) -> int:
    cluster = _of(call, "eks").clusters.get(call.parts[1] if len(call.parts) > 1 else "")
    return len(cluster.nodegroups) if cluster else 0


def _balancers(call: Call) -> int:
    return sum(one.loadbalancer_type == "network" for one in _of(call, "elbv2").load_balancers.values())


LIMIT = "ResourceLimitExceededException"
QUOTAS = (
    Quota("vpc", "L-F678F1CE", "VPCs per Region", 5, "ec2:CreateVpc",
          lambda call: len(_of(call, "ec2").vpcs), "VpcLimitExceeded"),
    Quota("vpc", "L-A4707A72", "Internet gateways per Region", 5, "ec2:CreateInternetGateway",
          lambda call: len(_of(call, "ec2").internet_gateways), "InternetGatewayLimitExceeded"),
    Quota("vpc", "L-FE5A380F", "NAT gateways per Availability Zone", 5, "ec2:CreateNatGateway",
          _nat_in_zone, "NatGatewayLimitExceeded"),
    Quota("ec2", "L-0263D0A3", "EC2-VPC Elastic IPs", 5, "ec2:AllocateAddress",
          lambda call: len(_of(call, "ec2").addresses), "AddressLimitExceeded"),
    Quota("ec2", "L-1216C47A", "Running On-Demand Standard (A, C, D, H, I, M, R, T, Z) instances", 64),
    Quota("ec2", "L-34B43A08", "All Standard (A, C, D, H, I, M, R, T, Z) Spot Instance Requests", 64),
    Quota("eks", "L-1194D53C", "Clusters", 100, "eks:CreateCluster",
          lambda call: len(_of(call, "eks").clusters), LIMIT),
    Quota("eks", "L-6D54EA21", "Managed node groups per cluster", 30, "eks:CreateNodegroup", _groups, LIMIT),
    Quota("elasticloadbalancing", "L-69A177A2", "Network Load Balancers per Region", 50,
          "elasticloadbalancing:CreateLoadBalancer", _balancers, "TooManyLoadBalancers"),
)  # fmt: skip


class Quotas:
    """The account's values; a region is not told from another."""

    def __init__(self) -> None:
        self._values: dict[tuple[str, str], float] = {}
        self._lock = threading.Lock()

    def refused(self, call: Call) -> Refusal | None:
        """Return why a call that creates something is one too many; None where it is not."""
        for one in QUOTAS:
            if one.action == call.name and one.count and one.count(call) >= self.value(one):
                return Refusal(one.refusal, one.message.format(name=one.name))
        return None

    def value(self, one: Quota) -> float:
        """Return what is allowed now."""
        return self._values.get((one.service, one.code), one.default)

    def answer(self, call: Call) -> dict | Refusal:
        """Return what the Service Quotas API says: GetServiceQuota, the lists, RequestServiceQuotaIncrease."""
        asked = call.json
        found = [one for one in QUOTAS if one.service == asked.get("ServiceCode")]
        if call.action in ("ListServiceQuotas", "ListAWSDefaultServiceQuotas"):
            default = call.action == "ListAWSDefaultServiceQuotas"
            return {"Quotas": [_told(call, one, one.default if default else self.value(one)) for one in found]}
        found = [one for one in found if one.code == asked.get("QuotaCode")]
        if not found:
            return Refusal("NoSuchResourceException", "The request failed because the specified quota does not exist.")
        if call.action == "RequestServiceQuotaIncrease":
            with self._lock:
                self._values[found[0].service, found[0].code] = float(asked["DesiredValue"])
            told = {"ServiceCode": found[0].service, "QuotaCode": found[0].code, "Status": "APPROVED"}
            return {"RequestedQuota": {**told, "DesiredValue": float(asked["DesiredValue"])}}
        default = call.action == "GetAWSDefaultServiceQuota"
        return {"Quota": _told(call, found[0], found[0].default if default else self.value(found[0]))}

    def reset(self) -> None:
        """Take AWS's defaults again."""
        with self._lock:
            self._values.clear()


def _told(call: Call, one: Quota, value: float) -> dict:
    arn = f"arn:aws:servicequotas:{call.region}:{ACCOUNT}:{one.service}/{one.code}"
    about = {"ServiceCode": one.service, "QuotaArn": arn, "QuotaCode": one.code, "QuotaName": one.name}
    return {**about, "Value": value, "Unit": "None", "Adjustable": True, "GlobalQuota": False}
