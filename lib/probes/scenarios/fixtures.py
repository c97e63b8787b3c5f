"""Keycloak's objects for the scenarios: the realm `probes` for the token endpoint, and the mesh's own realm."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from lib.keycloak import oidc, representations
from lib.keycloak.admin import Keycloak
from lib.probes.scenarios.sessions import Sessions
from lib.probes.scenarios.token_endpoint import (
    BROWSER,
    DISABLED,
    GUEST,
    NO_GRANT,
    PASSWORD,
    PUBLIC,
    REDIRECT,
    UNFINISHED,
    Endpoint,
)
from lib.run import Run
from lib.steps import endpoints, gateway_tls, realm, tokens

REALM = "probes"
WORLD = "token-endpoint"  # its name in the tables
TRIES = 3  # wrong passwords after which brute force protection locks the user
SECRET = "realm-probes"  # Secret: the one password of the realm's users

SETTINGS = {
    "bruteForceProtected": True,
    "failureFactor": TRIES,
    "quickLoginCheckMilliSeconds": 0,  # else two quick failures lock
    "revokeRefreshToken": True,
    "refreshTokenMaxReuse": 0,
}
_STANDARD: dict[str, Any] = {
    "directAccessGrantsEnabled": False,
    "standardFlowEnabled": True,
    "redirectUris": [REDIRECT],
}
CLIENTS: dict[str, dict[str, Any]] = {
    PASSWORD: {},
    NO_GRANT: {"directAccessGrantsEnabled": False},
    BROWSER: {**_STANDARD, "attributes": {"pkce.code.challenge.method": "S256"}},
    PUBLIC: {**_STANDARD, "publicClient": True, "directAccessGrantsEnabled": True},
}
# The password is set first: ensure_password asks for a token, which Keycloak refuses under these settings
USERS: dict[str, dict[str, Any]] = {
    GUEST: {},
    DISABLED: {"enabled": False},
    UNFINISHED: {"requiredActions": ["UPDATE_PASSWORD"]},
}


def endpoint(run: Run, keycloak: Keycloak) -> Endpoint:
    """Create or update the realm `probes` with its clients and users; return its token endpoint."""
    representation = representations.realm(REALM, sslRequired=gateway_tls.ssl_required(run), **SETTINGS)
    realm.record(run, "realm", REALM, keycloak.ensure_realm(representation))
    with ThreadPoolExecutor() as pool:
        secrets = dict(zip(CLIENTS, pool.map(lambda name: _client(run, keycloak, name), CLIENTS), strict=True))
        password = run.secret(SECRET, endpoints.KEYCLOAK, password=oidc.generate_password)["password"]
        list(pool.map(lambda name: _user(run, keycloak, name, password), USERS))
    secrets.pop(PUBLIC)
    return Endpoint(endpoints.issuer(run, REALM), secrets, password, keycloak, REALM, TRIES, run.record.secret)


def sessions(run: Run, keycloak: Keycloak) -> Sessions:
    """Return the realm and the client of step 04, for the scenarios of `sessions`."""
    params = run.params
    secret = tokens.client_secret(run, params.client_id)
    return Sessions(
        endpoints.issuer(run), params.realm, params.client_id, secret, realm.READER, keycloak, run.record.secret
    )


def _client(run: Run, keycloak: Keycloak, name: str) -> str:
    """Create or update a client with its audience mapper; return its secret, "" for a public client."""
    client = keycloak.ensure_client(REALM, representations.client(name, **CLIENTS[name]))
    realm.record(run, "client", f"{REALM}/{name}", client)
    # Keycloak introspects a token only for a client in its audience
    mapper = keycloak.ensure_audience_mapper(REALM, name, representations.audience_mapper(name))
    realm.record(run, "audience mapper", f"{REALM}/{name}", mapper)
    secret = keycloak.client_secret(REALM, name) if name != PUBLIC else ""
    run.record.secret(secret)
    return secret


def _user(run: Run, keycloak: Keycloak, name: str, password: str) -> None:
    settings = USERS[name]
    if not settings or not keycloak.find_user(REALM, name):
        keycloak.ensure_user(REALM, representations.user(name))
        run.changed("password", f"{REALM}/{name}", keycloak.ensure_password(REALM, name, password, PASSWORD))
    user = representations.user(name, **settings)
    realm.record(run, "user", f"{REALM}/{name}", keycloak.ensure_user(REALM, user))
