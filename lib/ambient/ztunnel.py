"""What ztunnel enforces of an AuthorizationPolicy that a sidecar enforced: connections, and nothing of HTTP.

Source: istio/istio 1.31, pilot/pkg/serviceregistry/ambient/authorization.go (convertAuthorizationPolicy, handleRule).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

from lib.istio.policies import DRY_RUN, HTTP_FIELDS, TRUE, action, bare, targets

OF_HTTP = (*HTTP_FIELDS, "remoteIpBlocks")  # fields of rules, and their negations
UNREAD = ("trustDomains",)  # fields that istiod leaves out without counting the rule as one of HTTP
KEYS = ("source.ip", "source.namespace", "source.principal", "destination.ip", "destination.port")  # of `when`


def enforced(policy: Mapping) -> dict | None:
    """Return the policy that ztunnel enforces in the place of this one; None if it enforces nothing of it.

    A rule of HTTP never matches in an ALLOW policy. In a DENY policy it loses its HTTP fields, so it matches more.
    """
    notes = policy["metadata"].get("annotations") or {}
    if targets(policy) or action(policy) not in ("ALLOW", "DENY") or notes.get(DRY_RUN) in TRUE:
        return None
    made = copy.deepcopy(dict(policy))
    rules = (policy.get("spec") or {}).get("rules") or []
    if action(policy) == "ALLOW":
        rules = [one for one in rules if not of_http(one)]
    if rules or "rules" in (policy.get("spec") or {}):
        made["spec"]["rules"] = [_stripped(one) for one in rules]
    return made


def of_http(rule: Mapping) -> list[str]:
    """Return the fields of a rule that need HTTP."""
    return _fields(rule, OF_HTTP) + [one["key"] for one in rule.get("when") or [] if one["key"] not in KEYS]


def unread(rule: Mapping) -> list[str]:
    """Return the fields of a rule that ztunnel never gets, so that the rule matches more callers."""
    return _fields(rule, UNREAD)


def _fields(rule: Mapping, wanted: tuple[str, ...]) -> list[str]:
    parts = [one.get("source") or {} for one in rule.get("from") or []]
    parts += [one.get("operation") or {} for one in rule.get("to") or []]
    return [name for part in parts for name in part if bare(name) in wanted and part[name]]


def _stripped(rule: Mapping) -> dict:
    made: dict = {}
    for key, inner in (("from", "source"), ("to", "operation")):
        for one in rule.get(key) or []:
            kept = {name: value for name, value in (one.get(inner) or {}).items() if bare(name) not in OF_HTTP + UNREAD}
            made.setdefault(key, []).append({inner: kept})
    if when := [one for one in rule.get("when") or [] if one["key"] in KEYS]:
        made["when"] = when
    return made
