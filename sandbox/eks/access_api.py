"""The EKS API's access entries and policies, which moto does not have."""

from __future__ import annotations

from moto.core.responses import ActionResult, EmptyResult
from moto.core.utils import utcnow
from moto.eks.exceptions import (
    InvalidParameterException,
    InvalidRequestException,
    ResourceInUseException,
    ResourceNotFoundException,
)

from sandbox.eks.access_entries import CONFIG_MAP, NODES, STANDARD, Access
from sandbox.eks.access_policies import POLICIES, PREFIX
from sandbox.iam.authorization import known

# EKS's own sentences: clients know them.
WRONG_MODE = (
    "The cluster's authentication mode must be set to one of [API, API_AND_CONFIG_MAP] to perform this operation."
)
UNKNOWN = (
    "The specified principalArn could not be found. You can view your available access entries with "
    "'list-access-entries'."
)
IN_USE = "The specified access entry resource is already in use on this cluster."
NO_POLICY = (
    "The specified policyArn could not be found. You can view available access policies with 'list-access-policies'."
)
KEPT = ("system:", "eks:", "aws:", "amazon:", "iam:")  # how no group of an entry may begin
PATHS = (
    "{0}/access-policies$",
    "{0}/clusters/(?P<name>[^/]+)/access-entries$",
    "{0}/clusters/(?P<name>[^/]+)/access-entries/(?P<principalArn>.+)$",
)


class AccessEntries:
    """The operations, to be mixed into moto's EKSResponse."""

    def create_access_entry(self) -> ActionResult:
        access, principal = self._access(), self._get_param("principalArn")
        kind, groups = self._get_param("type") or STANDARD, self._get_param("kubernetesGroups") or []
        if principal in access.entries:
            raise ResourceInUseException(clusterName=access.cluster, message=IN_USE)
        if kind not in (STANDARD, NODES):
            self._refuse_entry(f"expected an entry of the type {STANDARD} or {NODES} in the sandbox, got {kind}.")
        if not known(principal):
            self._refuse_entry("The specified principalArn is invalid: invalid principal.")
        self._check_groups(groups)
        made = access.add(principal, groups, self._get_param("username") or "", kind, self._get_param("tags"))
        return ActionResult({"accessEntry": made})

    def describe_access_entry(self) -> ActionResult:
        return ActionResult({"accessEntry": self._entry()})

    def list_access_entries(self) -> ActionResult:
        access, policy = self._access(), self._get_param("associatedPolicyArn")
        found = [
            arn for arn, one in access.entries.items() if not policy or policy.rpartition("/")[2] in one["policies"]
        ]
        return self._page("accessEntries", sorted(found))

    def update_access_entry(self) -> ActionResult:
        entry, groups, username = self._entry(), self._get_param("kubernetesGroups"), self._get_param("username")
        if groups is not None:
            self._check_groups(groups)
            entry["kubernetesGroups"] = groups
        entry.update(username=username or entry["username"], modifiedAt=utcnow())
        return ActionResult({"accessEntry": entry})

    def delete_access_entry(self) -> ActionResult:
        del self._access().entries[self._entry()["principalArn"]]
        return EmptyResult()

    def associate_access_policy(self) -> ActionResult:
        entry, scope = self._entry(), self._get_param("accessScope")
        policy = self._policy()
        if scope["type"] not in ("cluster", "namespace") or (scope["type"] == "namespace") != bool(
            scope.get("namespaces")
        ):
            self._refuse_entry("expected an access scope cluster, or namespace with namespaces, got another.")
        if entry["type"] != STANDARD:
            raise InvalidRequestException(message=f"expected an entry of the type {STANDARD}, got {entry['type']}.")
        made = self._access().associate(entry["principalArn"], policy, scope)
        named = {key: entry[key] for key in ("clusterName", "principalArn")}
        return ActionResult({**named, "associatedAccessPolicy": made})

    def disassociate_access_policy(self) -> ActionResult:
        entry, policy = self._entry(), self._policy()
        if policy not in entry["policies"]:
            raise ResourceNotFoundException(clusterName=entry["clusterName"], message=NO_POLICY)
        del entry["policies"][policy]
        return EmptyResult()

    def list_associated_access_policies(self) -> ActionResult:
        entry = self._entry()
        named = {key: entry[key] for key in ("clusterName", "principalArn")}
        return self._page("associatedAccessPolicies", list(entry["policies"].values()), named)

    def list_access_policies(self) -> ActionResult:
        return self._page("accessPolicies", [{"name": name, "arn": PREFIX + name} for name in POLICIES])

    def _access(self) -> Access:
        access = self.eks_backend.describe_cluster(self._get_param("name")).access
        if access.mode == CONFIG_MAP:
            raise InvalidRequestException(clusterName=access.cluster, message=WRONG_MODE)
        return access

    def _entry(self) -> dict:
        access = self._access()
        found = access.entries.get(self._get_param("principalArn"))
        if found is None:
            raise ResourceNotFoundException(clusterName=access.cluster, message=UNKNOWN)
        return found

    def _policy(self) -> str:
        arn = self._get_param("policyArn")
        name = arn.removeprefix(PREFIX)
        if not arn.startswith(PREFIX) or name not in POLICIES:
            raise ResourceNotFoundException(clusterName=self._get_param("name"), message=NO_POLICY)
        return name

    def _check_groups(self, groups: list[str]) -> None:
        if wrong := [group for group in groups if group.startswith(KEPT)]:
            self._refuse_entry(f"The kubernetes group name {wrong[0]} is invalid, it cannot start with {KEPT[0]}")

    def _refuse_entry(self, message: str) -> None:
        raise InvalidParameterException(clusterName=self._get_param("name"), message=message)
