"""The EKS API's add-ons: each reports what the sandbox node really runs, or that the node runs nothing for it."""

from __future__ import annotations

import json
import uuid

from moto.core.responses import ActionResult
from moto.core.utils import utcnow
from moto.eks.exceptions import (
    InvalidParameterException,
    InvalidRequestException,
    ResourceInUseException,
    ResourceNotFoundException,
)

from sandbox.eks.clusters import HEALTH_TAG, forced_health
from sandbox.eks.models import AddOn, EksCluster
from sandbox.eks.pod_identity_api import PodIdentityApi
from sandbox.eks.updates_api import UpdatesApi
from sandbox.paths import version

OWNER = "eks-sandbox"
TOO_FEW = "The add-on is unhealthy because it doesn't have the desired number of replicas."
STORAGE = {"defaultStorageClass": {"enabled": True}}  # accepted, because the sandbox always has a default StorageClass
BUILT_IN = ("coredns", "kube-proxy", "vpc-cni")  # the node cannot run without its counterparts of these
ADDONS = {  # name: (type, version, what the sandbox runs for it, reported as the publisher)
    "aws-ebs-csi-driver": ("storage", "1.0.0", "volumes are folders of the node: no EBS, no CSI driver"),
    "coredns": ("networking", version("coredns"), "CoreDNS, built from source"),
    "eks-pod-identity-agent": ("security", "1.0.0", "nothing: pods get no credentials of AWS here"),
    "kube-proxy": ("networking", version("kubernetes"), "kube-proxy, a process of the node and no DaemonSet"),
    "vpc-cni": ("networking", "1.0.0", "bridge and host-local plugins: pods have addresses of no VPC"),
}
PATHS = (
    "{0}/addons/supported-versions$",
    "{0}/clusters/(?P<name>[^/]+)/addons$",
    "{0}/clusters/(?P<name>[^/]+)/addons/(?P<addonName>[^/]+)$",
    "{0}/clusters/(?P<name>[^/]+)/addons/(?P<addonName>[^/]+)/update$",
)


class AddOnsApi(PodIdentityApi, UpdatesApi):
    """The operations on add-ons."""

    def describe_addon_versions(self) -> ActionResult:
        """API_DescribeAddonVersions: list the add-ons, each with its one version, for one Kubernetes version."""
        name, minor = self._get_param("addonName"), self._get_param("kubernetesVersion")
        known = [one for one in ADDONS if one == (name or one)] if minor in (None, self._minor()) else []
        return self._page("addons", [self._addon_info(one) for one in known])

    def create_addon(self) -> ActionResult:
        """API_CreateAddon: add an add-on to an ACTIVE cluster; it is CREATING, then ACTIVE or DEGRADED."""
        with self.lock:
            cluster, name = self._cluster(), self._get_param("addonName")
            if name in cluster.addons:
                raise ResourceInUseException(clusterName=cluster.name, addonName=name, message="Addon already exists.")
            if cluster.status != "ACTIVE":
                raise InvalidRequestException(clusterName=cluster.name, message="Cluster is not in ACTIVE status")
            self._check_addon(cluster, name)
            addon = cluster.addons[name] = AddOn(
                addon_name=name,
                cluster_name=cluster.name,
                addon_version=_full_version(name),
                addon_arn=f"{cluster.arn.replace(':cluster/', ':addon/')}/{name}/{uuid.uuid4()}",
                owner=OWNER,
                publisher=_publisher(name),
                tags=self._get_param("tags") or {},
                configuration_values=self._get_param("configurationValues"),
                service_account_role_arn=self._get_param("serviceAccountRoleArn"),
                due=self.clusters.delays.due("add-on"),
            )
            self._replace_associations(cluster, addon)
            self._refresh(cluster, addon)
        return ActionResult({"addon": addon})

    def describe_addon(self) -> ActionResult:
        """API_DescribeAddon: return one add-on with its present health."""
        return ActionResult({"addon": self._addon()[1]})

    def list_addons(self) -> ActionResult:
        """API_ListAddons: list a cluster's add-ons by name."""
        return self._page("addons", sorted(self._cluster().addons))

    def update_addon(self) -> ActionResult:
        """API_UpdateAddon: change an add-on's configuration or its pod identities."""
        cluster, addon = self._addon()
        self._check_addon(cluster, addon.addon_name)
        names = {"AddonVersion": "addonVersion", "ConfigurationValues": "configurationValues"}
        params = {key: self._get_param(name) for key, name in names.items() if self._get_param(name)}

        def apply() -> None:
            addon.configuration_values = params.get("ConfigurationValues", addon.configuration_values)
            addon.modified_at = utcnow()

        if self._get_param("podIdentityAssociations") is not None:
            self._replace_associations(cluster, addon)
        return self._begin(cluster, addon, "AddonUpdate", "add-on update", params, apply, addon.addon_name)

    def delete_addon(self) -> ActionResult:
        """API_DeleteAddon: delete an add-on. The node's own parts stay, so those add-ons need `preserve`."""
        cluster, addon = self._addon()
        if addon.addon_name in BUILT_IN and not self._get_bool_param("preserve", False):
            raise InvalidRequestException(
                clusterName=cluster.name,
                message=f"The sandbox's node cannot run without its {addon.addon_name}: delete it with preserve=True.",
            )
        addon.status = "DELETING"
        self._drop_associations(cluster, addon)
        del cluster.addons[addon.addon_name]
        return ActionResult({"addon": addon})

    def _minor(self) -> str:
        return self.clusters.kubernetes_version

    def _addon_info(self, name: str) -> dict:
        fits = {"clusterVersion": self._minor(), "platformVersions": ["*"], "defaultVersion": True}
        versions = [{"addonVersion": _full_version(name), "architecture": ["amd64"], "compatibilities": [fits]}]
        about = {"addonName": name, "type": ADDONS[name][0], "publisher": _publisher(name), "owner": OWNER}
        return {**about, "addonVersions": versions}

    def _refresh(self, cluster: EksCluster, addon: AddOn) -> None:
        """Set an add-on's status and health by its health tag or by the node, unless it is still changing."""
        if addon.status in ("UPDATING", "DELETING") or self.clusters.delays.left(addon.due):
            return
        if HEALTH_TAG in addon.tags:
            addon.status, addon.health = forced_health(addon.tags)
        elif self.clusters.addon_healthy(cluster.name, addon.addon_name):
            addon.status, addon.health = "ACTIVE", {"issues": []}
        else:
            issue = {"code": "InsufficientNumberOfReplicas", "message": TOO_FEW, "resourceIds": []}
            addon.status, addon.health = "DEGRADED", {"issues": [issue]}

    def _check_addon(self, cluster: EksCluster, name: str) -> None:
        wanted, configuration = self._get_param("addonVersion"), self._get_param("configurationValues")
        problem = ""
        if name not in ADDONS:
            problem = f"Addon specified is not supported in {cluster.version} kubernetes version"
        elif wanted not in (None, _full_version(name)):
            problem = f"Addon version specified is not supported: expected {_full_version(name)}, got {wanted}"
        elif configuration and _parsed(configuration) not in ({}, STORAGE if name == "aws-ebs-csi-driver" else {}):
            problem = f"ConfigurationValue provided in request is not supported: the sandbox has none for {name}"
        if problem:
            raise InvalidParameterException(clusterName=cluster.name, addonName=name, message=problem)

    def _addon(self) -> tuple[EksCluster, AddOn]:
        cluster, name = self._cluster(), self._get_param("addonName")
        if name not in cluster.addons:
            raise ResourceNotFoundException(
                clusterName=cluster.name, addonName=name, message=f"No addon: {name} found in cluster: {cluster.name}"
            )
        self._refresh(cluster, cluster.addons[name])
        return cluster, cluster.addons[name]


def _full_version(name: str) -> str:
    return f"v{ADDONS[name][1]}-sandbox.1"


def _publisher(name: str) -> str:
    return f"{OWNER}: {ADDONS[name][2]}"


def _parsed(text: str) -> dict:
    try:
        return json.loads(text)
    except ValueError:
        return {"": "not JSON"}
