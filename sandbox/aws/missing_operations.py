"""Calls that moto lacks and the runbook makes: answered here, before moto is asked."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime

from sandbox.aws.service_quotas import Quotas
from sandbox.iam import authorization
from sandbox.iam.signed_call import Call, Refusal

SUPPORT = {  # last days of standard and extended support: EKS user guide, "Understand the Kubernetes version lifecycle"
    "1.35": ("2027-03-27", "2028-03-27"),
    "1.36": ("2027-08-02", "2028-08-02"),
}
QUOTA_CALLS = (
    "GetServiceQuota", "GetAWSDefaultServiceQuota", "ListServiceQuotas", "ListAWSDefaultServiceQuotas",
    "RequestServiceQuotaIncrease",
)  # fmt: skip

Answer = tuple[str, str] | Refusal  # content type and text


class Lacking:
    """What is answered here, by service and action."""

    def __init__(self, kubernetes_version: str, quotas: Quotas) -> None:
        self.quotas = quotas
        self.answers: dict[str, Callable[[Call], Answer]] = {
            "iam:SimulatePrincipalPolicy": _simulated,
            "eks:DescribeClusterVersions": lambda call: _json(versions(kubernetes_version)),
            **dict.fromkeys((f"servicequotas:{name}" for name in QUOTA_CALLS), self._quota),
        }

    def __call__(self, call: Call) -> Answer | None:
        """Return the answer; None where moto is to be asked."""
        answer = self.answers.get(call.name)
        return answer(call) if answer else None

    def _quota(self, call: Call) -> Answer:
        found = self.quotas.answer(call)
        return found if isinstance(found, Refusal) else _json(found, "application/x-amz-json-1.1")


def versions(kubernetes_version: str) -> dict:
    """Return what DescribeClusterVersions says here: there is one version, the sandbox's own."""
    until = SUPPORT.get(kubernetes_version)
    about = {"clusterVersion": kubernetes_version, "clusterType": "eks", "defaultVersion": True}
    about |= {"defaultPlatformVersion": "eks.1", "status": "standard-support", "versionStatus": "STANDARD_SUPPORT"}
    if until:
        about |= dict(zip(("endOfStandardSupportDate", "endOfExtendedSupportDate"), map(_epoch, until), strict=True))
    return {"clusterVersions": [about]}


def _simulated(call: Call) -> Answer:
    source = call.form.get("PolicySourceArn", "")
    if not authorization.known(source):
        return Refusal("NoSuchEntity", f"The source with ARN {source} cannot be found.", "404 Not Found")
    return "text/xml", authorization.simulated(call)


def _epoch(day: str) -> float:
    return datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp()


def _json(told: dict, kind: str = "application/json") -> Answer:
    return kind, json.dumps(told)
