"""The EKS API's node groups: moto's, with a real node, labels and taints that reach it, and updates that take time."""

from __future__ import annotations

import json
from typing import cast

from moto.core.responses import ActionResult
from moto.eks.exceptions import InvalidParameterException, InvalidRequestException, ResourceInUseException

from sandbox.eks.access_entries import CONFIG_MAP, NODES
from sandbox.eks.models import EksCluster, EksNodegroup
from sandbox.eks.updates_api import UpdatesApi
from sandbox.iam.authorization import user_or_role

NODE_ROLE_REFUSED = (  # EKS's own sentence
    "Following required service principals [ec2.amazonaws.com] were not found in the trust relationships of nodeRole {}"
)
NODE_USER, NODE_GROUPS = "system:node:{{EC2PrivateDNSName}}", ["system:nodes"]  # EKS's entry for a node role
PATHS = ("{0}/clusters/(?P<name>[^/]+)/node-groups/(?P<nodegroupName>[^/]+)/update-version$",)


class NodeGroupsApi(UpdatesApi):
    """The operations on node groups."""

    def create_nodegroup(self) -> ActionResult:
        """API_CreateNodegroup: start a node group; it is CREATING, then ACTIVE or CREATE_FAILED."""
        with self.lock:
            found = self.eks_backend.clusters.get(self._get_param("name"))
            existing = found and found.nodegroups.get(self._get_param("nodegroupName"))
            if existing and self._is_repeat(cast(EksNodegroup, existing)):
                return ActionResult({"nodegroup": existing})
            role, version = self._get_param("nodeRole"), self._get_param("version")
            self._check_trust(role, "ec2.amazonaws.com", NODE_ROLE_REFUSED)
            if template := self._get_param("launchTemplate"):
                self._check_template(template)
            if version not in (None, self.clusters.kubernetes_version):
                self._refuse(f"Requested Nodegroup version {version} is not {self.clusters.kubernetes_version}")
            super().create_nodegroup()
            cluster, group = self._group()
            group.request = json.loads(self.body)
            _set_fields(group, self.clusters.kubernetes_version, self._get_param("remoteAccess"))
            if cluster.access.mode != CONFIG_MAP and role not in cluster.access.entries:
                unique = owner.id if (owner := user_or_role(role)) else ""
                cluster.access.add(role, unique, NODE_GROUPS, NODE_USER, NODES)  # as EKS does
            self.clusters.join(group)
        return ActionResult({"nodegroup": group})

    def update_nodegroup_config(self) -> ActionResult:
        """API_UpdateNodegroupConfig: change labels, taints and scaling."""
        with self.lock:
            cluster, group = self._group()
            scaling = {**group.scaling_config, **(self._get_param("scalingConfig") or {})}
            if not scaling["minSize"] <= scaling["desiredSize"] <= scaling["maxSize"]:
                self._refuse("Minimum, desired and maximum capacity must be in that order")
            change = super().update_nodegroup_config

            def apply() -> None:
                change()
                self.clusters.set_labels_and_taints(group)

            keys = ("labels", "taints", "scalingConfig")
            params = {key[0].upper() + key[1:]: self._get_param(key) for key in keys if self._get_param(key)}
            return self._begin(cluster, group, "ConfigUpdate", "node group update", params, apply, group.nodegroup_name)

    def update_nodegroup_version(self) -> ActionResult:
        """API_UpdateNodegroupVersion: change the launch template's version."""
        with self.lock:
            cluster, group = self._group()
            version, template = self._get_param("version"), self._get_param("launchTemplate") or {}
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
                group.launch_template = {**(group.launch_template or {}), **template} or None

            changes = {"Version": version, "LaunchTemplateVersion": template.get("version")}
            params = {key: value for key, value in changes.items() if value}
            return self._begin(
                cluster, group, "VersionUpdate", "node group version", params, apply, group.nodegroup_name
            )

    def delete_nodegroup(self) -> ActionResult:
        """API_DeleteNodegroup: end a node group; it is DELETING, then gone or DELETE_FAILED."""
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
        """API_ListNodegroups: list a cluster's node groups by name."""
        self._cluster()  # refuses an unknown name, which moto answers with an error 500
        return super().list_nodegroups()

    def _group(self) -> tuple[EksCluster, EksNodegroup]:
        cluster = self._cluster()
        group = self.eks_backend.describe_nodegroup(cluster.name, self._get_param("nodegroupName"))
        return cluster, cast(EksNodegroup, group)

    def _check_template(self, template: dict) -> None:
        templates = self._ec2().describe_launch_templates(filters=None)
        wanted = {key: template[key] for key in ("id", "name") if template.get(key)}
        found = [one for one in templates if {"id": one.id, "name": one.name}.items() >= wanted.items()]
        versions = [str(one.number) for one in found[0].versions] if found else []
        if template.get("version", "1") not in versions:
            raise InvalidParameterException(
                message=f"Launch template details can't be null or were not found: {wanted}"
            )
        data = found[0].get_version(int(template.get("version", "1"))).data
        if "ImageId" in data:
            raise InvalidParameterException(message="The sandbox takes no launch template with an AMI of its own.")


def _set_fields(group: EksNodegroup, version: str, remote_access: dict | None) -> None:
    """Replace the fields that moto shares between node groups or makes up."""
    group.status, group.health, group.version = "CREATING", {"issues": []}, version
    group.release_version, group.remote_access = None, remote_access
    group.scaling_config = dict(group.scaling_config)
    group.disk_size = None if group.launch_template else int(group.disk_size)
    group.resources = {"autoScalingGroups": group.resources["autoScalingGroups"]}
