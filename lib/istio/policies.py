"""Evaluate Istio's security policies for a workload: which apply, which nearly apply, and what they decide on a call.

Semantics: https://istio.io/latest/docs/reference/config/security/authorization-policy/ and …/peer_authentication/.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from typing import Any
from urllib.parse import urlsplit

from lib.istio.installation import ROOT_NAMESPACE

API = "security.istio.io/v1"
REQUESTS, RULES, PEERS = "RequestAuthentication", "AuthorizationPolicy", "PeerAuthentication"
KINDS = (REQUESTS, RULES, PEERS)
CLAIM = re.compile(r"^request\.auth\.claims((?:\[[^\]]+\])+)$")
HEADER = re.compile(r"^request\.headers\[([^\]]+)\]$")
ALIKE = 0.6  # of 1: labels that are at least this similar count as a typing error
HTTP_FIELDS = ("requestPrincipals", "hosts", "methods", "paths")  # and their negations


@dataclass(frozen=True)
class Call:
    """The properties of a request that a policy can compare: its peer, its token, and where it goes.

    `principal` is "" without mutual TLS, `request_principal` "" without a valid token or without its iss and sub.
    """

    principal: str = ""
    request_principal: str = ""
    claims: Mapping = field(default_factory=dict)
    host: str = ""
    method: str = "GET"
    path: str = "/"
    port: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def namespace(self) -> str:
        """The peer's namespace, from its principal."""
        return self.principal.split("/")[2] if self.principal.count("/") >= 4 else ""


@dataclass(frozen=True)
class Miss:
    """A field of a rule that does not match a call: the values that the rule wants, and the call's value."""

    field: str
    wanted: str
    got: str


@dataclass(frozen=True)
class Verdict:
    """The decision on a call: whether it may pass, the deciding policy, and the misses of the nearest rule."""

    allowed: bool
    policy: str = ""
    misses: tuple[Miss, ...] = ()
    action: str = ""


def name(policy: Mapping) -> str:
    """Return a policy's namespace/name."""
    return f"{policy['metadata']['namespace']}/{policy['metadata']['name']}"


def applying(policies: Iterable[Mapping], kind: str, namespace: str, labels: Mapping[str, str]) -> list[Mapping]:
    """Return the policies of a kind that apply to a workload: its own, its namespace's, the mesh's."""
    return [policy for policy in policies if policy["kind"] == kind and applies(policy, namespace, labels)]


def applies(policy: Mapping, namespace: str, labels: Mapping[str, str]) -> bool:
    """Return whether a policy applies to the workload with these labels in this namespace."""
    home, wanted = policy["metadata"]["namespace"], selector(policy)
    return home in (namespace, ROOT_NAMESPACE) and wanted.items() <= labels.items() and not targets(policy)


def selector(policy: Mapping) -> dict[str, str]:
    """Return the labels that a policy selects."""
    return policy.get("spec", {}).get("selector", {}).get("matchLabels", {})


def targets(policy: Mapping) -> list[dict]:
    """Return what a policy refers to instead of selecting labels: waypoints and gateways of the Gateway API."""
    spec = policy.get("spec", {})
    return [*spec.get("targetRefs", []), *([spec["targetRef"]] if "targetRef" in spec else [])]


def mode(policies: Iterable[Mapping], namespace: str, labels: Mapping[str, str], port: str = "") -> tuple[str, str]:
    """Return a workload's mutual TLS mode at one of its ports, and the policy that sets it ("" for the default)."""

    def precedence(policy: Mapping) -> tuple[bool, bool]:
        return bool(selector(policy)), policy["metadata"]["namespace"] == namespace

    for policy in sorted(applying(policies, PEERS, namespace, labels), key=precedence)[::-1]:
        spec = policy.get("spec", {})
        port_level = spec.get("portLevelMtls", {}).get(str(port), {}) if selector(policy) else {}
        stated = port_level.get("mode") or spec.get("mtls", {}).get("mode")
        if stated and stated != "UNSET":
            return stated, name(policy)
    return "PERMISSIVE", ""


def decide(policies: Sequence[Mapping], call: Call) -> Verdict:
    """Return the decision of the AuthorizationPolicies that apply: DENY first, then ALLOW.

    Without any ALLOW policy, a call passes that no DENY policy matches.
    """
    for policy in policies:
        if action(policy) == "DENY" and any(not missed for missed in misses(policy, call)):
            return Verdict(False, name(policy), action="DENY")
    allowing = [policy for policy in policies if action(policy) == "ALLOW"]
    nearest: tuple[str, list[Miss]] | None = None
    for policy in allowing:
        for missed in misses(policy, call):
            if not missed:
                return Verdict(True, name(policy), action="ALLOW")
            if nearest is None or _distance(missed) < _distance(nearest[1]):
                nearest = name(policy), missed
    if not allowing:
        return Verdict(True)
    return Verdict(False, nearest[0] if nearest else name(allowing[0]), tuple(nearest[1] if nearest else ()), "ALLOW")


def action(policy: Mapping) -> str:
    """Return a policy's action; ALLOW is the default."""
    return policy.get("spec", {}).get("action", "ALLOW")


def misses(policy: Mapping, call: Call) -> list[list[Miss]]:
    """Return the misses of each alternative of a policy's rules: a rule's sources times its operations.

    An alternative without misses matches the call.
    """
    alternatives = []
    for rule in policy.get("spec", {}).get("rules") or []:
        when = [miss for condition in rule.get("when", []) for miss in _condition(condition, call)]
        for source in [entry.get("source", {}) for entry in rule.get("from", [])] or [{}]:
            for operation in [entry.get("operation", {}) for entry in rule.get("to", [])] or [{}]:
                alternatives.append([*_fields(source, _source(call)), *_fields(operation, _operation(call)), *when])
    return alternatives


def http_fields(policies: Iterable[Mapping]) -> list[str]:
    """Return the fields of these policies' rules that only an HTTP request has."""
    rules = str([policy.get("spec", {}).get("rules") for policy in policies]).lower()
    fields = [name for name in HTTP_FIELDS if f"{name.lower()}'" in rules]
    return fields + (["when"] if "'request." in rules else [])


def matches(pattern: str, value: str) -> bool:
    """Return whether a value matches a policy's string: exact, prefix*, *suffix, or * for any value but ""."""
    if pattern == "*":
        return bool(value)
    if pattern.endswith("*"):
        return value.startswith(pattern[:-1])
    return value.endswith(pattern[1:]) if pattern.startswith("*") else value == pattern


def _distance(missed: Sequence[Miss]) -> int:
    """Return how far a rule is from a match; another path or port counts more than another caller."""
    return sum(3 if miss.field in ("hosts", "methods", "paths", "ports") else 1 for miss in missed)


def _source(call: Call) -> dict[str, str]:
    account = f"{call.namespace}/{call.principal.rsplit('/', 1)[-1]}" if call.namespace else ""
    return {
        "principals": call.principal,
        "requestPrincipals": call.request_principal,
        "namespaces": call.namespace,
        "serviceAccounts": account,
    }


def _operation(call: Call) -> dict[str, str]:
    return {"hosts": call.host, "methods": call.method, "paths": call.path.partition("?")[0], "ports": call.port}


def _fields(stated: Mapping, values: Mapping[str, str]) -> list[Miss]:
    missed = []
    for key, got in values.items():
        test = TESTS.get(key, matches)
        if key in stated and not any(test(str(pattern), got) for pattern in stated[key]):
            missed.append(Miss(key, _list(stated[key]), got))
        negated = f"not{key[0].upper()}{key[1:]}"
        if negated in stated and any(test(str(pattern), got) for pattern in stated[negated]):
            missed.append(Miss(negated, _list(stated[negated]), got))
    return missed


def _condition(stated: Mapping, call: Call) -> list[Miss]:
    got = _value(stated["key"], call)
    if got is None:
        return []  # a condition that this module cannot evaluate counts as true
    missed = []
    if "values" in stated and not _any_matches(stated["values"], got):
        missed.append(Miss(stated["key"], _list(stated["values"]), ", ".join(got)))
    if "notValues" in stated and _any_matches(stated["notValues"], got):
        missed.append(Miss(stated["key"], f"not {_list(stated['notValues'])}", ", ".join(got)))
    return missed


def _any_matches(patterns: Iterable, values: Sequence[str]) -> bool:
    return any(matches(str(pattern), value) for pattern in patterns for value in values)


def _value(key: str, call: Call) -> list[str] | None:
    if claim := CLAIM.match(key):
        node: Any = call.claims
        for part in re.findall(r"\[([^\]]+)\]", claim[1]):
            node = node.get(part) if isinstance(node, Mapping) else None
        return [str(value) for value in (node if isinstance(node, list) else [] if node is None else [node])]
    if header := HEADER.match(key):
        value = {name.lower(): value for name, value in call.headers.items()}.get(header[1].lower())
        return [value] if value is not None else []
    known = {"source.principal": call.principal, "source.namespace": call.namespace}
    known |= {"request.auth.principal": call.request_principal}
    if key == "request.auth.audiences":
        audience = call.claims.get("aud", [])
        return [audience] if isinstance(audience, str) else list(audience)
    return [known[key]] if key in known else None


def _fits_host(pattern: str, value: str) -> bool:
    return matches(pattern.lower(), value.lower())


def _fits_path(pattern: str, value: str) -> bool:
    if "{*" not in pattern:
        return matches(pattern, value)
    parts = re.split(r"(\{\*\*?\})", pattern)
    regex = "".join({"{*}": "[^/]+", "{**}": ".*"}.get(part, re.escape(part)) for part in parts)
    return re.fullmatch(regex, value) is not None


def _fits_token(pattern: str, value: str) -> bool:
    """Return whether a request principal, issuer/subject, fits a pattern.

    Istio cuts the pattern at its last slash too, therefore `issuer*` fits nothing.
    """
    if "/" not in pattern.strip("*"):
        return matches(pattern, value)
    issuer, _, subject = pattern.rpartition("/")
    actual_issuer, _, actual_subject = value.rpartition("/")
    return bool(value) and matches(issuer, actual_issuer) and matches(subject, actual_subject)


TESTS = {"paths": _fits_path, "hosts": _fits_host, "requestPrincipals": _fits_token}


def _list(values: Sequence) -> str:
    return ", ".join(map(str, values))


def hairpins(objects: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the issuers of RequestAuthentications whose keys istiod would fetch at the issuer's own public host.

    A rule without a jwksUri counts: istiod then asks the issuer. Behind an internal load balancer that request can
    leave a node and return to it (hairpinning), and times out now and then.
    """
    policies = [policy for policy in objects if policy["kind"] == REQUESTS]
    rules = [rule for policy in policies for rule in policy["spec"]["jwtRules"] if "jwks" not in rule]
    return [rule["issuer"] for rule in rules if _host(rule.get("jwksUri", rule["issuer"])) == _host(rule["issuer"])]


def _host(url: str) -> str | None:
    return urlsplit(url).hostname


def resembles(wanted: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    """Return whether a selector was probably meant for these labels: one value differs only by a typing error."""
    pairs = [(value, labels[key]) for key, value in wanted.items() if key in labels and labels[key] != value]
    return any(SequenceMatcher(None, *pair).ratio() > ALIKE for pair in pairs)
