"""EKS's add-ons: created or updated, waited for, told of with who made them.

Amazon EKS API Reference: DescribeAddonVersions, CreateAddon, UpdateAddon, DescribeAddon.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from botocore.exceptions import ClientError

from lib.aws import health
from lib.aws.clusters import BUSY
from lib.aws.eks_updates import wait_update
from lib.aws.session import aws_errors, is_unreadable, is_unsupported, paginate
from lib.aws.tags import check_owned
from lib.errors import AwsError
from lib.params.eks import AddOn
from lib.polling import wait

EBS_CSI_DRIVER, POD_IDENTITY_AGENT = "aws-ebs-csi-driver", "eks-pod-identity-agent"
SERVICE_ACCOUNTS = {EBS_CSI_DRIVER: "ebs-csi-controller-sa"}  # the service account that asks AWS, of those which do
BROKEN = ("CREATE_FAILED", "UPDATE_FAILED", "DELETE_FAILED", "DELETING", "absent")
COLUMNS = ["add-on", "version", "status", "made by", "told"]

Tell = Callable[[float, str], None]  # seconds so far, status


@aws_errors()
def ensure_addon(
    eks, cluster: dict, name: str, wanted: AddOn, tags: dict[str, str], deadline: float, role_arn: str = "", **options
) -> tuple[dict, str]:
    """Create the add-on, or update its version, configuration or role; return (add-on, action), see wait_addon_active.

    `cluster` is as EKS describes it. What EKS installs by itself is taken over (OVERWRITE). An add-on of a version that
    is not default any more is kept while EKS has it for the cluster's Kubernetes. `role_arn` is of the pods that ask
    AWS, by pod identity. AwsError where EKS has no such add-on or version, or an endpoint has no add-ons at all.
    """
    try:
        offered = _offered(eks, name, cluster["version"])
        found = _addon(eks, cluster["name"], name)
    except ClientError as error:
        if not is_unsupported(error):
            raise
        raise AwsError(
            f"expected an endpoint that has EKS's add-ons (for {name}), got one that does not know them; leave out "
            "addons, or take another aws_endpoint_url."
        ) from None
    version = _version(name, wanted, cluster["version"], offered, found)
    stated = {"clusterName": cluster["name"], "addonName": name, "addonVersion": version}
    if wanted.configuration:
        stated["configurationValues"] = json.dumps(wanted.configuration, sort_keys=True)
    if role_arn:
        stated["podIdentityAssociations"] = [{"serviceAccount": SERVICE_ACCOUNTS[name], "roleArn": role_arn}]
    if found is None:
        return eks.create_addon(**stated, resolveConflicts="OVERWRITE", tags=tags)["addon"], "created"
    check_owned(f"add-on {name}", found.get("tags", {}), tags)
    same = found["addonVersion"] == version and json.loads(found.get("configurationValues") or "{}") == (
        wanted.configuration
    )
    if same and (not role_arn or _roles(eks, found) == {role_arn}):
        return found, "unchanged"
    if found["status"] in BUSY:
        wait(
            f"add-on {name} to be done with what it is at", lambda: _addon(eks, cluster["name"], name)["status"],
            lambda seen: seen not in BUSY, deadline=deadline, **options,
        )  # fmt: skip
    stated.setdefault("configurationValues", "{}")
    update = eks.update_addon(**stated, resolveConflicts="PRESERVE")["update"]
    wait_update(eks, cluster["name"], update, f"add-on {name}", deadline, of={"addonName": name}, **options)
    return _addon(eks, cluster["name"], name), "changed"


@aws_errors()
def find_addon(eks, cluster: str, name: str) -> dict | None:
    """Return an add-on as EKS describes it, or None; also where the endpoint has none, or it may not be looked at."""
    try:
        return _addon(eks, cluster, name)
    except ClientError as error:
        if is_unreadable(error):
            return None
        raise


@aws_errors()
def wait_addon_active(eks, cluster: str, name: str, deadline: float, tell: Tell | None = None, **options) -> dict:
    """Return the add-on once it is ACTIVE; AwsError with its issues if it failed, or is DEGRADED after `deadline` s.

    Unlike a node group's, an add-on's DEGRADED may pass: its pods wait for nodes.
    """
    last: dict = {}

    def look() -> str:
        nonlocal last
        last = _addon(eks, cluster, name) or {"status": "absent"}
        return " ".join(filter(None, (last["status"], health.issues(last))))

    wait(
        f"add-on {name} to be ACTIVE", look, lambda seen: seen.split()[0] in ("ACTIVE", *BROKEN),
        deadline=deadline, tell=tell, **options,
    )  # fmt: skip
    if last["status"] != "ACTIVE":
        raise AwsError(
            f"expected add-on {name} to be ACTIVE, got {last['status']} ({health.issues(last) or 'no reason given'}); "
            "mend that, and run it again."
        )
    return last


def row(found: dict) -> tuple[str, str, str, str, str]:
    """Return an add-on for a table: name, version, status, made by, told."""
    return found["addonName"], found["addonVersion"], found["status"], found.get("publisher", ""), health.issues(found)


def _offered(eks, name: str, kubernetes: str) -> dict[str, bool]:
    """The versions that EKS has for this Kubernetes, newest first, and whether each is the default one."""
    asked = {"addonName": name, "kubernetesVersion": kubernetes}
    known = paginate(eks, "describe_addon_versions", "addons", **asked)
    versions = [one for addon in known for one in addon["addonVersions"]]
    fits = lambda one: [fit for fit in one["compatibilities"] if fit.get("clusterVersion") == kubernetes]  # noqa: E731
    return {one["addonVersion"]: any(fit.get("defaultVersion") for fit in fits(one)) for one in versions if fits(one)}


def _version(name: str, wanted: AddOn, kubernetes: str, offered: dict[str, bool], found: dict | None) -> str:
    if not offered:
        raise AwsError(
            f"expected EKS to have the add-on {name} for Kubernetes {kubernetes}, got no version of it; leave it out "
            "of addons, or take another kubernetes_version."
        )
    if wanted.version == "latest":
        return next(iter(offered))
    if wanted.version == "default":
        if found and found["addonVersion"] in offered:
            return found["addonVersion"]
        return next((version for version, default in offered.items() if default), next(iter(offered)))
    if wanted.version not in offered:
        raise AwsError(
            f"expected the add-on {name} in a version for Kubernetes {kubernetes} ({', '.join(list(offered)[:4])}), "
            f"got {wanted.version}; take one of these, or default."
        )
    return wanted.version


def _roles(eks, found: dict) -> set[str]:
    """The roles that an add-on's pods get; EKS tells of them by the associations' ARNs alone."""
    ids = [arn.rpartition("/")[2] for arn in found.get("podIdentityAssociations", [])]
    about = {"clusterName": found["clusterName"]}
    told = [eks.describe_pod_identity_association(**about, associationId=each)["association"] for each in ids]
    return {one["roleArn"] for one in told}


def _addon(eks, cluster: str, name: str) -> dict | None:
    try:
        return eks.describe_addon(clusterName=cluster, addonName=name)["addon"]
    except eks.exceptions.ResourceNotFoundException:
        return None
