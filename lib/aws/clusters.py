"""The EKS cluster and its node group: create or update the control plane, wait for both, delete both.

Amazon EKS API Reference: CreateCluster, DescribeCluster, UpdateClusterVersion, DeleteCluster.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from lib.aws import drift, health
from lib.aws.eks_updates import wait_update
from lib.aws.session import aws_errors, error_code
from lib.aws.tags import check_owned
from lib.ensured import Ensured
from lib.errors import AwsError
from lib.polling import until, wait

if TYPE_CHECKING:
    from mypy_boto3_eks import EKSClient

    from lib.aws.control_plane import ControlPlaneConfig

PAUSE = 1  # seconds between two reads of a status: EKS throttles, and a real control plane takes ten minutes
ROLE_DEADLINE = 120  # seconds that a new role may take to reach EKS; IAM is eventually consistent (IAM user guide)
BUSY = ("CREATING", "UPDATING")  # EKS takes no other change in these states
BROKEN = ("FAILED", "CREATE_FAILED", "DELETE_FAILED", "DEGRADED", "DELETING")
RESUME = "EKS goes on by itself: run it again later"

Progress = Callable[[float, str], None]  # seconds so far, status


def create_request(
    name: str,
    version: str,
    role_arn: str,
    subnet_ids: Sequence[str],
    tags: dict[str, str],
    config: ControlPlaneConfig | None = None,
) -> dict[str, Any]:
    """Return what CreateCluster gets; the creator becomes the cluster's administrator."""
    return {
        "name": name,
        "version": version,
        "roleArn": role_arn,
        "resourcesVpcConfig": {"subnetIds": list(subnet_ids), **(config.endpoint_access if config else {})},
        "accessConfig": {"authenticationMode": "API", "bootstrapClusterCreatorAdminPermissions": True},
        "tags": tags,
        **(config.create_options if config else {}),
    }


@aws_errors()
def ensure_cluster(
    eks: EKSClient,
    name: str,
    version: str,
    role_arn: str,
    subnet_ids: Sequence[str],
    tags: dict[str, str],
    *,
    config: ControlPlaneConfig | None = None,
    deadline: float = 3600,
    **options: Any,
) -> Ensured:
    """Create the cluster, or update its Kubernetes version and wait for the update.

    Args:
        eks: boto3's EKS client.
        name: the cluster's name.
        version: its Kubernetes version, e.g. "1.36".
        role_arn: the control plane's role.
        subnet_ids: subnets in two or more zones.
        tags: the runbook's tags.
        config: endpoint access, logs and encryption of a new cluster; `control_plane.ensure` updates an existing one.
        deadline: seconds that a version update may take.
        **options: those of lib.polling.until.

    Returns:
        The cluster as DescribeCluster describes it, and "created", "changed" or "unchanged". A new cluster is not
        ACTIVE yet: see `wait_cluster_active`.

    Raises:
        AwsError: the cluster lacks these tags, or role, subnets or version cannot be changed as wanted.
        TimedOut: the update did not end in time.
    """
    found = _cluster(eks, name)
    if found is None:
        request = create_request(name, version, role_arn, subnet_ids, tags, config)
        return Ensured(create_with_new_role(lambda: eks.create_cluster(**request)["cluster"], options), "created")
    check_owned(f"cluster {name}", found.get("tags", {}), tags)
    if found["version"] != version and found["status"] in BUSY:  # an interrupted run may have started an update
        found = wait_cluster_active(eks, name, deadline, **options)
    drift.check_changeable(drift.of_cluster(found, name, version, role_arn, subnet_ids))
    if found["version"] == version:
        return Ensured(found, "unchanged")
    update = eks.update_cluster_version(name=name, version=version)["update"]
    wait_update(eks, name, update, f"cluster {name}", deadline, **{"pause": PAUSE, **options})
    return Ensured(get_cluster(eks, name), "changed")


@aws_errors()
def find_cluster(eks: EKSClient, name: str) -> dict[str, Any] | None:
    """Return a cluster as DescribeCluster describes it, or None."""
    return _cluster(eks, name)


@aws_errors()
def get_cluster(eks: EKSClient, name: str) -> dict[str, Any]:
    """Return a cluster as DescribeCluster describes it; AwsError if it does not exist."""
    return dict(eks.describe_cluster(name=name)["cluster"])


@aws_errors()
def find_node_group(eks: EKSClient, cluster: str, name: str) -> dict[str, Any] | None:
    """Return a node group as DescribeNodegroup describes it, or None."""
    return _node_group(eks, cluster, name)


@aws_errors()
def wait_cluster_active(
    eks: EKSClient, name: str, deadline: float, tell: Progress | None = None, **options: Any
) -> dict[str, Any]:
    """Return the cluster once it is ACTIVE; AwsError with its issues if it failed, TimedOut after `deadline` s."""
    return _wait_active(f"cluster {name}", lambda: _cluster(eks, name), deadline, tell, options)


@aws_errors()
def wait_node_group_active(
    eks: EKSClient, cluster: str, name: str, deadline: float, tell: Progress | None = None, **options: Any
) -> dict[str, Any]:
    """Return the node group once it is ACTIVE; AwsError and TimedOut as for `wait_cluster_active`."""
    return _wait_active(f"node group {name}", lambda: _node_group(eks, cluster, name), deadline, tell, options)


@aws_errors()
def delete_node_group(eks: EKSClient, cluster: str, name: str, tags: dict[str, str]) -> str:
    """Start to delete the node group; return "deleted" or "absent"."""
    found = _node_group(eks, cluster, name)
    if found is None:
        return "absent"
    check_owned(f"node group {name}", found.get("tags", {}), tags)
    if found["status"] != "DELETING":
        eks.delete_nodegroup(clusterName=cluster, nodegroupName=name)
    return "deleted"


@aws_errors()
def wait_node_group_gone(
    eks: EKSClient, cluster: str, name: str, deadline: float, tell: Progress | None = None, **options: Any
) -> None:
    """Return once the node group is gone: EKS does not delete a cluster before."""
    _wait_gone(f"node group {name}", lambda: _node_group(eks, cluster, name), deadline, tell, options)


@aws_errors()
def delete_cluster(eks: EKSClient, name: str, tags: dict[str, str]) -> str:
    """Start to delete the cluster; return "deleted" or "absent". Its node groups must be gone."""
    found = _cluster(eks, name)
    if found is None:
        return "absent"
    check_owned(f"cluster {name}", found.get("tags", {}), tags)
    if found["status"] != "DELETING":
        eks.delete_cluster(name=name)
    return "deleted"


@aws_errors()
def wait_cluster_gone(eks: EKSClient, name: str, deadline: float, tell: Progress | None = None, **options: Any) -> None:
    """Return once the cluster is gone: until then it uses its network and its role."""
    _wait_gone(f"cluster {name}", lambda: _cluster(eks, name), deadline, tell, options)


def create_with_new_role(create: Callable[[], Any], options: dict[str, Any]) -> dict[str, Any]:
    """Call `create` again until IAM has propagated a new role to EKS; other errors are raised at once."""

    def attempt() -> dict[str, Any] | Exception:
        try:
            return dict(create())
        except Exception as error:  # a value, whatever its kind: only one refusal is worth another attempt
            return error

    answer = until(
        attempt, lambda result: not _is_unknown_role(result), **{"deadline": ROLE_DEADLINE, "pause": PAUSE, **options}
    )
    if isinstance(answer.value, Exception):
        raise answer.value
    return answer.value


def _is_unknown_role(result: dict[str, Any] | Exception) -> bool:
    refused = isinstance(result, ClientError) and error_code(result) == "InvalidParameterException"
    return refused and "role" in str(result).lower()


def _wait_active(
    what: str,
    read: Callable[[], dict[str, Any] | None],
    deadline: float,
    tell: Progress | None,
    options: dict[str, Any],
) -> dict[str, Any]:
    found: dict[str, Any] = {}

    def status() -> str:
        found.clear()
        found.update(read() or {})
        return " ".join(filter(None, (_status(found), health.issues(found))))  # an issue may come long before the end

    wait(
        f"{what} to be ACTIVE", status, lambda seen: seen.split()[0] in ("ACTIVE", "absent", *BROKEN),
        deadline=deadline, tell=tell, fix=RESUME, **{"pause": PAUSE, **options},
    )  # fmt: skip
    if _status(found) != "ACTIVE":
        got, is_degraded = f"{_status(found)} ({health.issues(found) or 'no reason given'})", found.get("status")
        fix = "fix that, and run it again" if is_degraded == "DEGRADED" else "delete it, and run it again"
        raise AwsError(f"expected {what} to be ACTIVE, got {got}; {fix}.")
    return found


def _wait_gone(
    what: str,
    read: Callable[[], dict[str, Any] | None],
    deadline: float,
    tell: Progress | None,
    options: dict[str, Any],
) -> None:
    wait(
        f"{what} to be gone", lambda: _status(read()), lambda seen: seen == "absent",
        deadline=deadline, tell=tell, fix="see its health in the AWS console", **{"pause": PAUSE, **options},
    )  # fmt: skip


def _status(found: dict[str, Any] | None) -> str:
    return found["status"] if found else "absent"


def _cluster(eks: EKSClient, name: str) -> dict[str, Any] | None:
    try:
        return dict(eks.describe_cluster(name=name)["cluster"])
    except eks.exceptions.ResourceNotFoundException:
        return None


def _node_group(eks: EKSClient, cluster: str, name: str) -> dict[str, Any] | None:
    try:
        return dict(eks.describe_nodegroup(clusterName=cluster, nodegroupName=name)["nodegroup"])
    except eks.exceptions.ResourceNotFoundException:
        return None
