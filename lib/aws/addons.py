"""EKS add-ons: create or update them, wait for them, and list who publishes them.

Amazon EKS API Reference: DescribeAddonVersions, CreateAddon, UpdateAddon, DescribeAddon.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from lib.aws import health
from lib.aws.clusters import BUSY
from lib.aws.eks_updates import wait_update
from lib.aws.session import aws_errors, is_unreadable, is_unsupported, paginate
from lib.aws.tags import check_owned
from lib.ensured import Ensured
from lib.errors import AwsError
from lib.params.eks import AddOn
from lib.polling import wait

if TYPE_CHECKING:
    from mypy_boto3_eks import EKSClient

EBS_CSI_DRIVER, POD_IDENTITY_AGENT = "aws-ebs-csi-driver", "eks-pod-identity-agent"
SERVICE_ACCOUNTS = {EBS_CSI_DRIVER: "ebs-csi-controller-sa"}  # of the add-ons that call AWS and need a role
BROKEN = ("CREATE_FAILED", "UPDATE_FAILED", "DELETE_FAILED", "DELETING", "absent")
COLUMNS = ["add-on", "version", "status", "made by", "issues"]

Progress = Callable[[float, str], None]  # seconds so far, status


def create_request(
    cluster: str, name: str, version: str, configuration: Mapping[str, Any], role_arn: str = ""
) -> dict[str, Any]:
    """Return what CreateAddon gets, but for tags and resolveConflicts; UpdateAddon gets the same fields."""
    request: dict[str, Any] = {"clusterName": cluster, "addonName": name, "addonVersion": version}
    if configuration:
        request["configurationValues"] = json.dumps(configuration, sort_keys=True)
    if role_arn:
        request["podIdentityAssociations"] = [{"serviceAccount": SERVICE_ACCOUNTS[name], "roleArn": role_arn}]
    return request


@aws_errors()
def ensure_addon(
    eks: EKSClient,
    cluster: dict[str, Any],
    name: str,
    wanted: AddOn,
    tags: dict[str, str],
    deadline: float,
    role_arn: str = "",
    **options: Any,
) -> Ensured:
    """Create the add-on, or update its version, configuration or role.

    The add-on replaces what EKS installed by default (resolveConflicts OVERWRITE). With version "default", an installed
    version stays as long as EKS offers it for the cluster's Kubernetes.

    Args:
        eks: boto3's EKS client.
        cluster: the cluster as DescribeCluster describes it.
        name: the add-on's name, e.g. "vpc-cni".
        wanted: version and configuration.
        tags: the runbook's tags.
        deadline: seconds that an update may take.
        role_arn: the role of the add-on's pods, through EKS Pod Identity.
        **options: those of lib.polling.until.

    Returns:
        The add-on as DescribeAddon describes it, and "created", "changed" or "unchanged"; see `wait_addon_active`.

    Raises:
        AwsError: EKS has no such add-on or version, the endpoint has no add-ons, or the add-on lacks these tags.
    """
    try:
        offered = _offered_versions(eks, name, cluster["version"])
        found = _addon(eks, cluster["name"], name)
    except ClientError as error:
        if not is_unsupported(error):
            raise
        raise AwsError(
            f"expected an endpoint that has EKS's add-ons (for {name}), got one that does not know them; leave out "
            "addons, or set another aws_endpoint_url."
        ) from None
    version = _version(name, wanted, cluster["version"], offered, found)
    request = create_request(cluster["name"], name, version, wanted.configuration, role_arn)
    if found is None:
        return Ensured(dict(eks.create_addon(**request, resolveConflicts="OVERWRITE", tags=tags)["addon"]), "created")
    check_owned(f"add-on {name}", found.get("tags", {}), tags)
    configuration = json.loads(found.get("configurationValues") or "{}")
    is_same = found["addonVersion"] == version and configuration == wanted.configuration
    if is_same and (not role_arn or _role_arns(eks, found) == {role_arn}):
        return Ensured(found, "unchanged")
    if found["status"] in BUSY:
        wait(
            f"add-on {name} to finish its current change", lambda: get_addon(eks, cluster["name"], name)["status"],
            lambda seen: seen not in BUSY, deadline=deadline, **options,
        )  # fmt: skip
    request.setdefault("configurationValues", "{}")
    update = eks.update_addon(**request, resolveConflicts="PRESERVE")["update"]
    wait_update(eks, cluster["name"], update, f"add-on {name}", deadline, of={"addonName": name}, **options)
    return Ensured(get_addon(eks, cluster["name"], name), "changed")


@aws_errors()
def get_addon(eks: EKSClient, cluster: str, name: str) -> dict[str, Any]:
    """Return an add-on as DescribeAddon describes it; AwsError if it is not installed."""
    return dict(eks.describe_addon(clusterName=cluster, addonName=name)["addon"])


@aws_errors()
def find_addon(eks: EKSClient, cluster: str, name: str) -> dict[str, Any] | None:
    """Return an add-on as DescribeAddon describes it, or None if it is not installed or cannot be read."""
    try:
        return _addon(eks, cluster, name)
    except ClientError as error:
        if is_unreadable(error):
            return None
        raise


@aws_errors()
def wait_addon_active(
    eks: EKSClient, cluster: str, name: str, deadline: float, tell: Progress | None = None, **options: Any
) -> dict[str, Any]:
    """Return the add-on once it is ACTIVE.

    An add-on's DEGRADED, unlike a node group's, may pass: its pods wait for nodes.

    Raises:
        AwsError: the add-on failed; with its issues.
        TimedOut: it is not ACTIVE after `deadline` seconds.
    """
    last: dict[str, Any] = {}

    def status() -> str:
        last.clear()
        last.update(_addon(eks, cluster, name) or {"status": "absent"})
        return " ".join(filter(None, (last["status"], health.issues(last))))

    wait(
        f"add-on {name} to be ACTIVE", status, lambda seen: seen.split()[0] in ("ACTIVE", *BROKEN),
        deadline=deadline, tell=tell, **options,
    )  # fmt: skip
    if last["status"] != "ACTIVE":
        reason = health.issues(last) or "no reason given"
        raise AwsError(
            f"expected add-on {name} to be ACTIVE, got {last['status']} ({reason}); fix that, and run it again."
        )
    return last


def row(found: dict[str, Any]) -> tuple[str, str, str, str, str]:
    """Return an add-on's name, version, status, publisher and issues for a table."""
    return found["addonName"], found["addonVersion"], found["status"], found.get("publisher", ""), health.issues(found)


def _offered_versions(eks: EKSClient, name: str, kubernetes: str) -> dict[str, bool]:
    """Return the versions that EKS offers for this Kubernetes, newest first, and whether each is the default."""
    request = {"addonName": name, "kubernetesVersion": kubernetes}
    offered = {}
    for addon in paginate(eks, "describe_addon_versions", "addons", **request):
        for version in addon["addonVersions"]:
            matching = [item for item in version["compatibilities"] if item.get("clusterVersion") == kubernetes]
            if matching:
                offered[version["addonVersion"]] = any(item.get("defaultVersion") for item in matching)
    return offered


def _version(name: str, wanted: AddOn, kubernetes: str, offered: dict[str, bool], found: dict[str, Any] | None) -> str:
    if not offered:
        raise AwsError(
            f"expected EKS to have the add-on {name} for Kubernetes {kubernetes}, got no version of it; leave it out "
            "of addons, or set another kubernetes_version."
        )
    if wanted.version == "latest":
        return next(iter(offered))
    if wanted.version == "default":
        if found and found["addonVersion"] in offered:
            return found["addonVersion"]
        return next((version for version, is_default in offered.items() if is_default), next(iter(offered)))
    if wanted.version not in offered:
        raise AwsError(
            f"expected the add-on {name} in a version for Kubernetes {kubernetes} ({', '.join(list(offered)[:4])}), "
            f"got {wanted.version}; choose one of these, or default."
        )
    return wanted.version


def _role_arns(eks: EKSClient, found: dict[str, Any]) -> set[str]:
    """Return the roles of an add-on's pods; DescribeAddon names only the associations' ARNs."""
    ids = [arn.rpartition("/")[2] for arn in found.get("podIdentityAssociations", [])]
    associations = [
        eks.describe_pod_identity_association(clusterName=found["clusterName"], associationId=each)["association"]
        for each in ids
    ]
    return {association["roleArn"] for association in associations}


def _addon(eks: EKSClient, cluster: str, name: str) -> dict[str, Any] | None:
    try:
        return dict(eks.describe_addon(clusterName=cluster, addonName=name)["addon"])
    except eks.exceptions.ResourceNotFoundException:
        return None
