"""Istio's security policies as a workload has them: which apply, which nearly do, and what their rules say of a call.

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
ALIKE = 0.6  # of 1: labels at least so similar are taken for a typing error
HTTP_FIELDS = ("requestPrincipals", "hosts", "methods", "paths")  # and their negations


@dataclass(frozen=True)
class Call:
    """What a policy sees of a request: the peer's principal and namespace, the token's principal and claims, the rest.

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
    """A field of a rule that does not hold for a call: what it wants, and what the call has."""

    field: str
    wanted: str
    got: str


@dataclass(frozen=True)
class Verdict:
    """What policies say of a call: whether it may pass, the policy that says so, and the rule that came nearest."""

    allowed: bool
    policy: str = ""
    misses: tuple[Miss, ...] = ()
    action: str = ""


def name(policy: Mapping) -> str:
    """Return a policy as people call it: namespace/name."""
    return f"{policy['metadata']['namespace']}/{policy['metadata']['name']}"


def applying(policies: Iterable[Mapping], kind: str, namespace: str, labels: Mapping[str, str]) -> list[Mapping]:
    """Return the policies of a kind that are in force for a workload: its own, its namespace's, the mesh's."""
    return [one for one in policies if one["kind"] == kind and applies(one, namespace, labels)]


def applies(policy: Mapping, namespace: str, labels: Mapping[str, str]) -> bool:
    """Whether a policy is about the workload with these labels in this namespace."""
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
    """Return a workload's mutual TLS mode at a port of its own, and the policy that sets it ("" for the default)."""
    found = applying(policies, PEERS, namespace, labels)
    for one in sorted(found, key=lambda one: (bool(selector(one)), one["metadata"]["namespace"] == namespace))[::-1]:
        spec = one.get("spec", {})
        own = spec.get("portLevelMtls", {}).get(str(port), {}) if selector(one) else {}
        stated = own.get("mode") or spec.get("mtls", {}).get("mode")
        if stated and stated != "UNSET":
            return stated, name(one)
    return "PERMISSIVE", ""


def decide(policies: Sequence[Mapping], call: Call) -> Verdict:
    """Return what the AuthorizationPolicies that apply say: DENY first, then ALLOW; none of those allows everything."""
    for one in policies:
        if action(one) == "DENY" and any(not rule for rule in misses(one, call)):
            return Verdict(False, name(one), action="DENY")
    allowing = [one for one in policies if action(one) == "ALLOW"]
    nearest: tuple[str, list[Miss]] | None = None
    for one in allowing:
        for rule in misses(one, call):
            if not rule:
                return Verdict(True, name(one), action="ALLOW")
            if nearest is None or _far(rule) < _far(nearest[1]):
                nearest = name(one), rule
    if not allowing:
        return Verdict(True)
    return Verdict(False, nearest[0] if nearest else name(allowing[0]), tuple(nearest[1] if nearest else ()), "ALLOW")


def action(policy: Mapping) -> str:
    """Return a policy's action; ALLOW is the default."""
    return policy.get("spec", {}).get("action", "ALLOW")


def misses(policy: Mapping, call: Call) -> list[list[Miss]]:
    """Return for each way that a policy's rules can match, source by operation, what of it does not hold."""
    ways = []
    for rule in policy.get("spec", {}).get("rules") or []:
        when = [miss for one in rule.get("when", []) for miss in _condition(one, call)]
        for source in [one.get("source", {}) for one in rule.get("from", [])] or [{}]:
            for operation in [one.get("operation", {}) for one in rule.get("to", [])] or [{}]:
                ways.append([*_fields(source, _source(call)), *_fields(operation, _operation(call)), *when])
    return ways


def speaks_http(policies: Iterable[Mapping]) -> list[str]:
    """Return the fields in these policies' rules that only HTTP can fill."""
    text = str([one.get("spec", {}).get("rules") for one in policies]).lower()
    return [one for one in HTTP_FIELDS if f"{one.lower()}'" in text] + (["when"] if "'request." in text else [])


def matches(pattern: str, value: str) -> bool:
    """Whether a value is what a policy's string says: exact, prefix*, *suffix, or * for anything there is."""
    if pattern == "*":
        return bool(value)
    if pattern.endswith("*"):
        return value.startswith(pattern[:-1])
    return value.endswith(pattern[1:]) if pattern.startswith("*") else value == pattern


def _far(rule: Sequence[Miss]) -> int:
    """Return how far a rule is from a match; another path or port counts more than another caller."""
    return sum(3 if miss.field in ("hosts", "methods", "paths", "ports") else 1 for miss in rule)


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
    found = []
    for key, got in values.items():
        test = TESTS.get(key, matches)
        if key in stated and not any(test(str(one), got) for one in stated[key]):
            found.append(Miss(key, _list(stated[key]), got))
        negated = f"not{key[0].upper()}{key[1:]}"
        if negated in stated and any(test(str(one), got) for one in stated[negated]):
            found.append(Miss(negated, _list(stated[negated]), got))
    return found


def _condition(stated: Mapping, call: Call) -> list[Miss]:
    got = _value(stated["key"], call)
    if got is None:
        return []  # a condition that this module cannot evaluate counts as true
    found = []
    if "values" in stated and not any(matches(str(one), each) for one in stated["values"] for each in got):
        found.append(Miss(stated["key"], _list(stated["values"]), ", ".join(got)))
    if "notValues" in stated and any(matches(str(one), each) for one in stated["notValues"] for each in got):
        found.append(Miss(stated["key"], f"not {_list(stated['notValues'])}", ", ".join(got)))
    return found


def _value(key: str, call: Call) -> list[str] | None:
    if found := CLAIM.match(key):
        node: Any = call.claims
        for part in re.findall(r"\[([^\]]+)\]", found[1]):
            node = node.get(part) if isinstance(node, Mapping) else None
        return [str(one) for one in (node if isinstance(node, list) else [] if node is None else [node])]
    if found := HEADER.match(key):
        value = {name.lower(): value for name, value in call.headers.items()}.get(found[1].lower())
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
    """Whether a selector was probably meant for these labels: one of its values is nearly the one there."""
    pairs = [(value, labels[key]) for key, value in wanted.items() if key in labels and labels[key] != value]
    return any(SequenceMatcher(None, *pair).ratio() > ALIKE for pair in pairs)
