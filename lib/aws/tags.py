"""What the runbook made in EC2, found again by its tags and by nothing else; and how it gives them."""

from __future__ import annotations

from lib.aws.session import tag_dict, tag_list
from lib.errors import AwsError


def every(describe, key: str, tags: dict[str, str], **more: str) -> list[dict]:
    """Return what has all of `tags`; `more` are further filters, a name each (vpc_id is EC2's vpc-id)."""
    wanted = {**{f"tag:{name}": value for name, value in tags.items()}, **_named(more)}
    asked = "Filter" if key == "NatGateways" else "Filters"
    found = describe(**{asked: [{"Name": name, "Values": [value]} for name, value in wanted.items()]})[key]
    return [one for one in found if tags.items() <= tag_dict(one.get("Tags", [])).items()]  # never by the filter alone


def one(describe, key: str, tags: dict[str, str]) -> dict | None:
    """Return the one that has all of `tags`, or None; AwsError where there are several."""
    found = every(describe, key, tags)
    if len(found) > 1:
        raise AwsError(f"expected one of {key} with the tags {tags}, got {len(found)}; delete those that are not used.")
    return found[0] if found else None


def making(kind: str, tags: dict[str, str]) -> dict:
    """Return what lets EC2 make a `kind` with its tags in the same call: whatever breaks off, it is found again."""
    return {"TagSpecifications": [{"ResourceType": kind, "Tags": tag_list(tags)}]}


def touched(action: str) -> str:
    """Return what a further change makes of an action: what was created stays so."""
    return "changed" if action == "unchanged" else action


def _named(more: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in more.items()}
