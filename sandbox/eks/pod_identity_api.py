"""The EKS API's pod identity associations. They are kept and told of; no pod gets credentials of AWS here."""

from __future__ import annotations

import secrets
from types import SimpleNamespace

from moto.core.responses import ActionResult
from moto.core.utils import utcnow
from moto.eks.exceptions import InvalidParameterException, ResourceInUseException, ResourceNotFoundException
from moto.eks.models import Cluster

from sandbox.iam.trust_policies import trusted

SERVICE, ACTIONS = "pods.eks.amazonaws.com", {"sts:AssumeRole", "sts:TagSession"}
PATHS = (
    "{0}/clusters/(?P<name>[^/]+)/pod-identity-associations$",
    "{0}/clusters/(?P<name>[^/]+)/pod-identity-associations/(?P<associationId>[^/]+)$",
)


class PodIdentities:
    """The operations, to be mixed into moto's EKSResponse."""

    def create_pod_identity_association(self) -> ActionResult:
        cluster = self.eks_backend.describe_cluster(self._get_param("name"))
        who = self._get_param("namespace"), self._get_param("serviceAccount")
        return ActionResult(
            {"association": _associate(cluster, *who, self._get_param("roleArn"), self._get_param("tags"))}
        )

    def describe_pod_identity_association(self) -> ActionResult:
        return ActionResult({"association": self._association()[1]})

    def list_pod_identity_associations(self) -> ActionResult:
        cluster = self.eks_backend.describe_cluster(self._get_param("name"))
        wanted = {
            key: self._get_param(name) for key, name in (("namespace",) * 2, ("service_account", "serviceAccount"))
        }
        found = [
            one for one in cluster.associations.values()
            if all(value in (None, getattr(one, key)) for key, value in wanted.items())
        ]  # fmt: skip
        return self._page("associations", found)

    def update_pod_identity_association(self) -> ActionResult:
        _, found = self._association()
        if role := self._get_param("roleArn"):
            _check_role(role)
            found.role_arn, found.modified_at = role, utcnow()
        return ActionResult({"association": found})

    def delete_pod_identity_association(self) -> ActionResult:
        cluster, found = self._association()
        if found.owner_arn:
            raise InvalidParameterException(
                clusterName=cluster.name, message=f"The association is owned by {found.owner_arn}: update that."
            )
        return ActionResult({"association": cluster.associations.pop(found.association_id)})

    def _association(self) -> tuple[Cluster, SimpleNamespace]:
        cluster, name = self.eks_backend.describe_cluster(self._get_param("name")), self._get_param("associationId")
        if name not in cluster.associations:
            raise ResourceNotFoundException(
                clusterName=cluster.name, message=f"No pod identity association found for ID: {name}"
            )
        return cluster, cluster.associations[name]

    def _identify(self, cluster: Cluster, addon: SimpleNamespace) -> None:
        """Make an add-on's own associations what the call says they are."""
        asked = self._get_param("podIdentityAssociations") or []
        for one in asked:
            _check_role(one["roleArn"])
        self._forget(cluster, addon)
        for one in asked:
            made = _associate(
                cluster, "kube-system", one["serviceAccount"], one["roleArn"], addon.tags, addon.addon_arn
            )
            addon.pod_identity_associations.append(made.association_arn)

    def _forget(self, cluster: Cluster, addon: SimpleNamespace) -> None:
        for key, one in list(cluster.associations.items()):
            if one.owner_arn == addon.addon_arn:
                del cluster.associations[key]
        addon.pod_identity_associations = []


def _associate(
    cluster: Cluster, namespace: str, account: str, role: str, tags: dict | None, owner: str | None = None
) -> SimpleNamespace:
    _check_role(role)
    held = {(one.namespace, one.service_account) for one in cluster.associations.values()}
    if (namespace, account) in held:
        raise ResourceInUseException(
            clusterName=cluster.name, message=f"Association already exists: {namespace}/{account}"
        )
    name = f"a-{secrets.token_hex(8)}"
    made = SimpleNamespace(
        cluster_name=cluster.name, namespace=namespace, service_account=account, role_arn=role, association_id=name,
        association_arn=f"{cluster.arn.replace(':cluster/', ':podidentityassociation/')}/{name}", tags=tags or {},
        created_at=utcnow(), modified_at=utcnow(), owner_arn=owner,
    )  # fmt: skip
    cluster.associations[name] = made
    return made


def _check_role(role: str) -> None:
    if any(SERVICE in services and actions >= ACTIONS for services, actions in trusted(role)):
        return
    raise InvalidParameterException(message=f"Trust policy of the role {role} must let {SERVICE} {sorted(ACTIONS)}.")
