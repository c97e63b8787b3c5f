"""The subjects of a ServiceRoleBinding as today's source and conditions.

What was: Istio 1.4, pilot/pkg/security/authz/model/principal.go.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from lib.errors import LegacyError
from lib.legacy.precedence import Ruling
from lib.legacy.read import Subject

FIELDS = {  # a property of a subject: the field of today's source that says the same
    "source.principal": "principals",
    "source.namespace": "namespaces",
    "source.ip": "ipBlocks",
    "request.auth.principal": "requestPrincipals",
}
PROPERTIES = ("request.auth.claims[", "request.auth.presenter", "request.headers[")
EVERYBODY = ("*", "allUsers")
AUTHENTICATED = "source.principal: * is whoever has a certificate, as the old pages said; Istio 1.4 itself let in all."


@dataclass(frozen=True)
class Translation:
    """A subject: the source of a request, the conditions, and the notes about both."""

    source: dict = field(default_factory=dict)
    when: Sequence[dict] = ()
    notes: Sequence[str] = ()


def source(subject: Subject) -> Translation:
    """Return a subject; LegacyError where there is no equal. User * is everybody, with or without an identity."""
    _check_whole(subject)
    names = [*([subject.user] if subject.user else []), *subject.names]
    made: dict[str, list[str]] = {}
    if names and not any(one in EVERYBODY for one in names):
        made["principals"] = ["*" if one == "allAuthenticatedUsers" else one for one in names]
    for values, name in ((subject.not_names, "notPrincipals"), (subject.namespaces, "namespaces"),
                         (subject.not_namespaces, "notNamespaces")):  # fmt: skip
        if values:
            made[name] = values
    groups = [*([subject.group] if subject.group else []), *subject.groups]
    conditions = [when("request.auth.claims[groups]", groups, PROPERTIES)] if groups else []
    for key, value in subject.properties.items():
        if key in FIELDS:
            made[FIELDS[key]] = [value]
        else:
            conditions.append(when(key, [value], PROPERTIES))
    return Translation(made, conditions, [AUTHENTICATED] if subject.properties.get("source.principal") == "*" else [])


def check_looked(subject: Subject, service: str, namespace: str, ruling: Ruling) -> None:
    """Raise LegacyError where a token that a subject is known by was not looked at for a Service ("" for all).

    What a token says was known on the ports and paths where it was looked at; today on all of the pod's.
    """
    keys = subject.properties
    if not (subject.group or subject.groups or any(key.startswith("request.auth.") for key in keys)):
        return
    for name in [service] if service else ["", *ruling.targets(namespace)]:
        over = ruling.over(name, namespace)
        looked = [one for one in over if one and one.spec.origins]
        if looked and (len(over) > 1 or any(origin.jwt.trigger_rules for origin in looked[0].spec.origins)):
            raise LegacyError(
                f"expected tokens to be looked at on all ports and paths, got triggerRules or ports in {looked[0]}: "
                "today a role would see a token where it did not; name the paths and ports in the ServiceRole alone."
            )
        if "request.auth.principal" in keys and any(
            one is None or one.spec.principal_binding == "USE_PEER" for one in over
        ):
            raise LegacyError(
                "expected principalBinding USE_ORIGIN for request.auth.principal, got USE_PEER, or no policy: then it "
                "was the caller's service account; write source.principal."
            )


def when(key: str, values: list[str], known: Sequence[str]) -> dict:
    """Return a condition; LegacyError where the old API ignored its key, or today's has none of it."""
    if not any(key.startswith(one) if one.endswith("[") else key == one for one in known):
        raise LegacyError(f"expected one of {', '.join(known)}…, got {key}; it was ignored then, or has no equal now.")
    if not values or any(" " in one for one in values) and key.startswith("request.auth."):
        raise LegacyError(f"expected values without spaces for {key}, got {values}; claims were split at them then.")
    return {"key": key, "values": values}


def _check_whole(subject: Subject) -> None:
    everything = [value for value in subject.model_dump().values() if value]
    named = [subject.user, subject.names, "source.principal" in subject.properties]
    spaces = [subject.namespaces, "source.namespace" in subject.properties]
    groups = [subject.group, subject.groups, "request.auth.claims[groups]" in subject.properties]
    if not everything:
        raise LegacyError("expected a subject with a field, got an empty one, which was nobody; name one.")
    if any(sum(map(bool, ways)) > 1 for ways in (named, spaces, groups)):
        raise LegacyError("expected one way to name a subject, got several, and all had to hold; write one.")
    if "*" in subject.names or {"*", "allUsers", "allAuthenticatedUsers"} & set(subject.not_names):
        raise LegacyError("expected names and not_names without *, got it; it was invalid then, name a user instead.")
    if "allUsers" in (subject.properties.get("source.principal"), *subject.names):
        raise LegacyError('expected everybody as user: "*", got allUsers; write that.')
