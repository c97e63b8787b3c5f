"""The EKS API: moto's, with states that follow what really happens and fields that say what is really there."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from functools import partial

from moto.core.responses import ActionResult
from moto.eks import urls
from moto.eks.exceptions import InvalidParameterException, InvalidRequestException, ResourceInUseException
from moto.eks.models import Cluster, Nodegroup, eks_backends, validate_safe_to_delete
from moto.eks.responses import EKSResponse

from sandbox.eks import access_api, addons_api, cluster_config_api, node_groups_api, pod_identity_api, updates_api
from sandbox.eks.access_api import AccessEntries
from sandbox.eks.access_entries import Access
from sandbox.eks.addons_api import AddOns
from sandbox.eks.cluster_config_api import ClusterOptions
from sandbox.eks.clusters import Clusters
from sandbox.eks.node_groups_api import NodeGroups
from sandbox.eks.pod_identity_api import PodIdentities
from sandbox.eks.tags_api import Tags
from sandbox.eks.updates_api import Updates
from sandbox.iam.access_keys import ACCOUNT, find
from sandbox.iam.trust_policies import trusted
from sandbox.node.command_lines import SERVICE_NETWORK

# EKS's own sentences: clients know them, since IAM tells EKS of a new role only seconds later.
ROLE_REFUSED = "Role with arn: {}, could not be assumed because it does not exist or the trusted entity is not correct"
MORE_PATHS = (
    *access_api.PATHS,
    *addons_api.PATHS,
    *node_groups_api.PATHS,
    *cluster_config_api.PATHS,
    *pod_identity_api.PATHS,
    *updates_api.PATHS,
)  # that moto does not have


class EksApi(AccessEntries, AddOns, ClusterOptions, NodeGroups, PodIdentities, Tags, Updates, EKSResponse):
    """moto's REST layer and models; create and delete hand over to `clusters`."""

    clusters: Clusters
    lock = threading.RLock()  # moto looks, then acts; two calls at once must not both find a name free

    def call_action(self):
        with self.lock:
            self._settle()
        return super().call_action()

    def create_cluster(self) -> ActionResult:
        with self.lock:
            held = self.eks_backend.clusters.get(self._get_param("name"))
            if held and self._is_repeat(held):
                return ActionResult({"cluster": held})
            if not held:
                self._check_cluster()
            result = super().create_cluster()
            result.result["cluster"].asked = json.loads(self.body)
            cluster, access = result.result["cluster"], _access(self._get_param("accessConfig"))
            _dress_cluster(cluster, access)
            cluster.resources_vpc_config |= self._network(cluster)
            creator = find(self.access_key, self.headers.get("X-Amz-Security-Token"))
            administrator = creator if access["bootstrapClusterCreatorAdminPermissions"] else None
            cluster.access = Access(cluster.name, cluster.arn, access["authenticationMode"], administrator)
            self.clusters.start(cluster)
        return result

    def delete_cluster(self) -> ActionResult:
        with self.lock:
            cluster = self.eks_backend.describe_cluster(self._get_param("name"))
            validate_safe_to_delete(cluster)
            if cluster.status == "CREATING":
                raise ResourceInUseException(
                    clusterName=cluster.name,
                    message=f"Cannot delete because cluster {cluster.name} is being created; wait until it is ACTIVE.",
                )
            if cluster.status != "DELETING":
                cluster.status = "DELETING"
                group = cluster.resources_vpc_config["clusterSecurityGroupId"]
                self.clusters.end(cluster, self.eks_backend, partial(_drop_security_group, self._ec2(), group))
        return ActionResult({"cluster": cluster})

    def update_cluster_version(self) -> ActionResult:
        cluster, version = self.eks_backend.describe_cluster(self._get_param("name")), self._get_param("version")
        self._check_version(version)
        raise InvalidParameterException(
            clusterName=cluster.name, message=f"Cluster is already at the desired configuration: version {version}."
        )

    def _page(self, key: str, found: list, more: dict | None = None) -> ActionResult:
        """A part of a list: nextToken is where the next one begins."""
        start, count = int(self._get_param("nextToken") or 0), self._get_int_param("maxResults", 100)
        part, end = found[start : start + count], start + count
        return ActionResult({**(more or {}), key: part, **({"nextToken": str(end)} if end < len(found) else {})})

    def create_fargate_profile(self) -> ActionResult:
        raise InvalidRequestException(message="The sandbox has no Fargate; create a node group.")

    def _is_repeat(self, held: Cluster | Nodegroup) -> bool:
        """Say whether what is there was made by this same call, sent again because its answer was lost."""
        now = json.loads(self.body)
        if not now.get("clientRequestToken") or now["clientRequestToken"] != held.asked.get("clientRequestToken"):
            return False
        if now != held.asked:
            self._refuse("expected the parameters that this clientRequestToken came with first, got others.")
        return True

    def _check_cluster(self) -> None:
        if self.region != self.clusters.region:
            self._refuse(f"expected the region {self.clusters.region}, the only one with EKS here, got {self.region}.")
        self._check_version(self._get_param("version") or self.clusters.kubernetes_version)
        asked = (self._get_param("kubernetesNetworkConfig") or {}).get("serviceIpv4Cidr", SERVICE_NETWORK)
        if asked != SERVICE_NETWORK:
            self._refuse(f"expected serviceIpv4Cidr {SERVICE_NETWORK}, the only one that the sandbox has, got {asked}.")
        self._check_trust(self._get_param("roleArn"), "eks.amazonaws.com", ROLE_REFUSED)
        self._check_subnets(self._get_param("resourcesVpcConfig")["subnetIds"])
        self._check_options()

    def _check_version(self, version: str) -> None:
        if version != self.clusters.kubernetes_version:
            self._refuse(f"unsupported Kubernetes version {version}; there is {self.clusters.kubernetes_version}.")

    def _check_trust(self, role_arn: str, service: str, refusal: str) -> None:
        if not any(service in services for services, _ in trusted(role_arn)):
            self._refuse(refusal.format(role_arn))

    def _check_subnets(self, subnet_ids: list[str]) -> None:
        known = {subnet.id: subnet.availability_zone for subnet in self._ec2().describe_subnets()}
        if unknown := sorted(set(subnet_ids) - set(known)):
            self._refuse(f"The subnet ID '{unknown[0]}' does not exist")
        if len({known[subnet_id] for subnet_id in subnet_ids}) < 2:
            self._refuse("Subnets specified must be in at least two different AZs")

    def _network(self, cluster: Cluster) -> dict:
        ec2, name = self._ec2(), f"eks-cluster-sg-{cluster.name}"
        vpc_id = ec2.get_subnet(cluster.resources_vpc_config["subnetIds"][0]).vpc_id
        group = ec2.create_security_group(name, "EKS created security group of the cluster", vpc_id)
        ec2.authorize_security_group_ingress(group.id, "-1", None, None, [], source_groups=[{"GroupId": group.id}])
        return {"vpcId": vpc_id, "clusterSecurityGroupId": group.id}

    def _ec2(self):
        from moto.ec2.models import ec2_backends  # a second to import, and not needed to start

        return ec2_backends[self.current_account][self.region]

    def _refuse(self, message: str) -> None:
        raise InvalidParameterException(clusterName=self._get_param("name"), message=message)


def install(clusters: Clusters) -> None:
    """Point moto's table of EKS's paths at EksApi with these clusters: the one place where moto is changed."""
    api = type("EksApi", (EksApi,), {"clusters": clusters})
    urls.url_paths.update(dict.fromkeys([*urls.url_paths, *MORE_PATHS], api.dispatch))


def shown(region: str, processes: Callable[[str], dict]) -> list[dict]:
    """Return, by cluster, what anybody may see: name, status, version, endpoint, node groups, issues, processes."""
    clusters = list(eks_backends[ACCOUNT][region].clusters.values())
    return [
        {
            "name": cluster.name,
            "status": cluster.status,
            "version": cluster.version,
            "endpoint": cluster.endpoint,
            "issues": _issues(cluster),
            "nodeGroups": [_shown_group(group) for group in list(cluster.nodegroups.values())],
            "processes": processes(cluster.name),
        }
        for cluster in clusters
    ]


def _shown_group(group: Nodegroup) -> dict:
    return {"name": group.nodegroup_name, "status": group.status, "issues": _issues(group)}


def _issues(thing: Cluster | Nodegroup) -> list[str]:
    return [issue["message"] for issue in thing.health["issues"]]


def _access(asked: dict | None) -> dict:
    return {"authenticationMode": "API", "bootstrapClusterCreatorAdminPermissions": True, **(asked or {})}


def _drop_security_group(ec2, group_id: str) -> None:
    if ec2.get_security_group_from_id(group_id):  # its user may have deleted it
        ec2.delete_security_group(group_id=group_id)


def _dress_cluster(cluster: Cluster, access: dict) -> None:
    """Give a new cluster EKS's fields in place of what moto makes up."""
    cluster.status, cluster.endpoint, cluster.certificate_authority = "CREATING", None, {}
    cluster.addons, cluster.associations, cluster.updates = {}, {}, {}
    cluster.health, cluster.access_config, cluster.platformVersion = {"issues": []}, access, "eks.1"
    cluster.kubernetes_network_config = {"serviceIpv4Cidr": SERVICE_NETWORK, "ipFamily": "ipv4"}
    reach = {"endpointPublicAccess": True, "endpointPrivateAccess": False, "publicAccessCidrs": ["0.0.0.0/0"]}
    cluster.resources_vpc_config = {"securityGroupIds": [], **reach, **cluster.resources_vpc_config}
