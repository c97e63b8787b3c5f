"""What Keycloak is tried with: the realm `probes` for its token endpoint, the mesh's own realm for its sessions."""

from __future__ import annotations

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
from lib.steps import endpoints, gateway_tls, realm

REALM = "probes"
WORLD = "token-endpoint"  # as the tables name it
TRIES = 3  # wrong passwords until brute force protection locks the user
SECRET = "realm-probes"  # Secret: the one password of the realm's users

SETTINGS = {
    "bruteForceProtected": True,
    "failureFactor": TRIES,
    "quickLoginCheckMilliSeconds": 0,  # two wrong ones within this would lock, whatever the factor
    "revokeRefreshToken": True,
    "refreshTokenMaxReuse": 0,
}
_STANDARD = {"directAccessGrantsEnabled": False, "standardFlowEnabled": True, "redirectUris": [REDIRECT]}
CLIENTS = {
    PASSWORD: {},
    NO_GRANT: {"directAccessGrantsEnabled": False},
    BROWSER: {**_STANDARD, "attributes": {"pkce.code.challenge.method": "S256"}},
    PUBLIC: {**_STANDARD, "publicClient": True, "directAccessGrantsEnabled": True},
}
# A user is disabled, or told to change the password, after the password was set: neither could get a token before
USERS = {GUEST: {}, DISABLED: {"enabled": False}, UNFINISHED: {"requiredActions": ["UPDATE_PASSWORD"]}}


def endpoint(run: Run, keycloak: Keycloak) -> Endpoint:
    """Create or update the realm; return what its token endpoint is tried with."""
    representation = representations.realm(REALM, sslRequired=gateway_tls.ssl_required(run), **SETTINGS)
    realm.record(run, "realm", REALM, keycloak.ensure_realm(representation))
    for name, settings in CLIENTS.items():
        realm.record(
            run, "client", f"{REALM}/{name}", keycloak.ensure_client(REALM, representations.client(name, **settings))
        )
        # Keycloak tells a client only of tokens that are for it
        mapper = keycloak.ensure_audience_mapper(REALM, name, representations.audience_mapper(name))
        realm.record(run, "audience mapper", f"{REALM}/{name}", mapper)
    password = run.secret(SECRET, endpoints.KEYCLOAK, password=oidc.generate_password)["password"]
    for name, settings in USERS.items():
        _user(run, keycloak, name, password, settings)
    secrets = {name: keycloak.client_secret(REALM, name) for name in CLIENTS if name != PUBLIC}
    for secret in secrets.values():
        run.record.secret(secret)
    return Endpoint(endpoints.issuer(run, REALM), secrets, password, keycloak, REALM, TRIES, run.record.secret)


def sessions(run: Run, keycloak: Keycloak) -> Sessions:
    """Return what lib.probes.sessions needs of the realm that the mesh trusts; step 04 made it."""
    here = run.params
    secret = run.read_secret(f"client-{here.realm}-{here.client_id}", endpoints.KEYCLOAK)["client-secret"]
    return Sessions(
        endpoints.issuer(run), here.realm, here.client_id, secret, realm.READER, keycloak, run.record.secret
    )


def _user(run: Run, keycloak: Keycloak, name: str, password: str, settings: dict) -> None:
    if not settings or not keycloak.find_user(REALM, name):
        keycloak.ensure_user(REALM, representations.user(name))
        run.changed("password", f"{REALM}/{name}", keycloak.ensure_password(REALM, name, password, PASSWORD))
    user = representations.user(name, **settings)
    realm.record(run, "user", f"{REALM}/{name}", keycloak.ensure_user(REALM, user))
