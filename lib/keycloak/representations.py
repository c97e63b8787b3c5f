"""The JSON that Keycloak's admin API gets for a realm, a client, an audience mapper and a user.

Each function returns one representation. `Keycloak.ensure_realm`, `ensure_client`, `ensure_audience_mapper` and
`ensure_user` send it. `settings` are further fields of the representation, and override the defaults given here.

Source: https://www.keycloak.org/docs-api/26.0/rest-api/index.html (RealmRepresentation, ClientRepresentation, …).
"""

from __future__ import annotations

from typing import Any

Representation = dict[str, Any]


def realm(name: str, **settings: Any) -> Representation:
    """Return a RealmRepresentation of an enabled realm."""
    return {"realm": name, "enabled": True, **settings}


def client(client_id: str, **settings: Any) -> Representation:
    """Return a ClientRepresentation: a confidential client that may use the password grant and no other flow."""
    return {
        "clientId": client_id,
        "enabled": True,
        "protocol": "openid-connect",
        "publicClient": False,
        "directAccessGrantsEnabled": True,
        "standardFlowEnabled": False,
        "implicitFlowEnabled": False,
        "serviceAccountsEnabled": False,
        "fullScopeAllowed": False,
        **settings,
    }


def audience_mapper(audience: str, name: str = "audience") -> Representation:
    """Return a ProtocolMapperRepresentation: it adds `audience` to the claim `aud` of the client's access tokens."""
    return {
        "name": name,
        "protocol": "openid-connect",
        "protocolMapper": "oidc-audience-mapper",
        "config": {
            "included.custom.audience": audience,
            "access.token.claim": "true",
            "id.token.claim": "false",
            "introspection.token.claim": "true",
        },
    }


def realm_role_mapper(claim: str) -> Representation:
    """Return a ProtocolMapperRepresentation: the user's realm roles, as a list, in the access token's claim `claim`.

    Keycloak reads a dot in the claim's name as a step into an object. A dot with a backslash before it is kept.
    """
    return _list_mapper("oidc-usermodel-realm-role-mapper", claim, {"multivalued": "true", "jsonType.label": "String"})


def group_mapper(claim: str) -> Representation:
    """Return a ProtocolMapperRepresentation: the paths of the user's groups, as in `/staff`, in the claim `claim`."""
    return _list_mapper("oidc-group-membership-mapper", claim, {"full.path": "true"})


def _list_mapper(kind: str, claim: str, config: dict[str, str]) -> Representation:
    shown = {"claim.name": claim, "access.token.claim": "true", "id.token.claim": "true"}
    return {
        "name": claim,
        "protocol": "openid-connect",
        "protocolMapper": kind,
        "config": {**shown, "introspection.token.claim": "true", "userinfo.token.claim": "false", **config},
    }


def user(username: str, **settings: Any) -> Representation:
    """Return a UserRepresentation of a user who can get a token without a browser.

    Keycloak refuses the password grant to a user without email and both names, or with a required action left.
    """
    representation = {
        "username": username,
        "email": f"{username}@example.com",
        "firstName": username.title(),
        "lastName": "Example",
        "emailVerified": True,
        "enabled": True,
        "requiredActions": [],
        **settings,
    }
    in_lower_case = {key: representation[key].lower() for key in ("username", "email")}  # as Keycloak keeps them
    return {**representation, **in_lower_case}
