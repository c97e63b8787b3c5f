"""Settings of the control plane: who may reach the API, what it logs, and which key encrypts Secrets.

Amazon EKS API Reference: CreateCluster, UpdateClusterConfig, AssociateEncryptionConfig.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from lib.aws import drift
from lib.aws.clusters import get_cluster
from lib.aws.eks_updates import wait_update
from lib.aws.session import aws_errors
from lib.ensured import Ensured
from lib.errors import AwsError

if TYPE_CHECKING:
    from mypy_boto3_eks import EKSClient

    from lib.params import Params

ALL_ADDRESSES = "0.0.0.0/0"


@dataclass(frozen=True)
class ControlPlaneConfig:
    """The wanted settings.

    Attributes:
        public: whether the API has a public endpoint.
        private: whether it has a private one.
        cidrs: networks that may reach the public endpoint; None leaves EKS's default, everybody.
        logs: the log types that go to CloudWatch.
        key: the ARN of the KMS key that encrypts Secrets.
    """

    public: bool = True
    private: bool = True
    cidrs: Sequence[str] | None = None
    logs: Sequence[str] = ()
    key: str | None = None

    @classmethod
    def of(cls, params: Params) -> ControlPlaneConfig:
        """Return the settings of the params; AwsError if a real account's params do not name `public_access_cidrs`."""
        if problem := missing_public_cidrs(params):
            raise AwsError(problem)
        return cls(
            public=params.endpoint_public_access,
            private=params.endpoint_private_access,
            cidrs=params.public_access_cidrs if params.endpoint_public_access else None,
            logs=params.control_plane_logs,
            key=params.secrets_kms_key_arn,
        )

    @property
    def endpoint_access(self) -> dict[str, Any]:
        """Return the fields of resourcesVpcConfig that say who may reach the API."""
        cidrs = {} if self.cidrs is None else {"publicAccessCidrs": sorted(self.cidrs)}
        return {"endpointPublicAccess": self.public, "endpointPrivateAccess": self.private, **cidrs}

    @property
    def create_options(self) -> dict[str, Any]:
        """Return the other arguments of CreateCluster: logging and encryptionConfig."""
        logging = [{"types": sorted(self.logs), "enabled": True}]
        return {
            **({"logging": {"clusterLogging": logging}} if self.logs else {}),
            **({"encryptionConfig": _encryption(self.key)} if self.key else {}),
        }


def missing_public_cidrs(params: Params) -> str:
    """Return the problem if a real account's params do not say who may reach the cluster's API, else ""."""
    is_local = params.aws_endpoint_url or params.cluster_source != "eks"
    if is_local or not params.endpoint_public_access or params.public_access_cidrs:
        return ""
    return (
        "expected public_access_cidrs in the params, the networks that may reach the cluster's API, got none; add your "
        "own address with /32 (curl https://checkip.amazonaws.com prints it), or 0.0.0.0/0 for everybody."
    )


def differences(found: dict[str, Any] | None, config: ControlPlaneConfig) -> list[drift.Difference]:
    """Return how a cluster, as DescribeCluster describes it, differs from `config`."""
    if found is None:
        return []
    what, key, logs = f"cluster {found['name']}", _key(found), _logs(found)
    now = _endpoint_access(found)
    then = {**now, **config.endpoint_access}
    changed = [
        drift.Difference(what, field, _text(now[field]), _text(then[field]), drift.YES)
        for field in then
        if now[field] != then[field]
    ]
    if logs != set(config.logs):
        changed.append(drift.Difference(what, "logs", _text(logs), _text(config.logs), drift.YES))
    if (key or "") != (config.key or ""):
        change = drift.YES if key is None else drift.NO  # a key can be set once, and never be removed
        changed.append(drift.Difference(what, "KMS key of secrets", key or "none", config.key or "none", change))
    return changed


def differences_from_params(found: dict[str, Any] | None, params: Params) -> list[drift.Difference]:
    """Return how a cluster differs from the params; nothing if the params lack `public_access_cidrs`."""
    return [] if missing_public_cidrs(params) else differences(found, ControlPlaneConfig.of(params))


@aws_errors()
def ensure(
    eks: EKSClient,
    found: dict[str, Any],
    config: ControlPlaneConfig,
    deadline: float,
    tell: Callable[[str], None] = lambda what: None,
    **options: Any,
) -> Ensured:
    """Change the settings of an ACTIVE cluster that differ, one update after the other.

    Args:
        eks: boto3's EKS client.
        found: the cluster as DescribeCluster describes it.
        config: the wanted settings.
        deadline: seconds that each update may take.
        tell: receives the name of each setting before its update.
        **options: those of lib.polling.until.

    Returns:
        The cluster, and "changed" or "unchanged".

    Raises:
        AwsError: another key already encrypts the Secrets, or an update failed.
    """
    drift.check_changeable(differences(found, config))
    name, logs, now = found["name"], set(config.logs), _endpoint_access(found)
    changes: list[tuple[str, Callable[[], Any]]] = []
    if {**now, **config.endpoint_access} != now:
        access: Any = config.endpoint_access
        changes.append(("endpoint access", partial(eks.update_cluster_config, name=name, resourcesVpcConfig=access)))
    if _logs(found) != logs:
        groups = ((logs, True), (_logs(found) - logs, False))
        logging: Any = {"clusterLogging": [{"types": sorted(kinds), "enabled": on} for kinds, on in groups if kinds]}
        changes.append(("logs", partial(eks.update_cluster_config, name=name, logging=logging)))
    if config.key and _key(found) is None:
        encryption: Any = _encryption(config.key)
        changes.append(
            ("secrets", partial(eks.associate_encryption_config, clusterName=name, encryptionConfig=encryption))
        )
    for setting, change in changes:  # EKS takes one update at a time
        tell(setting)
        wait_update(eks, name, change()["update"], f"cluster {name} ({setting})", deadline, **options)
    return Ensured(get_cluster(eks, name), "changed") if changes else Ensured(found, "unchanged")


def _endpoint_access(found: dict[str, Any]) -> dict[str, Any]:
    config = found["resourcesVpcConfig"]
    return {
        "endpointPublicAccess": config.get("endpointPublicAccess", True),
        "endpointPrivateAccess": config.get("endpointPrivateAccess", False),
        "publicAccessCidrs": sorted(config.get("publicAccessCidrs", [ALL_ADDRESSES])),
    }


def _logs(found: dict[str, Any]) -> set[str]:
    groups = found.get("logging", {}).get("clusterLogging", [])
    return {kind for group in groups if group.get("enabled") for kind in group["types"]}


def _key(found: dict[str, Any]) -> str | None:
    return next((item["provider"]["keyArn"] for item in found.get("encryptionConfig") or []), None)


def _encryption(key: str) -> list[dict[str, Any]]:
    return [{"resources": ["secrets"], "provider": {"keyArn": key}}]


def _text(value: bool | Iterable[str]) -> str:
    return str(value).lower() if isinstance(value, bool) else ", ".join(sorted(value)) or "none"
