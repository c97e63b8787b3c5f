"""What a control plane is told beside its version: who reaches it, what it logs, what encrypts its secrets.

Amazon EKS API Reference: CreateCluster, UpdateClusterConfig, AssociateEncryptionConfig.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lib.aws.clusters import check_fixed, find_cluster
from lib.aws.eks_updates import wait_update
from lib.aws.session import aws_errors
from lib.errors import AwsError

ALL_ADDRESSES = "0.0.0.0/0"


@dataclass(frozen=True)
class ControlPlaneConfig:
    """`cidrs` may reach the public endpoint (None: as EKS has it, everybody); `key` is a KMS key's ARN."""

    public: bool = True
    private: bool = True
    cidrs: Sequence[str] | None = None
    logs: Sequence[str] = ()
    key: str | None = None

    @classmethod
    def of(cls, here) -> ControlPlaneConfig:
        """Return what the params say; AwsError on a real account where they do not say who may reach the API."""
        if problem := missing_public_cidrs(here):
            raise AwsError(problem)
        reach = here.endpoint_public_access, here.endpoint_private_access
        cidrs = here.public_access_cidrs if here.endpoint_public_access else None
        return cls(*reach, cidrs, here.control_plane_logs, here.secrets_kms_key_arn)

    @property
    def reach(self) -> dict:
        """Return the part of resourcesVpcConfig that says who reaches the API."""
        cidrs = {} if self.cidrs is None else {"publicAccessCidrs": sorted(self.cidrs)}
        return {"endpointPublicAccess": self.public, "endpointPrivateAccess": self.private, **cidrs}

    @property
    def creating(self) -> dict:
        """Return what CreateCluster takes of it, beside `reach`."""
        made = {"logging": {"clusterLogging": [{"types": sorted(self.logs), "enabled": True}]}} if self.logs else {}
        return made | ({"encryptionConfig": _encryption(self.key)} if self.key else {})


def missing_public_cidrs(here) -> str:
    """Return, as a sentence, that the params of a real account do not say who may reach the cluster's API; else ""."""
    local = here.aws_endpoint_url or here.cluster_source != "eks"
    if local or not here.endpoint_public_access or here.public_access_cidrs:
        return ""
    return (
        "expected public_access_cidrs in the params, the networks from which the cluster's API may be reached, got "
        "none; give your own address, as curl https://checkip.amazonaws.com tells it, with /32, or 0.0.0.0/0 for "
        "everybody."
    )


def differences(found: dict | None, wanted: ControlPlaneConfig) -> list[tuple[str, str, str, bool]]:
    """Return (field, found, wanted, whether it can be changed) of what is not as it should be."""
    if found is None:
        return []
    told = []
    now, then = _reach(found), {**_reach(found), **wanted.reach}
    told += [(key, _said(now[key]), _said(then[key]), True) for key in then if now[key] != then[key]]
    logs, key = _logs(found), _key(found)
    if logs != set(wanted.logs):
        told.append(("logs", _said(logs), _said(wanted.logs), True))
    if (key or "") != (wanted.key or ""):
        told.append(("KMS key of secrets", key or "none", wanted.key or "none", key is None))
    return told


@aws_errors()
def ensure(
    eks,
    found: dict,
    wanted: ControlPlaneConfig,
    deadline: float,
    tell: Callable[[str], None] = lambda what: None,
    **options,
) -> tuple[dict, str]:
    """Change what differs of an ACTIVE cluster, one update after the other; return (cluster, action).

    Each update is waited for, `deadline` seconds; `tell` hears what is changed. A key that encrypts the secrets can be
    given once, and never be taken away: AwsError. `options` are those of lib.checks.until.
    """
    name, what = found["name"], f"cluster {found['name']}"
    if (key := _key(found)) is not None:
        check_fixed(what, "KMS key of secrets", key, wanted.key)
    changes, logs = [], set(wanted.logs)
    now = _reach(found)
    if {**now, **wanted.reach} != now:
        asked = {"resourcesVpcConfig": wanted.reach}
        changes.append(("who reaches it", lambda: eks.update_cluster_config(name=name, **asked)))
    if _logs(found) != logs:
        logging = [
            {"types": sorted(types), "enabled": on}
            for types, on in ((logs, True), (_logs(found) - logs, False))
            if types
        ]
        stated = {"logging": {"clusterLogging": logging}}
        changes.append(("logs", lambda: eks.update_cluster_config(name=name, **stated)))
    if wanted.key and key is None:
        encryption = _encryption(wanted.key)
        changes.append(
            ("secrets", lambda: eks.associate_encryption_config(clusterName=name, encryptionConfig=encryption))
        )
    for part, change in changes:  # EKS takes one update at a time
        tell(part)
        wait_update(eks, name, change()["update"], f"{what} ({part})", deadline, **options)
    return (find_cluster(eks, name), "changed") if changes else (found, "unchanged")


def _reach(found: dict) -> dict:
    config = found["resourcesVpcConfig"]
    return {
        "endpointPublicAccess": config.get("endpointPublicAccess", True),
        "endpointPrivateAccess": config.get("endpointPrivateAccess", False),
        "publicAccessCidrs": sorted(config.get("publicAccessCidrs", [ALL_ADDRESSES])),
    }


def _logs(found: dict) -> set[str]:
    groups = found.get("logging", {}).get("clusterLogging", [])
    return {kind for group in groups if group.get("enabled") for kind in group["types"]}


def _key(found: dict) -> str | None:
    return next((one["provider"]["keyArn"] for one in found.get("encryptionConfig") or []), None)


def _encryption(key: str) -> list[dict]:
    return [{"resources": ["secrets"], "provider": {"keyArn": key}}]


def _said(value) -> str:
    return str(value).lower() if isinstance(value, bool) else ", ".join(sorted(value)) or "none"
