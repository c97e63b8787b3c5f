"""The EKS API's access entries and access policies, which moto lacks."""

from __future__ import annotations

from moto.core.responses import ActionResult, EmptyResult
from moto.core.utils import utcnow
from moto.eks.exceptions import InvalidRequestException, ResourceInUseException, ResourceNotFoundException

from sandbox.eks.access_entries import CONFIG_MAP, NODES, STANDARD, AccessEntries
from sandbox.eks.access_policies import POLICIES, PREFIX
from sandbox.eks.base_api import EksBaseApi
from sandbox.iam.authorization import user_or_role

# EKS's own sentences: clients match on them.
WRONG_MODE = (
    "The cluster's authentication mode must be set to one of [API, API_AND_CONFIG_MAP] to perform this operation."
)
ENTRY_NOT_FOUND = (
    "The specified principalArn could not be found. You can view your available access entries with "
    "'list-access-entries'."
)
ENTRY_IN_USE = "The specified access entry resource is already in use on this cluster."
POLICY_NOT_FOUND = (
    "The specified policyArn could not be found. You can view available access policies with 'list-access-policies'."
)
RESERVED = (
    "system:",
    "eks:",
    "aws:",
    "amazon:",
    "iam:",
)  # no group and no user name may begin so: API_CreateAccessEntry
PATHS = (
    "{0}/access-policies$",
    "{0}/clusters/(?P<name>[^/]+)/access-entries$",
    "{0}/clusters/(?P<name>[^/]+)/access-entries/(?P<principalArn>.+)$",
)


class AccessApi(EksBaseApi):
    """The operations on access entries and on their policies."""

    def create_access_entry(self) -> ActionResult:
        """API_CreateAccessEntry: add an entry for a user or role of the account."""
        access, principal = self._access(), self._get_param("principalArn")
        kind, groups = self._get_param("type") or STANDARD, self._get_param("kubernetesGroups") or []
        if principal in access.entries:
            raise ResourceInUseException(clusterName=access.cluster, message=ENTRY_IN_USE)
        if kind not in (STANDARD, NODES):
            self._refuse(f"expected an entry of the type {STANDARD} or {NODES} in the sandbox, got {kind}.")
        if not (owner := user_or_role(principal)):
            self._refuse("The specified principalArn is invalid: invalid principal.")
        username = self._get_param("username") or ""
        self._check_names(groups, username)
        entry = access.add(principal, owner.id, groups, username, kind, self._get_param("tags"))
        return ActionResult({"accessEntry": entry})

    def describe_access_entry(self) -> ActionResult:
        """API_DescribeAccessEntry: return one entry."""
        return ActionResult({"accessEntry": self._entry()})

    def list_access_entries(self) -> ActionResult:
        """API_ListAccessEntries: list the entries' principals, if asked only those with one policy."""
        access, policy = self._access(), (self._get_param("associatedPolicyArn") or "").rpartition("/")[2]
        principals = [arn for arn, entry in access.entries.items() if not policy or policy in entry["policies"]]
        return self._page("accessEntries", sorted(principals))

    def update_access_entry(self) -> ActionResult:
        """API_UpdateAccessEntry: change an entry's groups and user name."""
        entry, groups, username = self._entry(), self._get_param("kubernetesGroups"), self._get_param("username")
        self._check_names(groups or [], username or "")
        if groups is not None:
            entry["kubernetesGroups"] = groups
        entry.update(username=username or entry["username"], modifiedAt=utcnow())
        return ActionResult({"accessEntry": entry})

    def delete_access_entry(self) -> ActionResult:
        """API_DeleteAccessEntry: delete an entry with its policies."""
        del self._access().entries[self._entry()["principalArn"]]
        return EmptyResult()

    def associate_access_policy(self) -> ActionResult:
        """API_AssociateAccessPolicy: give an entry a policy, cluster-wide or in namespaces."""
        entry, scope, policy = self._entry(), self._get_param("accessScope"), self._policy()
        kind, namespaces = scope["type"], scope.get("namespaces")
        if kind not in ("cluster", "namespace") or (kind == "namespace") != bool(namespaces):
            self._refuse("expected an access scope cluster, or namespace with namespaces, got another.")
        if entry["type"] != STANDARD:
            raise InvalidRequestException(message=f"expected an entry of the type {STANDARD}, got {entry['type']}.")
        association = self._access().associate(entry["principalArn"], policy, scope)
        return ActionResult({**_names(entry), "associatedAccessPolicy": association})

    def disassociate_access_policy(self) -> ActionResult:
        """API_DisassociateAccessPolicy: take a policy away from an entry."""
        entry, policy = self._entry(), self._policy()
        if policy not in entry["policies"]:
            raise ResourceNotFoundException(clusterName=entry["clusterName"], message=POLICY_NOT_FOUND)
        del entry["policies"][policy]
        return EmptyResult()

    def list_associated_access_policies(self) -> ActionResult:
        """API_ListAssociatedAccessPolicies: list the policies of an entry."""
        entry = self._entry()
        return self._page("associatedAccessPolicies", list(entry["policies"].values()), _names(entry))

    def list_access_policies(self) -> ActionResult:
        """API_ListAccessPolicies: list the policies that exist."""
        return self._page("accessPolicies", [{"name": name, "arn": PREFIX + name} for name in POLICIES])

    def _access(self) -> AccessEntries:
        access = self._cluster().access
        if access.mode == CONFIG_MAP:
            raise InvalidRequestException(clusterName=access.cluster, message=WRONG_MODE)
        return access

    def _entry(self) -> dict:
        access = self._access()
        entry = access.entries.get(self._get_param("principalArn"))
        if entry is None:
            raise ResourceNotFoundException(clusterName=access.cluster, message=ENTRY_NOT_FOUND)
        return entry

    def _policy(self) -> str:
        arn = self._get_param("policyArn")
        name = arn.removeprefix(PREFIX)
        if not arn.startswith(PREFIX) or name not in POLICIES:
            raise ResourceNotFoundException(clusterName=self._get_param("name"), message=POLICY_NOT_FOUND)
        return name

    def _check_names(self, groups: list[str], username: str) -> None:
        if wrong := [group for group in groups if group.startswith(RESERVED)]:
            self._refuse(f"The kubernetes group name {wrong[0]} is invalid, it cannot start with {RESERVED[0]}")
        before, template, _ = username.partition("{{SessionName")
        if username.startswith(RESERVED) or (template and ":" not in before):
            rule = f"it cannot start with {', '.join(RESERVED)}, and needs a colon before {{{{SessionName}}}}"
            self._refuse(f"The username {username} is invalid: {rule}")


def _names(entry: dict) -> dict[str, str]:
    return {key: entry[key] for key in ("clusterName", "principalArn")}
