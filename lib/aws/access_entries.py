"""Who may use the cluster's API: EKS's access entries, created or updated, listed; and who else has one.

Amazon EKS API Reference: CreateAccessEntry, AssociateAccessPolicy; EKS user guide: "Grant IAM users access to
Kubernetes with EKS access entries".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import contextmanager

from botocore.exceptions import ClientError

from lib.aws import session
from lib.aws.session import aws_errors, is_unsupported
from lib.errors import AwsError
from lib.params.eks import AccessEntry

CONFIG_MAP = "CONFIG_MAP"  # the mode of old clusters: rights stand in the ConfigMap aws-auth
POLICY = "arn:{}:eks::aws:cluster-access-policy/{}"
COLUMNS = ["principal", "type", "groups", "policies"]

Tell = Callable[[str, str, str], None]  # kind, name, action


@aws_errors()
def ensure_entries(
    eks, cluster: dict, wanted: Iterable[AccessEntry], tags: dict[str, str], tell: Tell
) -> list[tuple[str, str]]:
    """Create or update these entries, delete others of ours; return (principal, action) of each, `tell` as it is done.

    `cluster` is as EKS describes it. An entry without our tags is neither changed nor deleted: AwsError, as where the
    cluster's authenticationMode, or the endpoint, has no access entries.
    """
    wanted, done = list(wanted), []
    if not _check_mode(cluster, wanted):
        return done
    with _endpoint_has_entries():
        found = {arn: _entry(eks, cluster["name"], arn) for arn in _listed(eks, cluster["name"])}
    for entry in wanted:
        there = found.get(entry.principal_arn)
        if there and not tags.items() <= there.get("tags", {}).items():
            raise AwsError(
                f"access entry of {entry.principal_arn}: expected the tags {tags}, got {there.get('tags', {})}: "
                "somebody else made it; leave it out of access_entries, or delete it there."
            )
    for entry in wanted:
        done.append((entry.principal_arn, _ensure(eks, cluster, entry, found.get(entry.principal_arn), tags)))
        tell("access entry", *done[-1])
    named = {entry.principal_arn for entry in wanted}
    for arn, there in found.items():
        if arn not in named and tags.items() <= there.get("tags", {}).items():
            eks.delete_access_entry(clusterName=cluster["name"], principalArn=arn)
            done.append((arn, "deleted"))
            tell("access entry", *done[-1])
    return done


@aws_errors()
def list_entries(eks, cluster: dict) -> list[tuple[str, str, str, str]]:
    """Return each entry of the cluster: principal, type, groups, policies with their scope.

    Nothing is changed. Where there are none to be had, or you may not look, one row says so.
    """
    mode = cluster.get("accessConfig", {}).get("authenticationMode", "")
    if mode in ("", CONFIG_MAP):
        return [("not known", mode or "no access entries here", "", "see the ConfigMap aws-auth")]
    try:
        return [_row(eks, cluster["name"], arn) for arn in _listed(eks, cluster["name"])]
    except ClientError as error:
        if session.is_unreadable(error):
            return [("not known", error.response["Error"]["Code"], "", "")]
        raise


def _row(eks, cluster: str, arn: str) -> tuple[str, str, str, str]:
    entry = _entry(eks, cluster, arn)
    held = [f"{policy.rpartition('/')[2]} ({scope})" for policy, scope in _policies(eks, cluster, arn).items()]
    return arn, entry.get("type", ""), ", ".join(entry.get("kubernetesGroups", [])), "; ".join(held)


def _check_mode(cluster: dict, wanted: list[AccessEntry]) -> bool:
    """Whether there can be entries; AwsError where some are wanted and there cannot."""
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
def _endpoint_has_entries():
    """Turn an endpoint's "no such operation" into a sentence."""
    try:
        yield
    except ClientError as error:
        if not is_unsupported(error):
            raise
        raise AwsError(
            "expected an endpoint that has EKS's access entries, got one that does not know them; leave out "
            "access_entries, or take another aws_endpoint_url."
        ) from None


def _ensure(eks, cluster: dict, entry: AccessEntry, there: dict | None, tags: dict[str, str]) -> str:
    named, groups = {"clusterName": cluster["name"], "principalArn": entry.principal_arn}, sorted(entry.groups)
    action = "unchanged"
    if there is None:
        eks.create_access_entry(**named, kubernetesGroups=groups, tags=tags)
        action = "created"
    elif sorted(there.get("kubernetesGroups", [])) != groups:
        eks.update_access_entry(**named, kubernetesGroups=groups)
        action = "changed"
    partition = entry.principal_arn.split(":")[1]
    wanted = {POLICY.format(partition, entry.policy): _scope(entry)} if entry.policy else {}
    held = _policies(eks, cluster["name"], entry.principal_arn) if there else {}
    for policy, scope in wanted.items():
        if held.get(policy) != _said(scope):
            eks.associate_access_policy(**named, policyArn=policy, accessScope=scope)
            action = "created" if action == "created" else "changed"
    for policy in sorted(held.keys() - wanted.keys()):
        eks.disassociate_access_policy(**named, policyArn=policy)
        action = "changed"
    return action


def _scope(entry: AccessEntry) -> dict:
    return {"type": "cluster"} if entry.scope == "cluster" else {"type": "namespace", "namespaces": entry.scope}


def _said(scope: dict) -> str:
    return "cluster" if scope["type"] == "cluster" else ", ".join(sorted(scope["namespaces"]))


def _policies(eks, cluster: str, arn: str) -> dict[str, str]:
    asked = {"clusterName": cluster, "principalArn": arn}
    held = session.paginate(eks, "list_associated_access_policies", "associatedAccessPolicies", **asked)
    return {one["policyArn"]: _said(one["accessScope"]) for one in held}


def _listed(eks, cluster: str) -> list[str]:
    return session.paginate(eks, "list_access_entries", "accessEntries", clusterName=cluster)


def _entry(eks, cluster: str, arn: str) -> dict:
    return eks.describe_access_entry(clusterName=cluster, principalArn=arn)["accessEntry"]
