"""The EKS API: moto's, with states that follow the real nodes and fields that report what the sandbox really has."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, cast

from moto.core.common_types import TYPE_RESPONSE
from moto.core.responses import ActionResult
from moto.eks import urls
from moto.eks.exceptions import InvalidParameterException, InvalidRequestException, ResourceInUseException
from moto.eks.models import eks_backends, validate_safe_to_delete

from sandbox.eks import access_api, addons_api, cluster_config_api, node_groups_api, pod_identity_api, updates_api
from sandbox.eks.access_entries import AccessEntries
from sandbox.eks.clusters import Clusters
from sandbox.eks.models import EksCluster, EksNodegroup
from sandbox.eks.tags_api import TagsApi
from sandbox.iam.access_keys import ACCOUNT, find
from sandbox.paths import SERVICE_NETWORK

if TYPE_CHECKING:
    from moto.ec2.models import EC2Backend

# EKS's own sentence: clients match on it, since a new role reaches EKS some seconds after IAM made it.
ROLE_REFUSED = "Role with arn: {}, could not be assumed because it does not exist or the trusted entity is not correct"
ALL_TRAFFIC = "-1"  # an IpPermission's protocol: API_IpPermission of EC2
ADDED_PATHS = (  # that moto lacks
    *access_api.PATHS,
    *addons_api.PATHS,
    *node_groups_api.PATHS,
    *cluster_config_api.PATHS,
    *pod_identity_api.PATHS,
    *updates_api.PATHS,
)


class EksApi(
    access_api.AccessApi,
    addons_api.AddOnsApi,
    cluster_config_api.ClusterConfigApi,
    node_groups_api.NodeGroupsApi,
    TagsApi,
):
    """All operations; those on clusters are here."""

    def call_action(self) -> TYPE_RESPONSE:
        """Answer one call, after the updates that are due."""
        with self.lock:
            self._finish_due_updates()
        return super().call_action()

    def create_cluster(self) -> ActionResult:
        """API_CreateCluster: start a control plane; the cluster is CREATING, then ACTIVE or FAILED."""
        with self.lock:
            existing = self.eks_backend.clusters.get(self._get_param("name"))
            if existing and self._is_repeat(cast(EksCluster, existing)):
                return ActionResult({"cluster": existing})
            if not existing:
                self._check_cluster()
            super().create_cluster()
            cluster = self._cluster()
            cluster.request = json.loads(self.body)
            _set_fields(cluster, _access_config(self._get_param("accessConfig")))
            cluster.resources_vpc_config |= self._make_network(cluster)
            cluster.access = self._make_access(cluster)
            self.clusters.start(cluster)
        return ActionResult({"cluster": cluster})

    def delete_cluster(self) -> ActionResult:
        """API_DeleteCluster: end a control plane; the cluster is DELETING, then gone or FAILED."""
        with self.lock:
            cluster = self._cluster()
            validate_safe_to_delete(cluster)
            if cluster.status == "CREATING":
                raise ResourceInUseException(
                    clusterName=cluster.name,
                    message=f"Cannot delete because cluster {cluster.name} is being created; wait until it is ACTIVE.",
                )
            if cluster.status != "DELETING":
                cluster.status = "DELETING"
                group = cluster.resources_vpc_config["clusterSecurityGroupId"]
                self.clusters.end(cluster, self.eks_backend, partial(_delete_security_group, self._ec2(), group))
        return ActionResult({"cluster": cluster})

    def update_cluster_version(self) -> ActionResult:
        """API_UpdateClusterVersion: refused, since the sandbox has one Kubernetes version."""
        cluster, version = self._cluster(), self._get_param("version")
        self._check_version(version)
        raise InvalidParameterException(
            clusterName=cluster.name, message=f"Cluster is already at the desired configuration: version {version}."
        )

    def create_fargate_profile(self) -> ActionResult:
        """API_CreateFargateProfile: refused, since the sandbox has no Fargate."""
        raise InvalidRequestException(message="The sandbox has no Fargate; create a node group.")

    def _check_cluster(self) -> None:
        if self.region != self.clusters.region:
            self._refuse(f"expected the region {self.clusters.region}, the only one with EKS here, got {self.region}.")
        self._check_version(self._get_param("version") or self.clusters.kubernetes_version)
        cidr = (self._get_param("kubernetesNetworkConfig") or {}).get("serviceIpv4Cidr", SERVICE_NETWORK)
        if cidr != SERVICE_NETWORK:
            self._refuse(f"expected serviceIpv4Cidr {SERVICE_NETWORK}, the only one that the sandbox has, got {cidr}.")
        self._check_trust(self._get_param("roleArn"), "eks.amazonaws.com", ROLE_REFUSED)
        self._check_subnets(self._get_param("resourcesVpcConfig")["subnetIds"])
        self._check_options()

    def _check_version(self, version: str) -> None:
        if version != self.clusters.kubernetes_version:
            self._refuse(f"unsupported Kubernetes version {version}; there is {self.clusters.kubernetes_version}.")

    def _check_subnets(self, subnet_ids: list[str]) -> None:
        zones = {subnet.id: subnet.availability_zone for subnet in self._ec2().describe_subnets()}
        if unknown := sorted(set(subnet_ids) - set(zones)):
            self._refuse(f"The subnet ID '{unknown[0]}' does not exist")
        if len({zones[subnet_id] for subnet_id in subnet_ids}) < 2:
            self._refuse("Subnets specified must be in at least two different AZs")

    def _make_network(self, cluster: EksCluster) -> dict:
        ec2, name = self._ec2(), f"eks-cluster-sg-{cluster.name}"
        vpc_id = ec2.get_subnet(cluster.resources_vpc_config["subnetIds"][0]).vpc_id
        group = ec2.create_security_group(name, "EKS created security group of the cluster", vpc_id)
        members, no_port = [{"GroupId": group.id}], cast(str, None)  # as moto's own API layer passes it
        ec2.authorize_security_group_ingress(group.id, ALL_TRAFFIC, no_port, no_port, [], source_groups=members)
        return {"vpcId": vpc_id, "clusterSecurityGroupId": group.id}

    def _make_access(self, cluster: EksCluster) -> AccessEntries:
        creator = find(self.access_key, self.headers.get("X-Amz-Security-Token"))
        administrator = creator if cluster.access_config["bootstrapClusterCreatorAdminPermissions"] else None
        return AccessEntries(cluster.name, cluster.arn, cluster.access_config["authenticationMode"], administrator)


def install(clusters: Clusters) -> None:
    """Point moto's table of EKS's paths at EksApi with these clusters: the one place where moto is changed."""
    api = type("EksApi", (EksApi,), {"clusters": clusters})
    dispatch = cast(type[EksApi], api).dispatch
    urls.url_paths.update(dict.fromkeys([*urls.url_paths, *ADDED_PATHS], dispatch))


def overview(region: str, processes: Callable[[str], dict]) -> list[dict]:
    """Return what anybody may see of each cluster: name, status, version, endpoint, node groups, issues, processes."""
    clusters = cast("list[EksCluster]", list(eks_backends[ACCOUNT][region].clusters.values()))
    return [
        {
            "name": cluster.name,
            "status": cluster.status,
            "version": cluster.version,
            "endpoint": cluster.endpoint,
            "issues": _issues(cluster),
            "nodeGroups": [
                {"name": group.nodegroup_name, "status": group.status, "issues": _issues(cast(EksNodegroup, group))}
                for group in list(cluster.nodegroups.values())
            ],
            "processes": processes(cluster.name),
        }
        for cluster in clusters
    ]


def _issues(target: EksCluster | EksNodegroup) -> list[str]:
    return [issue["message"] for issue in target.health["issues"]]


def _access_config(wanted: dict | None) -> dict:
    return {"authenticationMode": "API", "bootstrapClusterCreatorAdminPermissions": True, **(wanted or {})}


def _delete_security_group(ec2: EC2Backend, group_id: str) -> None:
    if ec2.get_security_group_from_id(group_id):  # the caller may have deleted it
        ec2.delete_security_group(group_id=group_id)


def _set_fields(cluster: EksCluster, access_config: dict) -> None:
    """Give a new cluster EKS's fields in place of what moto makes up."""
    cluster.status, cluster.endpoint, cluster.certificate_authority = "CREATING", None, {}
    cluster.addons, cluster.associations, cluster.updates = {}, {}, {}
    place = cluster.identity["oidc"]["issuer"].rpartition("/")[0]
    cluster.identity = {"oidc": {"issuer": f"{place}/{secrets.token_hex(16).upper()}"}}  # moto has one for all clusters
    cluster.health, cluster.access_config, cluster.platformVersion = {"issues": []}, access_config, "eks.1"
    cluster.kubernetes_network_config = {"serviceIpv4Cidr": SERVICE_NETWORK, "ipFamily": "ipv4"}
    reach = {"endpointPublicAccess": True, "endpointPrivateAccess": False, "publicAccessCidrs": ["0.0.0.0/0"]}
    cluster.resources_vpc_config = {"securityGroupIds": [], **reach, **cluster.resources_vpc_config}
