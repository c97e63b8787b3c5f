"""The EKS API's tags of everything that has an ARN; moto tags clusters alone."""

from __future__ import annotations

from moto.core.responses import ActionResult, EmptyResult
from moto.eks.exceptions import ResourceNotFoundException

from sandbox.eks.base_api import EksBaseApi


class TagsApi(EksBaseApi):
    """The operations on tags."""

    def tag_resource(self) -> ActionResult:
        """API_TagResource: set tags."""
        self._tags().update(self._get_param("tags"))
        return EmptyResult()

    def untag_resource(self) -> ActionResult:
        """API_UntagResource: delete tags by their keys."""
        tags = self._tags()
        for key in self.querystring.get("tagKeys", []):
            tags.pop(key, None)
        return EmptyResult()

    def list_tags_for_resource(self) -> ActionResult:
        """API_ListTagsForResource: return the tags."""
        return ActionResult({"tags": self._tags()})

    def _tags(self) -> dict[str, str]:
        arn = self._extract_arn_from_path()
        tags: dict[str, dict[str, str]] = {}
        for cluster in self._all_clusters():
            tags[cluster.arn] = cluster.tags
            tags |= {group.arn: group.tags for group in cluster.nodegroups.values()}
            tags |= {addon.addon_arn: addon.tags for addon in cluster.addons.values()}
            tags |= {association.association_arn: association.tags for association in cluster.associations.values()}
            tags |= {entry["accessEntryArn"]: entry["tags"] for entry in cluster.access.entries.values()}
        if arn not in tags:
            raise ResourceNotFoundException(message=f"Resource {arn} was not found")
        return tags[arn]
