"""The EKS API's node groups: moto's, with nodes behind them, their labels and taints, and updates that take time."""

from __future__ import annotations

import json

from moto.core.responses import ActionResult
from moto.eks.exceptions import InvalidParameterException, InvalidRequestException, ResourceInUseException
from moto.eks.models import Cluster, Nodegroup

from sandbox.eks.access_entries import CONFIG_MAP, NODES

NODE_ROLE_REFUSED = (  # EKS's own sentence
    "Following required service principals [ec2.amazonaws.com] were not found in the trust relationships of nodeRole {}"
)
PATHS = ("{0}/clusters/(?P<name>[^/]+)/node-groups/(?P<nodegroupName>[^/]+)/update-version$",)


class NodeGroups:
    """The operations, to be mixed into moto's EKSResponse."""

    def create_nodegroup(self) -> ActionResult:
        with self.lock:
            cluster = self.eks_backend.clusters.get(self._get_param("name"))
            held = cluster and cluster.nodegroups.get(self._get_param("nodegroupName"))
            if held and self._is_repeat(held):
                return ActionResult({"nodegroup": held})
            self._check_trust(self._get_param("nodeRole"), "ec2.amazonaws.com", NODE_ROLE_REFUSED)
            template, version = self._get_param("launchTemplate"), self._get_param("version")
            if template:
                self._check_template(template)
            if version not in (None, self.clusters.kubernetes_version):
                self._refuse(f"Requested Nodegroup version {version} is not {self.clusters.kubernetes_version}")
            result = super().create_nodegroup()
            result.result["nodegroup"].asked = json.loads(self.body)
            _dress_group(result.result["nodegroup"], self.clusters.kubernetes_version, self._get_param("remoteAccess"))
            if cluster.access.mode != CONFIG_MAP and self._get_param("nodeRole") not in cluster.access.entries:
                name = "system:node:{{EC2PrivateDNSName}}"
                cluster.access.add(self._get_param("nodeRole"), ["system:nodes"], name, NODES)  # as EKS does
            self.clusters.join(result.result["nodegroup"])
        return result

    def update_nodegroup_config(self) -> ActionResult:
        with self.lock:
            cluster, group = self._group()
            scaling = {**group.scaling_config, **(self._get_param("scalingConfig") or {})}
            if not scaling["minSize"] <= scaling["desiredSize"] <= scaling["maxSize"]:
                self._refuse("Minimum, desired and maximum capacity must be in that order")
            change = super().update_nodegroup_config

            def apply() -> None:
                change()
                self.clusters.dress(group)

            words = ("labels", "taints", "scalingConfig")
            params = {one[0].upper() + one[1:]: self._get_param(one) for one in words if self._get_param(one)}
            return self._begin(cluster, group, "ConfigUpdate", "node group update", params, apply, group.nodegroup_name)

    def update_nodegroup_version(self) -> ActionResult:
        with self.lock:
            cluster, group = self._group()
            version, template = self._get_param("version"), self._get_param("launchTemplate")
            if version not in (None, cluster.version):
                self._refuse(f"Requested version {version} is not the cluster's {cluster.version}")
            if template:
                self._check_template(template)
                if not group.launch_template:
                    raise InvalidRequestException(message="The node group was made without a launch template")
                if template.get("name", group.launch_template["name"]) != group.launch_template["name"]:
                    self._refuse("You cannot change the launch template, only its version")

            def apply() -> None:
                group.version = version or group.version
                group.launch_template = {**(group.launch_template or {}), **(template or {})} or None

            params = {"Version": version, "LaunchTemplateVersion": (template or {}).get("version")}
            given = {key: value for key, value in params.items() if value}
            return self._begin(
                cluster, group, "VersionUpdate", "node group version", given, apply, group.nodegroup_name
            )

    def delete_nodegroup(self) -> ActionResult:
        with self.lock:
            _, group = self._group()
            if group.status == "CREATING":
                raise ResourceInUseException(
                    clusterName=group.cluster_name,
                    nodegroupName=group.nodegroup_name,
                    message=f"Node group {group.nodegroup_name} is being created; wait until it is ACTIVE.",
                )
            if group.status != "DELETING":
                group.status = "DELETING"
                self.clusters.leave(group, self.eks_backend)
        return ActionResult({"nodegroup": group})

    def list_nodegroups(self) -> ActionResult:
        self.eks_backend.describe_cluster(self._get_param("name"))  # moto breaks on a name that it does not know
        return super().list_nodegroups()

    def _group(self) -> tuple[Cluster, Nodegroup]:
        name = self._get_param("name")
        cluster = self.eks_backend.describe_cluster(name)
        return cluster, self.eks_backend.describe_nodegroup(name, self._get_param("nodegroupName"))

    def _check_template(self, template: dict) -> None:
        known = self._ec2().describe_launch_templates(filters=None)
        wanted = {key: template[key] for key in ("id", "name") if template.get(key)}
        found = [one for one in known if {"id": one.id, "name": one.name}.items() >= wanted.items()]
        versions = [str(one.number) for one in found[0].versions] if found else []
        if template.get("version", "1") not in versions:
            raise InvalidParameterException(
                message=f"Launch template details can't be null or were not found: {wanted}"
            )
        data = found[0].get_version(int(template.get("version", "1"))).data
        if "ImageId" in data:
            raise InvalidParameterException(message="The sandbox takes no launch template with an AMI of its own.")


def _dress_group(group: Nodegroup, version: str, remote_access: dict | None) -> None:
    """Give a new node group fields of its own in place of those that moto shares or makes up."""
    group.status, group.health, group.version = "CREATING", {"issues": []}, version
    group.release_version, group.remote_access = None, remote_access
    group.scaling_config = dict(group.scaling_config)
    group.disk_size = None if group.launch_template else int(group.disk_size)  # the template has it
    group.resources = {"autoScalingGroups": group.resources["autoScalingGroups"]}
