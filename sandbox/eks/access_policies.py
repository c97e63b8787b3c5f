"""EKS's access policies as rules of Kubernetes: (API groups, resources, verbs).

Source: "Review access policy permissions" of the EKS user guide. Admin, edit and view are Kubernetes' user-facing roles
of these names, without rules for custom resources. EKS's policies for services of AWS are left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

PREFIX = "arn:aws:eks::aws:cluster-access-policy/"
Rule = tuple[frozenset[str], frozenset[str], frozenset[str]]


def _rule(groups: str, resources: str, verbs: str) -> Rule:
    """One rule; the core group is written as `core`."""
    named = frozenset("" if group == "core" else group for group in groups.split())
    return named, frozenset(resources.split()), frozenset(verbs.split())


READ, WRITE = "get list watch", "create delete deletecollection patch update"

_APPS = (
    "daemonsets deployments deployments/rollback deployments/scale replicasets replicasets/scale "
    "statefulsets statefulsets/scale"
)
_PLAIN = (
    "configmaps endpoints persistentvolumeclaims pods replicationcontrollers replicationcontrollers/scale "
    "serviceaccounts services"
)
_STATES = (
    "bindings events limitranges namespaces namespaces/status persistentvolumeclaims/status pods/log pods/status "
    "replicationcontrollers/status resourcequotas resourcequotas/status services/status"
)
_VIEW = (
    _rule("apps", f"{_APPS} controllerrevisions daemonsets/status deployments/status replicasets/status "
          "statefulsets/status", READ),
    _rule("autoscaling", "horizontalpodautoscalers horizontalpodautoscalers/status", READ),
    _rule("batch", "cronjobs cronjobs/status jobs jobs/status", READ),
    _rule("discovery.k8s.io", "endpointslices", READ),
    _rule("networking.k8s.io", "ingresses ingresses/status networkpolicies", READ),
    _rule("policy", "poddisruptionbudgets poddisruptionbudgets/status", READ),
    _rule("core", f"{_PLAIN} {_STATES}", READ),
)  # fmt: skip
_EDIT = (
    *_VIEW,
    _rule("apps", _APPS, WRITE),
    _rule("autoscaling", "horizontalpodautoscalers", WRITE),
    _rule("batch", "cronjobs jobs", WRITE),
    _rule("networking.k8s.io", "ingresses networkpolicies", WRITE),
    _rule("policy", "poddisruptionbudgets", WRITE),
    _rule("core", f"{_PLAIN} pods/attach pods/exec pods/portforward pods/proxy secrets services/proxy", WRITE),
    _rule("core", "pods/attach pods/exec pods/portforward pods/proxy secrets services/proxy", READ),
    _rule("core", "pods/eviction serviceaccounts/token", "create"),
    _rule("core", "serviceaccounts", "impersonate"),
)
_ADMIN = (
    *_EDIT,
    _rule("authorization.k8s.io", "localsubjectaccessreviews", "create"),
    _rule("rbac.authorization.k8s.io", "rolebindings roles", f"{READ} {WRITE}"),
)
POLICIES: dict[str, tuple[Rule, ...]] = {
    "AmazonEKSAdminPolicy": _ADMIN,
    "AmazonEKSAdminViewPolicy": (_rule("*", "*", READ),),
    "AmazonEKSClusterAdminPolicy": (_rule("*", "*", "*"),),
    "AmazonEKSEditPolicy": _EDIT,
    "AmazonEKSViewPolicy": _VIEW,
}


def allows(granted: Iterable[tuple[str, Mapping]], spec: Mapping) -> bool:
    """Return whether one of the policies, each with its access scope, allows the spec of a SubjectAccessReview."""
    return any(_covers(scope, spec) and _permits(POLICIES[policy], spec) for policy, scope in granted)


def _covers(scope: Mapping, spec: Mapping) -> bool:
    if scope["type"] == "cluster":
        return True
    namespace = spec.get("resourceAttributes", {}).get("namespace", "")
    return bool(namespace) and any(_matches(pattern, namespace) for pattern in scope["namespaces"])


def _matches(pattern: str, namespace: str) -> bool:
    """Return whether a namespace has the form of a pattern, where * is the only wildcard. Source: API_AccessScope."""
    return bool(re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), namespace))


def _permits(rules: tuple[Rule, ...], spec: Mapping) -> bool:
    about = spec.get("resourceAttributes")
    if about is None:  # a path such as /metrics needs a policy that allows everything
        return any("*" in resources and "*" in verbs for _, resources, verbs in rules)
    resource = "/".join(filter(None, (about.get("resource", ""), about.get("subresource", ""))))
    wanted = (about.get("group", ""), resource, about.get("verb", ""))
    return any(all(word in part or "*" in part for word, part in zip(wanted, rule, strict=True)) for rule in rules)
