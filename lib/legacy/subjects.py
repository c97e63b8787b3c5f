"""The subjects of a ServiceRoleBinding as today's source and conditions.

Source of the old rules: Istio 1.4, pilot/pkg/security/authz/model/principal.go.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from lib.errors import LegacyError
from lib.legacy.precedence import Ruling
from lib.legacy.read import Subject

FIELDS = {  # a property of a subject: the equal field of today's source
    "source.principal": "principals",
    "source.namespace": "namespaces",
    "source.ip": "ipBlocks",
    "request.auth.principal": "requestPrincipals",
}
PROPERTIES = ("request.auth.claims[", "request.auth.presenter", "request.headers[")
EVERYBODY = ("*", "allUsers")
AUTHENTICATED = "source.principal: * is a caller with a certificate, as the old docs said; Istio 1.4 allowed all."


@dataclass(frozen=True)
class Translation:
    """A subject: the source of a request, the conditions, and the notes about both."""

    source: dict = field(default_factory=dict)
    when: Sequence[dict] = ()
    notes: Sequence[str] = ()


def source(subject: Subject) -> Translation:
    """Return a subject; LegacyError if it has no equal. User * is everybody, with or without an identity."""
    _check_whole(subject)
    names = [*([subject.user] if subject.user else []), *subject.names]
    made: dict[str, list[str]] = {}
    if names and not any(one in EVERYBODY for one in names):
        made["principals"] = ["*" if one == "allAuthenticatedUsers" else one for one in names]
    lists = {
        "notPrincipals": subject.not_names,
        "namespaces": subject.namespaces,
        "notNamespaces": subject.not_namespaces,
    }
    made |= {name: values for name, values in lists.items() if values}
    groups = [*([subject.group] if subject.group else []), *subject.groups]
    conditions = [when("request.auth.claims[groups]", groups, PROPERTIES)] if groups else []
    for key, value in subject.properties.items():
        if key in FIELDS:
            made[FIELDS[key]] = [value]
        else:
            conditions.append(when(key, [value], PROPERTIES))
    return Translation(made, conditions, [AUTHENTICATED] if subject.properties.get("source.principal") == "*" else [])


def check_token_scope(subject: Subject, service: str, namespace: str, ruling: Ruling) -> None:
    """Raise LegacyError if Istio 1.4 did not check the subject's token on the whole Service ("" for all).

    Claims were known on the ports and paths where a token was checked; today they are known on all of the pod's.
    """
    keys = subject.properties
    if not (subject.group or subject.groups or any(key.startswith("request.auth.") for key in keys)):
        return
    for name in [service] if service else ["", *ruling.targets(namespace)]:
        over = ruling.over(name, namespace)
        looked = [one for one in over if one and one.spec.origins]
        if looked and (len(over) > 1 or any(origin.jwt.trigger_rules for origin in looked[0].spec.origins)):
            raise LegacyError(
                f"{looked[0]} limits the token check by triggerRules or ports, and a role would now see the token on "
                "every path and port. Name the paths and ports only in the ServiceRole."
            )
        if "request.auth.principal" in keys and any(
            one is None or one.spec.principal_binding == "USE_PEER" for one in over
        ):
            raise LegacyError(
                "without USE_ORIGIN, request.auth.principal was the caller's service account. Write source.principal "
                "instead."
            )


def when(key: str, values: list[str], known: Sequence[str]) -> dict:
    """Return a condition; LegacyError if the old API ignored its key, or today's API has no equal."""
    if not any(key.startswith(one) if one.endswith("[") else key == one for one in known):
        raise LegacyError(
            f"Istio 1.4 ignored the key {key}, or it has no equal today. Remove it, or use one of {', '.join(known)}."
        )
    if not values or any(" " in one for one in values) and key.startswith("request.auth."):
        raise LegacyError(
            f"the values {values} of {key} are empty or have spaces, at which Istio 1.4 split claims. Write values "
            "without spaces."
        )
    return {"key": key, "values": values}


def _check_whole(subject: Subject) -> None:
    everything = [value for value in subject.model_dump().values() if value]
    named = [subject.user, subject.names, "source.principal" in subject.properties]
    spaces = [subject.namespaces, "source.namespace" in subject.properties]
    groups = [subject.group, subject.groups, "request.auth.claims[groups]" in subject.properties]
    if not everything:
        raise LegacyError("a subject has no field, and matched nobody. Name a user, or remove the subject.")
    if any(sum(map(bool, ways)) > 1 for ways in (named, spaces, groups)):
        raise LegacyError(
            "a subject names its callers in several fields, and a caller had to match all of them. Keep one field."
        )
    if "*" in subject.names or {"*", "allUsers", "allAuthenticatedUsers"} & set(subject.not_names):
        raise LegacyError("names or not_names has a *, which was invalid. Name a user instead.")
    if "allUsers" in (subject.properties.get("source.principal"), *subject.names):
        raise LegacyError('names or source.principal has allUsers. Write user: "*" for everybody.')
