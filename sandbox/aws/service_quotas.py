"""Service quotas of the account: the Service Quotas API reports AWS's defaults, and creations obey them.

RequestServiceQuotaIncrease takes effect at once, also with a smaller value, and lets a test fill an account up.
Source of codes and defaults: AWS General Reference, "Service endpoints and quotas" of each service. Of vCPUs the
account has 64: AWS's default of 5 grows with an account's use.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from moto.backends import get_backend

from sandbox.iam.access_keys import ACCOUNT
from sandbox.iam.signed_call import Call, Refusal


@dataclass(frozen=True)
class Quota:
    """One quota: AWS's name and default, how to count its use, and the error of a call that exceeds it."""

    service: str
    code: str
    name: str
    default: float
    action: str = ""  # the call that it limits
    count: Callable[[Call], int] | None = None
    refusal: str = ""
    message: str = "The maximum number of {name} has been reached."


def _backend(call: Call, service: Any) -> Any:
    """Return moto's objects of a service in the call's region; the import takes a second, so it comes late."""
    return get_backend(service)[ACCOUNT][call.region]


def _nat_in_zone(call: Call) -> int:
    ec2 = _backend(call, "ec2")
    try:
        zone = ec2.get_subnet(call.params.get("SubnetId", "")).availability_zone
    except Exception:  # an unknown subnet: moto refuses the call next
        return 0
    gateways = [gateway for gateway in ec2.nat_gateways.values() if gateway.state != "deleted"]
    return sum(gateway.subnet_id in ec2.subnets[zone] for gateway in gateways)


def _node_groups(call: Call) -> int:
    cluster = _backend(call, "eks").clusters.get(call.params["clusterName"])
    return len(cluster.nodegroups) if cluster else 0


def _network_load_balancers(call: Call) -> int:
    load_balancers = _backend(call, "elbv2").load_balancers.values()
    return sum(load_balancer.loadbalancer_type == "network" for load_balancer in load_balancers)


LIMIT = "ResourceLimitExceededException"
QUOTAS = (
    Quota("vpc", "L-F678F1CE", "VPCs per Region", 5, "ec2:CreateVpc",
          lambda call: len(_backend(call, "ec2").vpcs), "VpcLimitExceeded"),
    Quota("vpc", "L-A4707A72", "Internet gateways per Region", 5, "ec2:CreateInternetGateway",
          lambda call: len(_backend(call, "ec2").internet_gateways), "InternetGatewayLimitExceeded"),
    Quota("vpc", "L-FE5A380F", "NAT gateways per Availability Zone", 5, "ec2:CreateNatGateway",
          _nat_in_zone, "NatGatewayLimitExceeded"),
    Quota("ec2", "L-0263D0A3", "EC2-VPC Elastic IPs", 5, "ec2:AllocateAddress",
          lambda call: len(_backend(call, "ec2").addresses), "AddressLimitExceeded"),
    Quota("ec2", "L-1216C47A", "Running On-Demand Standard (A, C, D, H, I, M, R, T, Z) instances", 64),
    Quota("ec2", "L-34B43A08", "All Standard (A, C, D, H, I, M, R, T, Z) Spot Instance Requests", 64),
    Quota("eks", "L-1194D53C", "Clusters", 100, "eks:CreateCluster",
          lambda call: len(_backend(call, "eks").clusters), LIMIT),
    Quota("eks", "L-6D54EA21", "Managed node groups per cluster", 30, "eks:CreateNodegroup", _node_groups, LIMIT),
    Quota("elasticloadbalancing", "L-69A177A2", "Network Load Balancers per Region", 50,
          "elasticloadbalancing:CreateLoadBalancer", _network_load_balancers, "TooManyLoadBalancers"),
)  # fmt: skip


class Quotas:
    """The account's values, shared by all regions."""

    def __init__(self) -> None:
        self._values: dict[tuple[str, str], float] = {}
        self._lock = threading.Lock()

    def refusal(self, call: Call) -> Refusal | None:
        """Return why a call would exceed a quota, or None."""
        for quota in QUOTAS:
            if quota.action == call.name and quota.count and quota.count(call) >= self.value(quota):
                return Refusal(quota.refusal, quota.message.format(name=quota.name))
        return None

    def value(self, quota: Quota) -> float:
        """Return the present value of a quota."""
        return self._values.get((quota.service, quota.code), quota.default)

    def answer(self, call: Call) -> dict | Refusal:
        """Return the Service Quotas API's answer to GetServiceQuota, the lists and RequestServiceQuotaIncrease."""
        request = call.params
        quotas = [quota for quota in QUOTAS if quota.service == request.get("ServiceCode")]
        if call.action in ("ListServiceQuotas", "ListAWSDefaultServiceQuotas"):
            default = call.action == "ListAWSDefaultServiceQuotas"
            return {"Quotas": [_description(call, one, one.default if default else self.value(one)) for one in quotas]}
        quota = next((one for one in quotas if one.code == request.get("QuotaCode")), None)
        if not quota:
            return Refusal("NoSuchResourceException", "The request failed because the specified quota does not exist.")
        if call.action == "RequestServiceQuotaIncrease":
            wanted = float(request["DesiredValue"])
            with self._lock:
                self._values[quota.service, quota.code] = wanted
            codes = {"ServiceCode": quota.service, "QuotaCode": quota.code}
            return {"RequestedQuota": {**codes, "Status": "APPROVED", "DesiredValue": wanted}}
        default = call.action == "GetAWSDefaultServiceQuota"
        return {"Quota": _description(call, quota, quota.default if default else self.value(quota))}


def _description(call: Call, quota: Quota, value: float) -> dict:
    arn = f"arn:aws:servicequotas:{call.region}:{ACCOUNT}:{quota.service}/{quota.code}"
    about = {"ServiceCode": quota.service, "QuotaArn": arn, "QuotaCode": quota.code, "QuotaName": quota.name}
    return {**about, "Value": value, "Unit": "None", "Adjustable": True, "GlobalQuota": False}
