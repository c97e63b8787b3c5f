"""EKS access entries: which IAM roles and users may use the cluster's API, and for what.

Amazon EKS API Reference: CreateAccessEntry, AssociateAccessPolicy; EKS user guide: "Grant IAM users access to
Kubernetes with EKS access entries".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from lib.aws.session import aws_errors, error_code, is_unreadable, is_unsupported, paginate
from lib.errors import AwsError
from lib.params.eks import AccessEntry

if TYPE_CHECKING:
    from mypy_boto3_eks import EKSClient

CONFIG_MAP = "CONFIG_MAP"  # the authenticationMode of old clusters: the ConfigMap aws-auth grants access
POLICY = "arn:{}:eks::aws:cluster-access-policy/{}"
COLUMNS = ["principal", "type", "groups", "policies"]

OnChange = Callable[[str, str, str], None]  # kind, name, action


def create_request(cluster: str, entry: AccessEntry, tags: dict[str, str]) -> dict[str, Any]:
    """Return what CreateAccessEntry gets."""
    return {**_names(cluster, entry), "kubernetesGroups": sorted(entry.groups), "tags": tags}


def policy_requests(cluster: str, entry: AccessEntry) -> list[dict[str, Any]]:
    """Return what AssociateAccessPolicy gets: one request, or none for an entry without an access policy."""
    if not entry.policy:
        return []
    policy = POLICY.format(entry.principal_arn.split(":")[1], entry.policy)
    return [{**_names(cluster, entry), "policyArn": policy, "accessScope": _scope(entry)}]


@aws_errors()
def ensure_entries(
    eks: EKSClient, cluster: dict[str, Any], wanted: Iterable[AccessEntry], tags: dict[str, str], tell: OnChange
) -> list[tuple[str, str]]:
    """Create or update these entries, and delete the runbook's other ones.

    Args:
        eks: boto3's EKS client.
        cluster: the cluster as DescribeCluster describes it.
        wanted: the entries.
        tags: the runbook's tags.
        tell: receives kind, principal and action of each entry after its change.

    Returns:
        Principal and action of each entry.

    Raises:
        AwsError: an entry of this principal exists without these tags, or the cluster's authenticationMode or the
            endpoint does not allow access entries.
    """
    entries: list[AccessEntry] = list(wanted)
    done: list[tuple[str, str]] = []
    if not _has_entries(cluster, entries):
        return done
    with _entries_supported():
        found = {arn: _describe(eks, cluster["name"], arn) for arn in _principals(eks, cluster["name"])}
    for entry in entries:
        existing = found.get(entry.principal_arn)
        if existing and not tags.items() <= existing.get("tags", {}).items():
            raise AwsError(
                f"access entry of {entry.principal_arn}: expected the tags {tags}, got {existing.get('tags', {})}: "
                "somebody else created it; remove it from access_entries, or delete it in EKS."
            )
    for entry in entries:
        done.append((entry.principal_arn, _ensure(eks, cluster["name"], entry, found.get(entry.principal_arn), tags)))
        tell("access entry", *done[-1])
    named = {entry.principal_arn for entry in entries}
    for arn, existing in found.items():
        if arn not in named and tags.items() <= existing.get("tags", {}).items():
            eks.delete_access_entry(clusterName=cluster["name"], principalArn=arn)
            done.append((arn, "deleted"))
            tell("access entry", *done[-1])
    return done


@aws_errors()
def list_entries(eks: EKSClient, cluster: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    """Return principal, type, groups and policies (with scope) of each access entry of a cluster.

    If the cluster has no access entries, or the caller may not read them, the one row says "not known" and why.
    """
    mode = cluster.get("accessConfig", {}).get("authenticationMode", "")
    if mode in ("", CONFIG_MAP):
        return [("not known", mode or "no access entries here", "", "see the ConfigMap aws-auth")]
    try:
        return [_row(eks, cluster["name"], arn) for arn in _principals(eks, cluster["name"])]
    except ClientError as error:
        if is_unreadable(error):
            return [("not known", error_code(error), "", "")]
        raise


def _row(eks: EKSClient, cluster: str, arn: str) -> tuple[str, str, str, str]:
    entry = _describe(eks, cluster, arn)
    policies = [f"{policy.rpartition('/')[2]} ({scope})" for policy, scope in _policies(eks, cluster, arn).items()]
    return arn, entry.get("type", ""), ", ".join(entry.get("kubernetesGroups", [])), "; ".join(policies)


def _has_entries(cluster: dict[str, Any], wanted: list[AccessEntry]) -> bool:
    """Whether the cluster can have access entries; AwsError if it cannot and the params want some."""
    mode = cluster.get("accessConfig", {}).get("authenticationMode")
    if mode != CONFIG_MAP:
        return bool(mode or wanted)
    if wanted:
        raise AwsError(
            f"expected the cluster {cluster['name']} to have access entries, got authenticationMode {mode}; set it to "
            "API_AND_CONFIG_MAP (aws eks update-cluster-config; there is no way back), or leave out access_entries."
        )
    return False


@contextmanager
def _entries_supported() -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        if not is_unsupported(error):
            raise
        raise AwsError(
            "expected an endpoint that has EKS's access entries, got one that does not know them; leave out "
            "access_entries, or set another aws_endpoint_url."
        ) from None


def _ensure(
    eks: EKSClient, cluster: str, entry: AccessEntry, existing: dict[str, Any] | None, tags: dict[str, str]
) -> str:
    names, groups, action = _names(cluster, entry), sorted(entry.groups), "unchanged"
    if existing is None:
        eks.create_access_entry(**create_request(cluster, entry, tags))
        action = "created"
    elif sorted(existing.get("kubernetesGroups", [])) != groups:
        eks.update_access_entry(**names, kubernetesGroups=groups)
        action = "changed"
    wanted = {request["policyArn"]: request for request in policy_requests(cluster, entry)}
    associated = _policies(eks, cluster, entry.principal_arn) if existing else {}
    for policy, request in wanted.items():
        if associated.get(policy) != _scope_text(request["accessScope"]):
            eks.associate_access_policy(**request)
            action = "created" if action == "created" else "changed"
    for policy in sorted(associated.keys() - wanted.keys()):
        eks.disassociate_access_policy(**names, policyArn=policy)
        action = "changed"
    return action


def _names(cluster: str, entry: AccessEntry) -> dict[str, str]:
    return {"clusterName": cluster, "principalArn": entry.principal_arn}


def _scope(entry: AccessEntry) -> dict[str, Any]:
    return {"type": "cluster"} if entry.scope == "cluster" else {"type": "namespace", "namespaces": entry.scope}


def _scope_text(scope: dict[str, Any]) -> str:
    return "cluster" if scope["type"] == "cluster" else ", ".join(sorted(scope["namespaces"]))


def _policies(eks: EKSClient, cluster: str, arn: str) -> dict[str, str]:
    """Return the scope of each access policy of an entry, by the policy's ARN."""
    request = {"clusterName": cluster, "principalArn": arn}
    found = paginate(eks, "list_associated_access_policies", "associatedAccessPolicies", **request)
    return {policy["policyArn"]: _scope_text(policy["accessScope"]) for policy in found}


def _principals(eks: EKSClient, cluster: str) -> list[str]:
    return paginate(eks, "list_access_entries", "accessEntries", clusterName=cluster)


def _describe(eks: EKSClient, cluster: str, arn: str) -> dict[str, Any]:
    return dict(eks.describe_access_entry(clusterName=cluster, principalArn=arn)["accessEntry"])
