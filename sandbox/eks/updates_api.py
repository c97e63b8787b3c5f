"""The EKS API's updates: each is InProgress for a while, then Successful, or Failed on cue; one at a time."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

from moto.core.responses import ActionResult
from moto.core.utils import utcnow
from moto.eks.exceptions import ResourceInUseException, ResourceNotFoundException
from moto.eks.models import Cluster, Nodegroup

from sandbox.eks.clusters import HEALTH, cued

CUE = "eks-sandbox/update"  # a tag of the thing: the error code that its updates fail with
PATHS = ("{0}/clusters/(?P<name>[^/]+)/updates$", "{0}/clusters/(?P<name>[^/]+)/updates/(?P<updateId>[^/]+)$")


class Updates:
    """The operations, to be mixed into moto's EKSResponse."""

    def describe_update(self) -> ActionResult:
        cluster = self.eks_backend.describe_cluster(self._get_param("name"))
        found = cluster.updates.get(self._get_param("updateId"))
        if found is None or found["of"] != self._named():
            raise ResourceNotFoundException(
                clusterName=cluster.name, message=f"No update found for ID: {self._get_param('updateId')}"
            )
        return ActionResult({"update": found})

    def list_updates(self) -> ActionResult:
        cluster = self.eks_backend.describe_cluster(self._get_param("name"))
        return self._page("updateIds", [key for key, one in cluster.updates.items() if one["of"] == self._named()])

    def _named(self) -> str:
        return self._get_param("nodegroupName") or self._get_param("addonName") or ""

    def _begin(
        self, cluster: Cluster, thing: Any, kind: str, what: str, params: dict, apply: Callable[[], None], of: str = ""
    ) -> ActionResult:
        """Begin an update of `thing`; refused while it is anything but ACTIVE, or DEGRADED."""
        if thing.status not in ("ACTIVE", "DEGRADED", "UPDATE_FAILED"):
            raise ResourceInUseException(
                clusterName=cluster.name, message=f"Cannot update {of or cluster.name}: it is {thing.status}."
            )
        update = {
            "id": str(uuid.uuid4()), "status": "InProgress", "type": kind, "createdAt": utcnow(), "errors": [],
            "params": [{"type": key, "value": str(value)} for key, value in params.items()],
            "of": of, "thing": thing, "apply": apply, "due": self.clusters.delays.due(what),
        }  # fmt: skip
        cluster.updates[update["id"]] = update
        thing.status = "UPDATING"
        if not self.clusters.delays.left(update["due"]):
            settle(update)
        return ActionResult({"update": update})

    def _settle(self) -> None:
        """End what is due; called before anything is told of."""
        for cluster in list(self.eks_backend.clusters.values()):
            for update in list(cluster.updates.values()):
                if update["status"] == "InProgress" and not self.clusters.delays.left(update["due"]):
                    settle(update)
            for group in list(cluster.nodegroups.values()):
                _look(group)


def _look(group: Nodegroup) -> None:
    """Let a node group be DEGRADED while its tag says so, and ACTIVE again when it does not."""
    if group.status in ("ACTIVE", "DEGRADED"):
        group.status, group.health = cued(group.tags) if HEALTH in group.tags else ("ACTIVE", {"issues": []})


def settle(update: dict) -> None:
    """End an update: what it is of is ACTIVE again, as it was where the update fails."""
    thing, code = update["thing"], (update["thing"].tags or {}).get(CUE)
    thing.status = "ACTIVE"
    if code:
        update["status"] = "Failed"
        update["errors"] = [{"errorCode": code, "errorMessage": "It was asked to fail.", "resourceIds": [update["of"]]}]
    else:
        update["apply"]()
        update["status"] = "Successful"
