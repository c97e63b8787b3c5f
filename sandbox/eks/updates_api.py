"""The EKS API's updates: InProgress for a while, then Successful, or Failed if a tag forces that; one at a time."""

from __future__ import annotations

import uuid
from collections.abc import Callable

from moto.core.responses import ActionResult
from moto.eks.exceptions import ResourceInUseException, ResourceNotFoundException

from sandbox.eks.base_api import EksBaseApi
from sandbox.eks.clusters import FORCED_MESSAGE, HEALTH_TAG, forced_health
from sandbox.eks.models import AddOn, EksCluster, EksNodegroup, Update

UPDATE_TAG = "eks-sandbox/update"  # on a cluster, node group or add-on: the error code that its updates fail with
PATHS = ("{0}/clusters/(?P<name>[^/]+)/updates$", "{0}/clusters/(?P<name>[^/]+)/updates/(?P<updateId>[^/]+)$")


class UpdatesApi(EksBaseApi):
    """The operations on updates, and how the other modules begin one."""

    def describe_update(self) -> ActionResult:
        """API_DescribeUpdate: return one update of a cluster, node group or add-on."""
        cluster = self._cluster()
        update = cluster.updates.get(self._get_param("updateId"))
        if update is None or update.target_name != self._target_name():
            raise ResourceNotFoundException(
                clusterName=cluster.name, message=f"No update found for ID: {self._get_param('updateId')}"
            )
        return ActionResult({"update": update})

    def list_updates(self) -> ActionResult:
        """API_ListUpdates: list the updates of a cluster, node group or add-on by id."""
        updates, name = self._cluster().updates, self._target_name()
        return self._page("updateIds", [update.id for update in updates.values() if update.target_name == name])

    def _target_name(self) -> str:
        return self._get_param("nodegroupName") or self._get_param("addonName") or ""

    def _begin(
        self,
        cluster: EksCluster,
        target: EksCluster | EksNodegroup | AddOn,
        kind: str,
        delay: str,
        params: dict,
        apply: Callable[[], None],
        target_name: str = "",
    ) -> ActionResult:
        """Begin an update of `target`, which ends by `apply()`; refuse it unless `target` is ACTIVE or DEGRADED.

        Args:
            cluster: keeps the update.
            target: the cluster, node group or add-on that changes.
            kind: the update's type, as API_Update lists them.
            delay: the key in delays.SECONDS.
            params: what changes, for API_Update's params.
            apply: makes the change.
            target_name: of the node group or add-on; "" for the cluster.
        """
        if target.status not in ("ACTIVE", "DEGRADED", "UPDATE_FAILED"):
            raise ResourceInUseException(
                clusterName=cluster.name, message=f"Cannot update {target_name or cluster.name}: it is {target.status}."
            )
        texts = [{"type": key, "value": str(value)} for key, value in params.items()]
        due = self.clusters.delays.due(delay)
        update = Update(str(uuid.uuid4()), kind, texts, target, target_name, apply, due)
        cluster.updates[update.id] = update
        target.status = "UPDATING"
        if not self.clusters.delays.left(due):
            finish(update)
        return ActionResult({"update": update})

    def _finish_due_updates(self) -> None:
        """End the updates whose time is over, and apply the health tags; runs before every call."""
        for cluster in self._all_clusters():
            for update in list(cluster.updates.values()):
                if update.status == "InProgress" and not self.clusters.delays.left(update.due):
                    finish(update)
            for group in list(cluster.nodegroups.values()):
                if group.status in ("ACTIVE", "DEGRADED"):
                    forced = HEALTH_TAG in group.tags
                    group.status, group.health = forced_health(group.tags) if forced else ("ACTIVE", {"issues": []})


def finish(update: Update) -> None:
    """End an update: the target is ACTIVE again. An update that UPDATE_TAG lets fail changes nothing."""
    update.target.status = "ACTIVE"
    if code := (update.target.tags or {}).get(UPDATE_TAG):
        update.status = "Failed"
        update.errors = [{"errorCode": code, "errorMessage": FORCED_MESSAGE, "resourceIds": [update.target_name]}]
    else:
        update.apply()
        update.status = "Successful"
