"""Decide on a request as Istio's AuthorizationPolicies do: it is allowed, denied, or not known because of a field.

Source: istio/istio 1.31, pilot/pkg/security/authz/model/model.go (which rules match) and …/builder/builder.go (order).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain

from lib.istio import attributes
from lib.istio.attributes import Call
from lib.istio.mesh import Mesh
from lib.istio.policies import action, is_trial, name

ATTRIBUTES = {  # the fields of a rule's source and operation, and the attribute that each compares
    "principals": "source.principal",
    "requestPrincipals": "request.auth.principal",
    "namespaces": "source.namespace",
    "serviceAccounts": "source.serviceAccount",
    "trustDomains": "source.trustDomain",
    "ipBlocks": "source.ip",
    "remoteIpBlocks": "remote.ip",
    "hosts": "hosts",
    "methods": "methods",
    "paths": "paths",
    "ports": "destination.port",
}
FIELDS = {  # each of them and its opposite, such as notPaths: the attribute, and the name of such values in `when`
    label: (attribute, kind)
    for key, attribute in ATTRIBUTES.items()
    for label, kind in ((key, "values"), (f"not{key[0].upper()}{key[1:]}", "notValues"))
}
FAR = ("hosts", "methods", "paths", "ports")  # a rule that misses in these is further away than one for another caller


@dataclass(frozen=True)
class Miss:
    """A field of a rule that does not match a call: the values that the rule wants, and the call's value."""

    field: str
    wanted: str
    got: str


@dataclass(frozen=True)
class Alternative:
    """One of a rule's sources with one of its operations: what does not match, what is not known, what matches."""

    policy: Mapping
    misses: tuple[Miss, ...] = ()
    unknown: tuple[str, ...] = ()
    met: tuple[Miss, ...] = ()

    @property
    def matches(self) -> bool | None:
        """Whether it matches the call; None if this is not known."""
        return False if self.misses else None if self.unknown else True


@dataclass(frozen=True)
class Verdict:
    """The decision on a call.

    Attributes:
        allowed: Whether it may pass; None if this is not known.
        policy: The deciding policy; of a refusal by ALLOW policies the one with the nearest rule.
        misses: What of the nearest rule does not match.
        action: The deciding policy's action.
        unknown: The fields that the decision depends on and that are not known.
    """

    allowed: bool | None
    policy: str = ""
    misses: tuple[Miss, ...] = ()
    action: str = ""
    unknown: tuple[str, ...] = ()


def decide(policies: Sequence[Mapping], call: Call, mesh: Mesh | None = None) -> Verdict:
    """Return the decision of the policies in force: CUSTOM first, then DENY, then ALLOW.

    Args:
        policies: The AuthorizationPolicies in force for the workload (lib.istio.policies.applying).
        call: The request.
        mesh: The mesh's configuration; by default Istio's defaults.
    """
    mesh = mesh or Mesh()
    of = {kind: [one for one in policies if action(one) == kind] for kind in ("CUSTOM", "DENY", "ALLOW")}
    unknown: list[str] = []
    for policy in of["CUSTOM"]:
        provider = provider_of(policy)
        bad, trial = bool(unusable(provider, of["CUSTOM"], mesh)), is_trial(policy)
        if (bad and trial) or (not bad and call.tcp and not mesh.providers[provider].grpc):
            continue
        for one in alternatives(policy, unread(call), mesh):
            if one.matches and (bad or trial):
                return Verdict(False, name(policy), action="CUSTOM")
            if one.matches is not False:
                unknown += [*one.unknown, f"what the external authorizer {provider} answers"]
    for policy in of["DENY"]:
        for one in alternatives(policy, call, mesh):
            if one.matches:
                return Verdict(False, name(policy), action="DENY")
            unknown += one.unknown if one.matches is None else ()
    found = [one for policy in of["ALLOW"] for one in alternatives(policy, call, mesh)]
    passed = next((one for one in found if one.matches), None)
    open_ = [one for one in found if one.matches is None]
    if of["ALLOW"] and not passed and not open_:
        nearest = min(found, key=_distance, default=Alternative(of["ALLOW"][0]))
        return Verdict(False, name(nearest.policy), nearest.misses, "ALLOW")
    if not passed:
        unknown += [field for one in open_ for field in one.unknown]
    if unknown:
        return Verdict(None, unknown=tuple(dict.fromkeys(unknown)))
    return Verdict(True, name(passed.policy), action="ALLOW") if passed else Verdict(True)


def provider_of(policy: Mapping) -> str:
    """Return the name of the external authorizer that a CUSTOM policy names."""
    return (policy["spec"].get("provider") or {}).get("name", "")


def unusable(provider: str, policies: Sequence[Mapping], mesh: Mesh) -> str:
    """Return why Istio cannot ask an external authorizer and denies all that its policies match; "" if it can.

    Args:
        provider: Its name.
        policies: The CUSTOM policies in force for the workload. Those on trial (dry-run) count.
        mesh: The mesh's configuration.

    Source: istio/istio 1.31, pilot/pkg/security/authz/builder/extauthz.go and builder.go
    """
    asked = sorted({provider_of(one) for one in policies})
    several = mesh.variables.get("PILOT_ENABLE_MULTIPLE_CUSTOM_AUTHZ_PROVIDERS", "false").lower() in ("true", "1")
    if len(asked) > 1 and not several:
        return f"the policies of this workload name several providers ({', '.join(asked)})"
    if provider not in mesh.providers:
        return f"meshConfig.extensionProviders has no {provider} (it has: {', '.join(mesh.providers) or 'none'})"
    found = mesh.providers[provider]
    return f"the mesh has no Service {found.host}, which the provider {provider} names" if found.missing else ""


def unread(call: Call) -> Call:
    """Return a request as the rules of CUSTOM policies see it: Envoy asks the authorizer before it reads the token."""
    return replace(call, claims={}, headers=call.headers if call.unread is None else call.unread)


def alternatives(policy: Mapping, call: Call, mesh: Mesh | None = None) -> list[Alternative]:
    """Return the alternatives of a policy's rules: each source of a rule with each operation."""
    made = []
    for rule in policy.get("spec", {}).get("rules") or []:
        when = [(one["key"], one["key"], one) for one in rule.get("when") or []]
        if any(not attributes.known_key(key) for _, key, _ in when):
            continue  # istiod leaves such a rule out
        sources = [one.get("source") or {} for one in rule.get("from") or []] or [{}]
        operations = [one.get("operation") or {} for one in rule.get("to") or []] or [{}]
        parts = [[*_parts(source), *_parts(operation), *when] for source in sources for operation in operations]
        if call.tcp and any(map(_of_http, chain(*parts))):
            if action(policy) == "ALLOW":
                continue  # one HTTP field is enough: istiod leaves the whole rule out of a TCP port
            parts = [[part for part in one if not _of_http(part)] for one in parts]  # DENY forgets what TCP lacks
        made += [_alternative(policy, one, call, mesh or Mesh()) for one in parts]
    return made


def _of_http(part: tuple[str, str, dict]) -> bool:
    return part[1].startswith(attributes.HTTP)


def _alternative(policy: Mapping, parts: list, call: Call, mesh: Mesh) -> Alternative:
    """Return whether all parts match. Each is the name of a field, its attribute, and its values and notValues."""
    misses: list[Miss] = []
    met: list[Miss] = []
    unknown: list[str] = []
    home = policy["metadata"].get("namespace", "")
    for label, attribute, stated in parts:
        for negated in ("values", "notValues"):
            patterns = [str(one) for one in stated.get(negated) or []]
            if not patterns:
                continue
            hit = attributes.any_matches(attribute, patterns, call, mesh, home)
            if hit is None:
                unknown.append(label)
            else:
                found = misses if hit is (negated == "notValues") else met
                found.append(_miss(label, attribute, patterns, negated == "notValues", call))
    return Alternative(policy, tuple(misses), tuple(unknown), tuple(met))


def _parts(stated: Mapping) -> list[tuple[str, str, dict]]:
    fields = FIELDS.items() if stated else ()
    return [(label, attribute, {kind: stated[label]}) for label, (attribute, kind) in fields if stated.get(label)]


def _miss(label: str, attribute: str, patterns: Sequence[str], negated: bool, call: Call) -> Miss:
    values = ", ".join(patterns)
    return Miss(label, f"not {values}" if negated and label == attribute else values, attributes.got(attribute, call))


def _distance(one: Alternative) -> int:
    """Return how far a rule is from a match; another path or port counts more than another caller."""
    return sum(3 if miss.field in FAR else 1 for miss in one.misses)
