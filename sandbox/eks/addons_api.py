"""The EKS API's add-ons: what a node of the sandbox has is told of as what it is, and what it has not as that."""

from __future__ import annotations

import json
import uuid
from types import SimpleNamespace

from moto.core.responses import ActionResult
from moto.core.utils import utcnow
from moto.eks.exceptions import (
    InvalidParameterException,
    InvalidRequestException,
    ResourceInUseException,
    ResourceNotFoundException,
)
from moto.eks.models import Cluster

from sandbox.eks.clusters import HEALTH, cued
from sandbox.paths import version

OWNER = "eks-sandbox"
TOO_FEW = "The add-on is unhealthy because it doesn't have the desired number of replicas."
STORAGE = {"defaultStorageClass": {"enabled": True}}  # what is true here: the default class is there, a folder's
NEEDED = ("coredns", "kube-proxy", "vpc-cni")  # what stands for these is part of a node
ADDONS = {  # name: (type, version, what stands behind it; told as the publisher)
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


class AddOns:
    """The operations, to be mixed into moto's EKSResponse."""

    def describe_addon_versions(self) -> ActionResult:
        wanted, minor = self._get_param("addonName"), self._get_param("kubernetesVersion")
        here = self.clusters.kubernetes_version
        fits = {"clusterVersion": here, "platformVersions": ["*"], "defaultVersion": True}
        found = [
            {
                "addonName": name, "type": kind, "publisher": f"{OWNER}: {told}", "owner": OWNER,
                "addonVersions": [{"addonVersion": _full(name), "architecture": ["amd64"], "compatibilities": [fits]}],
            }
            for name, (kind, _, told) in ADDONS.items()
            if name == (wanted or name) and here == (minor or here)
        ]  # fmt: skip
        return self._page("addons", found)

    def create_addon(self) -> ActionResult:
        with self.lock:
            cluster, name = self._cluster_of_addons(), self._get_param("addonName")
            if name in cluster.addons:
                raise ResourceInUseException(clusterName=cluster.name, addonName=name, message="Addon already exists.")
            if cluster.status != "ACTIVE":
                raise InvalidRequestException(clusterName=cluster.name, message="Cluster is not in ACTIVE status")
            self._check_addon(cluster, name)
            made = cluster.addons[name] = SimpleNamespace(
                addon_name=name, cluster_name=cluster.name, status="CREATING", addon_version=_full(name),
                health={"issues": []}, addon_arn=f"{cluster.arn.replace(':cluster/', ':addon/')}/{name}/{uuid.uuid4()}",
                created_at=utcnow(), modified_at=utcnow(), tags=self._get_param("tags") or {}, owner=OWNER,
                publisher=f"{OWNER}: {ADDONS[name][2]}", configuration_values=self._get_param("configurationValues"),
                service_account_role_arn=self._get_param("serviceAccountRoleArn"), pod_identity_associations=[],
                due=self.clusters.delays.due("add-on"), namespace_config={"namespace": "kube-system"},
            )  # fmt: skip
            self._identify(cluster, made)
            self._look(cluster, made)
        return ActionResult({"addon": made})

    def describe_addon(self) -> ActionResult:
        cluster, addon = self._addon()
        self._look(cluster, addon)
        return ActionResult({"addon": addon})

    def list_addons(self) -> ActionResult:
        return self._page("addons", sorted(self._cluster_of_addons().addons))

    def update_addon(self) -> ActionResult:
        cluster, addon = self._addon()
        self._look(cluster, addon)
        self._check_addon(cluster, addon.addon_name)
        said = {"AddonVersion": "addonVersion", "ConfigurationValues": "configurationValues"}
        params = {key: self._get_param(name) for key, name in said.items() if self._get_param(name)}

        def apply() -> None:
            addon.configuration_values = params.get("ConfigurationValues", addon.configuration_values)
            addon.modified_at = utcnow()

        if self._get_param("podIdentityAssociations") is not None:
            self._identify(cluster, addon)
        return self._begin(cluster, addon, "AddonUpdate", "add-on update", params, apply, addon.addon_name)

    def delete_addon(self) -> ActionResult:
        cluster, addon = self._addon()
        if addon.addon_name in NEEDED and not self._get_bool_param("preserve", False):
            raise InvalidRequestException(
                clusterName=cluster.name,
                message=f"What stands for {addon.addon_name} is part of the sandbox's node, and stays: say preserve.",
            )
        addon.status = "DELETING"
        self._forget(cluster, addon)
        del cluster.addons[addon.addon_name]
        return ActionResult({"addon": addon})

    def _look(self, cluster: Cluster, addon: SimpleNamespace) -> None:
        """Find out how an add-on is: by its cue, by the node's own word, or that it is not done yet."""
        if addon.status in ("UPDATING", "DELETING") or self.clusters.delays.left(addon.due):
            return
        if HEALTH in addon.tags:
            addon.status, addon.health = cued(addon.tags)
        elif self.clusters.stands(cluster.name, addon.addon_name):
            addon.status, addon.health = "ACTIVE", {"issues": []}
        else:
            issue = {"code": "InsufficientNumberOfReplicas", "message": TOO_FEW, "resourceIds": []}
            addon.status, addon.health = "DEGRADED", {"issues": [issue]}

    def _check_addon(self, cluster: Cluster, name: str) -> None:
        asked, configuration = self._get_param("addonVersion"), self._get_param("configurationValues")
        problem = ""
        if name not in ADDONS:
            problem = f"Addon specified is not supported in {cluster.version} kubernetes version"
        elif asked not in (None, _full(name)):
            problem = f"Addon version specified is not supported: expected {_full(name)}, got {asked}"
        elif configuration and _parsed(configuration) not in ({}, STORAGE if name == "aws-ebs-csi-driver" else {}):
            problem = f"ConfigurationValue provided in request is not supported: the sandbox has none for {name}"
        if problem:
            raise InvalidParameterException(clusterName=cluster.name, addonName=name, message=problem)

    def _cluster_of_addons(self) -> Cluster:
        return self.eks_backend.describe_cluster(self._get_param("name"))

    def _addon(self) -> tuple[Cluster, SimpleNamespace]:
        cluster, name = self._cluster_of_addons(), self._get_param("addonName")
        if name not in cluster.addons:
            raise ResourceNotFoundException(
                clusterName=cluster.name, addonName=name, message=f"No addon: {name} found in cluster: {cluster.name}"
            )
        return cluster, cluster.addons[name]


def _full(name: str) -> str:
    return f"v{ADDONS[name][1]}-sandbox.1"


def _parsed(text: str) -> dict:
    try:
        return json.loads(text)
    except ValueError:
        return {"": "not JSON"}
