"""Tags: how the runbook marks its AWS objects, finds them again, and refuses to touch those without its marks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from lib.ensured import Action
from lib.errors import AwsError

Tags = dict[str, str]


def find_all(describe: Callable[..., Any], key: str, tags: Tags) -> list[dict[str, Any]]:
    """Return the EC2 objects that have all of `tags`.

    Args:
        describe: an EC2 client's describe method, e.g. `ec2.describe_vpcs`.
        key: the key of the list in its response, e.g. "Vpcs".
        tags: tag names and values.
    """
    parameter = "Filter" if key == "NatGateways" else "Filters"
    filters = [{"Name": f"tag:{name}", "Values": [value]} for name, value in tags.items()]
    found = describe(**{parameter: filters})[key]
    return [item for item in found if has_tags(item, tags)]  # an emulated endpoint may ignore a filter


def find_one(describe: Callable[..., Any], key: str, tags: Tags) -> dict[str, Any] | None:
    """Return the EC2 object that has all of `tags`, or None; arguments as for `find_all`.

    Raises:
        AwsError: several objects have these tags.
    """
    found = find_all(describe, key, tags)
    if len(found) > 1:
        raise AwsError(f"expected one of {key} with the tags {tags}, got {len(found)}; delete the unused ones.")
    return found[0] if found else None


def tag_specification(kind: str, tags: Tags) -> dict[str, Any]:
    """Return the argument that makes EC2 tag an object in the call that creates it, so no untagged object can remain.

    `kind` is EC2's ResourceType, e.g. "internet-gateway".
    """
    return {"TagSpecifications": [{"ResourceType": kind, "Tags": tag_list(tags)}]}


def mark_changed(action: Action) -> Action:
    """Return the action after one more change: "unchanged" becomes "changed"; "created" stays "created"."""
    return "changed" if action == "unchanged" else action


def check_owned(what: str, found: Mapping[str, str], tags: Tags) -> None:
    """Raise AwsError unless `found` contains all of `tags`: the runbook neither changes nor deletes other objects."""
    if not tags.items() <= found.items():
        raise AwsError(
            f"{what}: expected the tags {tags}, got {dict(found)}: this runbook did not create it; "
            "choose another cluster_name."
        )


def has_tags(item: Mapping[str, Any], tags: Tags) -> bool:
    """Whether an object as IAM or EC2 describes it has all of `tags`."""
    return tags.items() <= tag_dict(item.get("Tags", [])).items()


def tag_list(tags: Tags) -> list[Any]:
    """Return tags as IAM and EC2 take them: [{"Key": …, "Value": …}]."""
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def tag_dict(tags: Iterable[Mapping[str, Any]]) -> Tags:
    """Return the tags that IAM and EC2 list as a dict."""
    return {tag["Key"]: tag["Value"] for tag in tags}
