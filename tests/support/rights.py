"""The rights of the image's pods, as their manifests state them and as the API server's audit log has them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable

from sandbox.paths import LOGS

GRANTED = re.compile(r'allowed by (?:Cluster)?RoleBinding "([^"]+)"')
Right = tuple[str, str, str, str, str]  # the binding, the verb, the group, the resource, the object's name or ""
NAMELESS = {"create", "list", "watch"}  # verbs whose calls RBAC does not limit to a name
GENERATED = {"pods", "pods/exec", "pods/log"}  # resources whose objects have generated names, which no rule can list


def calls(cluster_name: str, user: str) -> list[dict]:
    """Return the events of an API server's log by users whose name begins with `user`."""
    lines = (LOGS / cluster_name / "kube-apiserver.log").read_text().splitlines()
    events = [json.loads(line) for line in lines if line.startswith('{"kind":"Event"')]
    return [one for one in events if one["user"]["username"].startswith(user)]


def used(events: Iterable[dict]) -> set[Right]:
    """Return the rights that calls needed, but for those of everybody."""
    return {found for one in events if (found := _right(one))}


def _right(event: dict) -> Right | None:
    found = GRANTED.search(event["annotations"]["authorization.k8s.io/reason"])
    if not found or found[1].startswith("system:"):
        return None
    what = event["objectRef"]
    kind = "/".join(filter(None, (what["resource"], what.get("subresource"))))
    any_name = event["verb"] in NAMELESS or kind in GENERATED
    return found[1], event["verb"], what.get("apiGroup", ""), kind, "" if any_name else what.get("name", "")


def stated(objects: Iterable[dict]) -> set[Right]:
    """Return the rights that Roles, ClusterRoles and their bindings give."""
    objects = list(objects)
    rules = {(one["kind"], one["metadata"]["name"]): one["rules"] for one in objects if "rules" in one}
    return {
        ("/".join(filter(None, (one["metadata"]["name"], one["metadata"].get("namespace")))), verb, group, kind, name)
        for one in objects
        if "roleRef" in one
        for rule in rules[one["roleRef"]["kind"], one["roleRef"]["name"]]
        for group in rule["apiGroups"]
        for kind in rule["resources"]
        for verb in rule["verbs"]
        for name in rule.get("resourceNames", [""])
    }


def beyond(events: Iterable[dict], objects: Iterable[dict]) -> set[Right]:
    """Return the rights that calls needed and no rule gives, neither for the object's name nor for all names."""
    given = stated(objects)
    return {one for one in used(events) if not given & {one, (*one[:-1], "")}}
