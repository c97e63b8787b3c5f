"""AuthorizationPolicies made from a matrix: one rule for each set of callers that may do the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lib.istio import policies
from lib.roles.matrix import NO_ROLE, NO_TOKEN, Matrix, Row, groups

TYPE = "request.auth.claims[typ]"
ACCESS = "Bearer"  # Keycloak's `typ` of an access token; an ID token has ID


@dataclass(frozen=True)
class Claim:
    """Where a token has its roles.

    Args:
        name: A word for people and objects' names.
        path: The claim's name; several for a claim inside an object, as in ("realm_access", "roles").
        values: The value that stands for a role, if that is not the role's own name.
    """

    name: str
    path: tuple[str, ...]
    values: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """The claim as the key of a condition. Brackets keep dots and slashes of a name: it is not split at them."""
        return "request.auth.claims" + "".join(f"[{part}]" for part in self.path)

    def value(self, role: str) -> str:
        """Return the value that a token has for a role."""
        return self.values.get(role, role)


def authorization(matrix: Matrix, claim: Claim, issuer: str, name: str, namespace: str, workload: str) -> dict:
    """Return the AuthorizationPolicy that allows what the matrix allows, and nothing else.

    Args:
        matrix: Who may do what.
        claim: Where the tokens have their roles.
        issuer: The issuer whose tokens count.
        name: The policy's name.
        namespace: The policy's namespace, and the pods'.
        workload: The label `app` of the pods.
    """
    rules = [_rule(callers, rows, claim, issuer) for callers, rows in groups(matrix.rows).items()]
    return {
        "apiVersion": policies.API,
        "kind": policies.RULES,
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"selector": {"matchLabels": {"app": workload}}, "action": "ALLOW", "rules": rules},
    }


def _rule(callers: tuple[str, ...], rows: list[Row], claim: Claim, issuer: str) -> dict:
    to = [{"operation": {"methods": methods, "paths": [path]}} for path, methods in _methods(rows).items()]
    if NO_TOKEN in callers:
        return {"to": to}
    users = [{"source": {"requestPrincipals": [f"{issuer}/*"]}}]
    if NO_ROLE in callers:
        return {"from": users, "to": to, "when": [_is(TYPE, [ACCESS])]}
    values = [claim.value(one) for one in callers]
    return {"from": users, "to": to, "when": [_is(TYPE, [ACCESS]), _is(claim.key, values)]}


def _is(key: str, values: list[str]) -> dict:
    return {"key": key, "values": values}


def _methods(rows: list[Row]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for row in rows:
        found.setdefault(row.path, []).append(row.method)
    return found
