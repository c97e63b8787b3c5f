"""The EKS API's tags, of all that has an ARN: moto tags clusters alone."""

from __future__ import annotations

from moto.core.responses import ActionResult, EmptyResult
from moto.eks.exceptions import ResourceNotFoundException


class Tags:
    """The operations, to be mixed into moto's EKSResponse."""

    def tag_resource(self) -> EmptyResult:
        self._tags().update(self._get_param("tags"))
        return EmptyResult()

    def untag_resource(self) -> EmptyResult:
        held = self._tags()
        for key in self.querystring.get("tagKeys", []):
            held.pop(key, None)
        return EmptyResult()

    def list_tags_for_resource(self) -> ActionResult:
        return ActionResult({"tags": self._tags()})

    def _tags(self) -> dict[str, str]:
        arn, found = self._extract_arn_from_path(), {}
        for cluster in self.eks_backend.clusters.values():
            found[cluster.arn] = cluster.tags
            found |= {group.arn: group.tags for group in cluster.nodegroups.values()}
            found |= {addon.addon_arn: addon.tags for addon in cluster.addons.values()}
            found |= {one.association_arn: one.tags for one in cluster.associations.values()}
            found |= {entry["accessEntryArn"]: entry["tags"] for entry in cluster.access.entries.values()}
        if arn not in found:
            raise ResourceNotFoundException(message=f"Resource {arn} was not found")
        return found[arn]
