"""The cluster in EKS: its control plane created or updated, it and its node group waited for, deleted."""

from __future__ import annotations

from collections.abc import Callable

from botocore.exceptions import ClientError

from lib.aws import health
from lib.aws.eks_updates import wait_update
from lib.aws.session import aws_errors
from lib.aws.tags import check_owned
from lib.errors import AwsError
from lib.polling import until, wait

PAUSE = 1  # seconds between two looks at a status: EKS throttles, and a real control plane takes ten minutes
ROLE_DEADLINE = 120  # seconds that IAM may take to tell EKS of a new role
BUSY = ("CREATING", "UPDATING")  # nothing else can be asked of it meanwhile
BROKEN = ("FAILED", "CREATE_FAILED", "DELETE_FAILED", "DEGRADED", "DELETING")

Tell = Callable[[float, str], None]  # seconds so far, status


@aws_errors()
def ensure_cluster(
    eks,
    name: str,
    version: str,
    role_arn: str,
    subnet_ids: list[str],
    tags: dict[str, str],
    *,
    reach: dict | None = None,
    more: dict | None = None,
    deadline: float = 3600,
    **options,
) -> tuple[dict, str]:
    """Create the cluster, or update its version and wait for that; return (cluster, action), see wait_cluster_active.

    Its creator becomes its administrator. `reach` goes into a new cluster's resourcesVpcConfig, `more` beside it (both
    are lib.control_plane's). Role and subnets cannot be changed, the version only to the next minor, and a
    cluster without our tags is refused: AwsError. `options` are those of lib.checks.until.
    """
    found = _cluster(eks, name)
    if found is None:
        stated = {
            "name": name,
            "version": version,
            "roleArn": role_arn,
            "resourcesVpcConfig": {"subnetIds": subnet_ids, **(reach or {})},
            "accessConfig": {"authenticationMode": "API", "bootstrapClusterCreatorAdminPermissions": True},
            "tags": tags,
            **(more or {}),
        }
        return create_with_new_role(lambda: eks.create_cluster(**stated)["cluster"], options), "created"
    check_owned(f"cluster {name}", found.get("tags", {}), tags)
    check_fixed(f"cluster {name}", "role", found["roleArn"], role_arn)
    check_fixed(f"cluster {name}", "subnets", sorted(found["resourcesVpcConfig"]["subnetIds"]), sorted(subnet_ids))
    if found["version"] != version and found["status"] in BUSY:  # a run that was broken off may have begun it
        found = wait_cluster_active(eks, name, deadline, **options)
    if found["version"] == version:
        return found, "unchanged"
    _check_step(name, found["version"], version)
    update = eks.update_cluster_version(name=name, version=version)["update"]
    wait_update(eks, name, update, f"cluster {name}", deadline, **{"pause": PAUSE, **options})
    return _cluster(eks, name), "changed"


@aws_errors()
def find_cluster(eks, name: str) -> dict | None:
    """Return a cluster, or None."""
    return _cluster(eks, name)


@aws_errors()
def find_node_group(eks, cluster: str, name: str) -> dict | None:
    """Return a node group, or None."""
    return _node_group(eks, cluster, name)


def wait_cluster_active(eks, name: str, deadline: float, tell: Tell | None = None, **options) -> dict:
    """Return the cluster once it is ACTIVE; AwsError with its issues if it failed, TimedOut after `deadline` s."""
    return _wait_active(f"cluster {name}", lambda: _cluster(eks, name), deadline, tell, options)


def wait_node_group_active(eks, cluster: str, name: str, deadline: float, tell: Tell | None = None, **options) -> dict:
    """Return the node group once it is ACTIVE; AwsError with its health issues if it failed, TimedOut as above."""
    return _wait_active(f"node group {name}", lambda: _node_group(eks, cluster, name), deadline, tell, options)


@aws_errors()
def delete_node_group(eks, cluster: str, name: str, tags: dict[str, str]) -> str:
    """Start to delete the node group; return "deleted" or "absent"."""
    found = _node_group(eks, cluster, name)
    if found is None:
        return "absent"
    check_owned(f"node group {name}", found.get("tags", {}), tags)
    if found["status"] != "DELETING":
        eks.delete_nodegroup(clusterName=cluster, nodegroupName=name)
    return "deleted"


def wait_node_group_gone(eks, cluster: str, name: str, deadline: float, tell: Tell | None = None, **options) -> None:
    """Return once there is no such node group: until then its cluster cannot be deleted."""
    _wait_gone(f"node group {name}", lambda: _node_group(eks, cluster, name), deadline, tell, options)


@aws_errors()
def delete_cluster(eks, name: str, tags: dict[str, str]) -> str:
    """Start to delete the cluster; return "deleted" or "absent". Its node groups must be gone."""
    found = _cluster(eks, name)
    if found is None:
        return "absent"
    check_owned(f"cluster {name}", found.get("tags", {}), tags)
    if found["status"] != "DELETING":
        eks.delete_cluster(name=name)
    return "deleted"


def wait_cluster_gone(eks, name: str, deadline: float, tell: Tell | None = None, **options) -> None:
    """Return once there is no such cluster: until then its network and role are in use."""
    _wait_gone(f"cluster {name}", lambda: _cluster(eks, name), deadline, tell, options)


def _wait_active(what: str, read: Callable[[], dict | None], deadline: float, tell: Tell | None, options: dict) -> dict:
    found: dict = {}

    def look() -> str:
        found.clear()
        found.update(read() or {})
        return " ".join(filter(None, (_status(found), health.issues(found))))  # a reason may come long before the end

    wait(
        f"{what} to be ACTIVE", look, lambda seen: seen.split()[0] in ("ACTIVE", "absent", *BROKEN),
        deadline=deadline, tell=tell, fix="it goes on in AWS: run it again later", **{"pause": PAUSE, **options},
    )  # fmt: skip
    if _status(found) != "ACTIVE":
        got, mend = f"{_status(found)} ({_issues(found)})", _status(found) == "DEGRADED"
        do = "mend that, and run it again: EKS goes on by itself" if mend else "delete it, then make it again"
        raise AwsError(f"expected {what} to be ACTIVE, got {got}; {do}.")
    return found


def _wait_gone(what: str, read: Callable[[], dict | None], deadline: float, tell: Tell | None, options: dict) -> None:
    wait(
        f"{what} to be gone",
        lambda: _status(read()),
        lambda seen: seen == "absent",
        deadline=deadline,
        tell=tell,
        fix="see its health in the AWS console",
        **{"pause": PAUSE, **options},
    )


def _check_step(name: str, found: str, wanted: str) -> None:
    """EKS takes one minor at a time, and never goes back."""
    now, then = (int(one.split(".")[1]) for one in (found, wanted))
    if then != now + 1:
        way = f"1.{now + 1} first, a minor at a time" if then > now else "back, EKS never goes"
        raise AwsError(f"cluster {name}: expected to go from {found} to the next minor, got {wanted}; {way}.")


def _issues(found: dict) -> str:
    return health.issues(found) or "no reason given"


def _status(found: dict | None) -> str:
    return found["status"] if found else "absent"


def create_with_new_role(create: Callable[[], dict], options: dict) -> dict:
    """Create what takes a role: EKS refuses one that IAM made seconds ago and has not yet told it of."""

    def attempt():
        try:
            return create()
        except Exception as error:  # kept as the value: only one kind is worth another try
            return error

    answer = until(attempt, lambda got: not _too_new(got), **{"deadline": ROLE_DEADLINE, "pause": PAUSE, **options})
    if isinstance(answer.value, Exception):
        raise answer.value
    return answer.value


def _too_new(got: dict | Exception) -> bool:
    refused = isinstance(got, ClientError) and got.response["Error"]["Code"] == "InvalidParameterException"
    return refused and "role" in str(got).lower()


def _cluster(eks, name: str) -> dict | None:
    try:
        return eks.describe_cluster(name=name)["cluster"]
    except eks.exceptions.ResourceNotFoundException:
        return None


def _node_group(eks, cluster: str, name: str) -> dict | None:
    try:
        return eks.describe_nodegroup(clusterName=cluster, nodegroupName=name)["nodegroup"]
    except eks.exceptions.ResourceNotFoundException:
        return None


def check_fixed(what: str, part: str, found, expected) -> None:
    """Raise AwsError where what cannot be changed is not as it should be."""
    if found != expected:
        raise AwsError(
            f"{what}: expected its {part} to be {expected}, got {found}, which cannot be changed; "
            "set the params back, or clean up first."
        )
