"""What AWS offers: EKS's Kubernetes versions with the end of their support, and the zones of an instance type."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from lib.aws.optional import try_read
from lib.aws.session import paginate

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client
    from mypy_boto3_eks import EKSClient

VERSIONS = Path(__file__).with_name("versions.yml")
STANDARD, EXTENDED = "standard support", "extended support"


@cache
def compatibility() -> Mapping:
    """Return versions.yml: the Kubernetes versions of each Istio minor, and the end of EKS's support of each."""
    return yaml.safe_load(VERSIONS.read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Version:
    """One of Kubernetes' minors in EKS, and the last days of its standard and its extended support."""

    minor: str
    standard: date | None
    extended: date | None

    def support(self, today: date) -> str:
        """Return the kind of support on a day; "" after its end."""
        if self.standard is None or today <= self.standard:
            return STANDARD
        return EXTENDED if self.extended is None or today <= self.extended else ""


def versions(eks: EKSClient) -> tuple[dict[str, Version], str]:
    """Return EKS's Kubernetes versions by minor, and the source: EKS, or versions.yml if EKS refuses.

    AWS: DescribeClusterVersions, EKS API.
    """
    found, why = try_read(lambda: paginate(eks, "describe_cluster_versions", "clusterVersions"))
    if found is None:
        known = {
            minor: Version(minor, until["standard"], until["extended"])
            for minor, until in compatibility()["eks"].items()
        }
        return known, f"lib/planning/versions.yml of {compatibility()['as_of']} ({why})"
    supported = [
        Version(one["clusterVersion"], _day(one, "endOfStandardSupportDate"), _day(one, "endOfExtendedSupportDate"))
        for one in found
        if str(one.get("versionStatus") or one.get("status", "")).upper() != "UNSUPPORTED"
    ]
    return {version.minor: version for version in supported}, "EKS"


def version_problem(wanted: str, istio_tag: str, offered: Mapping[str, Version], source: str, today: date) -> str:
    """Return why EKS or Istio does not support this Kubernetes version, as a sentence; "" if both do.

    An Istio version that versions.yml lacks is not refused.
    """
    istio = minor(istio_tag)
    made_for = compatibility()["istio"].get(istio, {}).get("kubernetes")
    there = sorted((one.minor for one in offered.values() if one.support(today)), key=_number)
    both = [one for one in there if made_for is None or one in made_for]
    if wanted in both or (source != "EKS" and _number(wanted) > max(map(_number, there), default=(0, 0))):
        return ""  # newer than the file knows: EKS may have it by now
    about = f"EKS offers {_span(there)}" + (f", Istio {istio} is made for {_span(made_for)}" if made_for else "")
    advice = f"set kubernetes_version: {both[-1]}" if both else "set another istio_tag: no version suits both"
    return f"expected a kubernetes_version that both support, got {wanted} ({about}); {advice}."


@dataclass(frozen=True)
class InstanceOffer:
    """The zones that offer an instance type; None if AWS refuses to say, with the reason in `why`."""

    zones: list[str] | None
    why: str = ""


def instance_type(ec2: EC2Client, name: str, zones: list[str]) -> InstanceOffer:
    """Return the zones among `zones` that offer the type. EC2 API Reference: DescribeInstanceTypeOfferings."""
    asked = {"LocationType": "availability-zone", "Filters": [{"Name": "instance-type", "Values": [name]}]}
    call, key = "describe_instance_type_offerings", "InstanceTypeOfferings"
    found, why = try_read(lambda: paginate(ec2, call, key, **asked))
    if found is None:
        return InstanceOffer(None, why)
    there = {one["Location"] for one in found}
    return InstanceOffer(sorted(there & set(zones)))


def type_problem(name: str, zones: list[str], offer: InstanceOffer) -> str:
    """Return the problem if no zone of the nodes offers the type, as a sentence; "" if one does, or it is not known."""
    if offer.zones is None or offer.zones:
        return ""
    return (
        f"expected node_instance_type {name} in {' or '.join(zones)}, got no zone that offers it; choose another type."
    )


def minor(version: str) -> str:
    """Return the minor that a version belongs to: 1.31 of 1.31.1, of 1.31-alpha and of 1.31."""
    return ".".join(version.split("-")[0].split(".")[:2])


def _day(one: dict[str, Any], key: str) -> date | None:
    found = one.get(key)
    if not isinstance(found, datetime):
        return found
    return (found.astimezone(UTC) if found.tzinfo else found).date()


def _number(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("."))


def _span(minors: list[str]) -> str:
    ordered = sorted(minors, key=_number)
    return f"{ordered[0]} to {ordered[-1]}" if len(ordered) > 1 else ", ".join(ordered) or "none"
