"""The EKS API's control plane options: access, logging, encryption. Updated as on EKS; CIDRs do not filter."""

from __future__ import annotations

from collections.abc import Callable

from moto.core.responses import ActionResult
from moto.eks.exceptions import InvalidRequestException

from sandbox.eks.access_entries import CONFIG_MAP
from sandbox.eks.models import EksCluster
from sandbox.eks.updates_api import UpdatesApi
from sandbox.iam.access_keys import ACCOUNT

LOGS = {"api", "audit", "authenticator", "controllerManager", "scheduler"}
MODES = [CONFIG_MAP, "API_AND_CONFIG_MAP", "API"]  # a cluster moves one step to the right, never back
PATHS = ("{0}/clusters/(?P<name>[^/]+)/encryption-config/associate$",)
KINDS = {"resourcesVpcConfig": "EndpointAccessUpdate", "logging": "LoggingUpdate", "accessConfig": "AccessConfigUpdate"}


class ClusterConfigApi(UpdatesApi):
    """The operations on a control plane's options."""

    def update_cluster_config(self) -> ActionResult:
        """API_UpdateClusterConfig: change one of endpoint access, logging and authentication mode."""
        with self.lock:
            cluster = self._cluster()
            wanted = {key: self._get_param(key) for key in KINDS if self._get_param(key)}
            if len(wanted) != 1:
                raise InvalidRequestException(
                    clusterName=cluster.name, message="Only one type of update can be allowed."
                )
            ((key, value),) = wanted.items()
            change = getattr(self, f"_update_{key.lower()}")(cluster, value)
            return self._begin(cluster, cluster, KINDS[key], "cluster update", {}, change)

    def associate_encryption_config(self) -> ActionResult:
        """API_AssociateEncryptionConfig: name a KMS key for secrets, once in a cluster's life."""
        with self.lock:
            cluster = self._cluster()
            config = self._get_param("encryptionConfig")
            if cluster.encryption_config:
                self._refuse("Cluster already has encryption configured")
            self._check_encryption(config)

            def apply() -> None:
                cluster.encryption_config = config

            return self._begin(cluster, cluster, "AssociateEncryptionConfig", "cluster update", {}, apply)

    def _update_resourcesvpcconfig(self, cluster: EksCluster, wanted: dict) -> Callable[[], None]:
        if set(wanted) - {"endpointPublicAccess", "endpointPrivateAccess", "publicAccessCidrs"}:
            self._refuse("The sandbox changes a cluster's endpoint access alone, neither subnets nor security groups.")
        whole = {**cluster.resources_vpc_config, **wanted}
        self._check_endpoint_access(whole)
        if whole == cluster.resources_vpc_config:
            self._refuse("Cluster is already at the desired configuration")

        def apply() -> None:
            cluster.resources_vpc_config = whole

        return apply

    def _update_logging(self, cluster: EksCluster, wanted: dict) -> Callable[[], None]:
        on = _enabled(cluster.logging)
        for group in wanted["clusterLogging"]:
            self._check_logs(group["types"])
            on = on | set(group["types"]) if group.get("enabled") else on - set(group["types"])
        if on == _enabled(cluster.logging):
            self._refuse("No changes needed for the logging config provided")

        def apply() -> None:
            groups = [
                {"types": sorted(types), "enabled": yes} for types, yes in ((on, True), (LOGS - on, False)) if types
            ]
            cluster.logging = {"clusterLogging": groups}

        return apply

    def _update_accessconfig(self, cluster: EksCluster, wanted: dict) -> Callable[[], None]:
        mode = wanted["authenticationMode"]
        if MODES.index(mode) != MODES.index(cluster.access.mode) + 1:
            self._refuse(f"Unsupported authentication mode update from {cluster.access.mode} to {mode}")

        def apply() -> None:
            cluster.access.mode = mode
            cluster.access_config = {**cluster.access_config, "authenticationMode": mode}

        return apply

    def _check_options(self) -> None:
        """Refuse a CreateCluster call whose options EKS does not accept."""
        self._check_endpoint_access({"endpointPublicAccess": True, **self._get_param("resourcesVpcConfig")})
        for group in (self._get_param("logging") or {}).get("clusterLogging", []):
            self._check_logs(group["types"])
        self._check_encryption(self._get_param("encryptionConfig") or [])

    def _check_endpoint_access(self, config: dict) -> None:
        if not config.get("endpointPublicAccess") and not config.get("endpointPrivateAccess"):
            self._refuse("Private and public endpoint access cannot be false")

    def _check_logs(self, types: list[str]) -> None:
        if wrong := sorted(set(types) - LOGS):
            self._refuse(f"Unsupported log type: {wrong[0]}")

    def _check_encryption(self, config: list[dict]) -> None:
        from moto.kms.models import kms_backends  # the start does not need it

        keys = {key.arn: key for key in kms_backends[ACCOUNT][self.region].keys.values()}
        for one in config:
            arn = one["provider"]["keyArn"]
            if one["resources"] != ["secrets"] or arn not in keys:
                self._refuse(f"The keyArn in encryptionConfig provider is not a key of this account: {arn}")
            if not keys[arn].enabled:
                self._refuse(f"The key {arn} is disabled")


def _enabled(logging: dict) -> set[str]:
    return {kind for group in logging["clusterLogging"] if group.get("enabled") for kind in group["types"]}
