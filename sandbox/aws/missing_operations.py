"""The operations that moto lacks, and those of STS, whose sessions the sandbox keeps itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime

from sandbox.aws.service_quotas import Quotas
from sandbox.iam import authorization, sessions, web_identity
from sandbox.iam.signed_call import Answer, Call, Refusal
from sandbox.iam.trust_policies import WEB_IDENTITY

SUPPORT = {  # last days of standard and extended support: EKS user guide, "Understand the Kubernetes version lifecycle"
    "1.35": ("2027-03-27", "2028-03-27"),
    "1.36": ("2027-08-02", "2028-08-02"),
}
QUOTA_CALLS = (
    "GetServiceQuota", "GetAWSDefaultServiceQuota", "ListServiceQuotas", "ListAWSDefaultServiceQuotas",
    "RequestServiceQuotaIncrease",
)  # fmt: skip


class MissingOperations:
    """Answers a call to one of the operations.

    Args:
        kubernetes_version: the one minor version, as in "1.36".
        quotas: of the account.
        keys: returns the keys of an issuer of service accounts' tokens.
    """

    def __init__(self, kubernetes_version: str, quotas: Quotas, keys: web_identity.FindKeys) -> None:
        self.quotas = quotas
        self.answers: dict[str, Callable[[Call], Answer]] = {
            "iam:SimulatePrincipalPolicy": _simulation,
            "sts:AssumeRole": sessions.assume_role,
            WEB_IDENTITY: lambda call: web_identity.assume_role(call, keys),
            "sts:GetCallerIdentity": sessions.caller_identity,
            "eks:DescribeClusterVersions": lambda call: _json(versions(kubernetes_version)),
            **dict.fromkeys((f"servicequotas:{name}" for name in QUOTA_CALLS), self._quota),
        }

    def __call__(self, call: Call) -> Answer | None:
        """Return the answer, None for a call that moto answers."""
        answer = self.answers.get(call.name)
        return answer(call) if answer else None

    def _quota(self, call: Call) -> Answer:
        answer = self.quotas.answer(call)
        return answer if isinstance(answer, Refusal) else _json(answer, "application/x-amz-json-1.1")


def versions(kubernetes_version: str) -> dict:
    """Return the answer to API_DescribeClusterVersions, which lists the sandbox's one version."""
    until = SUPPORT.get(kubernetes_version)
    about = {"clusterVersion": kubernetes_version, "clusterType": "eks", "defaultVersion": True}
    about |= {"defaultPlatformVersion": "eks.1", "status": "standard-support", "versionStatus": "STANDARD_SUPPORT"}
    if until:
        about |= dict(zip(("endOfStandardSupportDate", "endOfExtendedSupportDate"), map(_epoch, until), strict=True))
    return {"clusterVersions": [about]}


def _simulation(call: Call) -> Answer:
    source = call.params["PolicySourceArn"]
    if not authorization.user_or_role(source):
        return Refusal("NoSuchEntity", f"The source with ARN {source} cannot be found.", "404 Not Found")
    return "text/xml", authorization.simulation(call)


def _epoch(day: str) -> float:
    return datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp()


def _json(content: dict, kind: str = "application/json") -> Answer:
    return kind, json.dumps(content)
