"""The EKS API's pod identity associations: stored and reported. Pods get AWS credentials by IRSA alone."""

from __future__ import annotations

import secrets

from moto.core.responses import ActionResult
from moto.core.utils import utcnow
from moto.eks.exceptions import InvalidParameterException, ResourceInUseException, ResourceNotFoundException

from sandbox.eks.base_api import EksBaseApi
from sandbox.eks.models import AddOn, Association, EksCluster
from sandbox.iam.trust_policies import trusted

SERVICE, ACTIONS = "pods.eks.amazonaws.com", {"sts:AssumeRole", "sts:TagSession"}
PATHS = (
    "{0}/clusters/(?P<name>[^/]+)/pod-identity-associations$",
    "{0}/clusters/(?P<name>[^/]+)/pod-identity-associations/(?P<associationId>[^/]+)$",
)


class PodIdentityApi(EksBaseApi):
    """The operations on pod identity associations."""

    def create_pod_identity_association(self) -> ActionResult:
        """API_CreatePodIdentityAssociation: give a service account a role."""
        names = self._get_param("namespace"), self._get_param("serviceAccount")
        association = _associate(self._cluster(), *names, self._get_param("roleArn"), self._get_param("tags"))
        return ActionResult({"association": association})

    def describe_pod_identity_association(self) -> ActionResult:
        """API_DescribePodIdentityAssociation: return one association."""
        return ActionResult({"association": self._association()[1]})

    def list_pod_identity_associations(self) -> ActionResult:
        """API_ListPodIdentityAssociations: list associations, if asked only those of a namespace or service account."""
        namespace, account = self._get_param("namespace"), self._get_param("serviceAccount")
        matches = [
            association
            for association in self._cluster().associations.values()
            if namespace in (None, association.namespace) and account in (None, association.service_account)
        ]
        return self._page("associations", matches)

    def update_pod_identity_association(self) -> ActionResult:
        """API_UpdatePodIdentityAssociation: change the role."""
        _, association = self._association()
        if role := self._get_param("roleArn"):
            _check_role(role)
            association.role_arn, association.modified_at = role, utcnow()
        return ActionResult({"association": association})

    def delete_pod_identity_association(self) -> ActionResult:
        """API_DeletePodIdentityAssociation: delete an association that no add-on owns."""
        cluster, association = self._association()
        if owner := association.owner_arn:
            raise InvalidParameterException(
                clusterName=cluster.name, message=f"The association is owned by {owner}: update that."
            )
        return ActionResult({"association": cluster.associations.pop(association.association_id)})

    def _association(self) -> tuple[EksCluster, Association]:
        cluster, name = self._cluster(), self._get_param("associationId")
        if name not in cluster.associations:
            raise ResourceNotFoundException(
                clusterName=cluster.name, message=f"No pod identity association found for ID: {name}"
            )
        return cluster, cluster.associations[name]

    def _replace_associations(self, cluster: EksCluster, addon: AddOn) -> None:
        """Replace an add-on's associations by those that the call names."""
        wanted = self._get_param("podIdentityAssociations") or []
        for one in wanted:
            _check_role(one["roleArn"])
        self._drop_associations(cluster, addon)
        for one in wanted:
            association = _associate(
                cluster, "kube-system", one["serviceAccount"], one["roleArn"], addon.tags, addon.addon_arn
            )
            addon.pod_identity_associations.append(association.association_arn)

    def _drop_associations(self, cluster: EksCluster, addon: AddOn) -> None:
        for key, association in list(cluster.associations.items()):
            if association.owner_arn == addon.addon_arn:
                del cluster.associations[key]
        addon.pod_identity_associations = []


def _associate(
    cluster: EksCluster, namespace: str, account: str, role: str, tags: dict | None, owner_arn: str | None = None
) -> Association:
    _check_role(role)
    if any((one.namespace, one.service_account) == (namespace, account) for one in cluster.associations.values()):
        raise ResourceInUseException(
            clusterName=cluster.name, message=f"Association already exists: {namespace}/{account}"
        )
    name = f"a-{secrets.token_hex(8)}"
    arn = f"{cluster.arn.replace(':cluster/', ':podidentityassociation/')}/{name}"
    association = Association(cluster.name, namespace, account, role, name, arn, tags or {}, owner_arn)
    cluster.associations[name] = association
    return association


def _check_role(role: str) -> None:
    if any(SERVICE in services and actions >= ACTIONS for services, actions in trusted(role)):
        return
    raise InvalidParameterException(message=f"Trust policy of the role {role} must let {SERVICE} {sorted(ACTIONS)}.")
