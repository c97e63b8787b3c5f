"""Step 04: the realm, its clients and its user; and the clients, users and keys that only the tests need."""

from __future__ import annotations

from typing import Any

from lib.crypto import jwt
from lib.ensured import Ensured
from lib.keycloak import oidc, realm_keys, representations
from lib.keycloak.admin import Keycloak
from lib.keycloak.representations import Representation
from lib.run import Run
from lib.steps import endpoints, gateway_tls, tokens

OTHER = "other"  # a second realm; the policies must refuse its tokens
SHORT = "short-lived"  # a client whose tokens live for one second
READER = "reader"  # a realm role that a policy may require
VISITOR = "bob"  # a user without that role
SERVICE, OTHER_APP, LIGHTWEIGHT = "service", "other-app", "lightweight"  # clients
SETTINGS = {"accessTokenLifespan": 300, "notBefore": 0}  # seconds; notBefore 0 revokes no token
KEY = "realm-key"  # Secret: the private half of a key that the realm publishes and never signs with


def representation(run: Run, name: str) -> Representation:
    """Return the JSON of a realm: its tokens live for 300 seconds, and it refuses plain HTTP."""
    return representations.realm(name, sslRequired=gateway_tls.ssl_required(run), **SETTINGS)


def record(run: Run, kind: str, name: str, ensured: Ensured) -> str:
    """Record what an `ensure_` of Keycloak did; return the action: created, changed or unchanged."""
    run.changed(kind, name, ensured.action)
    return ensured.action


def keep_client_secret(run: Run, keycloak: Keycloak, realm: str, client: str) -> None:
    """Keep a client's id and secret, which Keycloak generated, in the Secret `client-<realm>-<client>`."""
    secret = {"client-id": client, "client-secret": keycloak.client_secret(realm, client)}
    run.put_secret(f"client-{realm}-{client}", endpoints.KEYCLOAK, **secret)


def ensure_password(run: Run, keycloak: Keycloak, realm: str, user: str) -> str:
    """Give a user the password from the Secret `user-<user>`, which is created if needed; return the action."""
    password = run.secret(f"user-{user}", endpoints.KEYCLOAK, password=oidc.generate_password)["password"]
    action = keycloak.ensure_password(realm, user, password, run.params.client_id)
    run.changed("password", f"{realm}/{user}", action)
    return action


def ensure_test_objects(run: Run, keycloak: Keycloak) -> None:
    """Create what the tests need: flawed clients, a second realm, a second user, a role, a key, an expired token."""
    realm, client, user = run.params.realm, run.params.client_id, run.params.user
    record(run, "realm", OTHER, keycloak.ensure_realm(representation(run, OTHER)))
    _client(run, keycloak, realm, SHORT, attributes={"access.token.lifespan": "1"})
    _client(run, keycloak, realm, "no-audience", audience=False)
    _client(run, keycloak, realm, "no-subject", defaultClientScopes=["profile", "email", "roles"])
    _client(run, keycloak, OTHER, client)
    _client(run, keycloak, realm, SERVICE, serviceAccountsEnabled=True, directAccessGrantsEnabled=False)
    _client(run, keycloak, realm, OTHER_APP)
    _client(run, keycloak, realm, LIGHTWEIGHT, attributes={"client.use.lightweight.access.token.enabled": "true"})
    for name, one in ((OTHER, user), (realm, VISITOR)):
        record(run, "user", f"{name}/{one}", keycloak.ensure_user(name, representations.user(one)))
        ensure_password(run, keycloak, name, one)
    _roles(run, keycloak)
    key = run.secret(KEY, endpoints.KEYCLOAK, key=realm_keys.generate_key)["key"]
    priority = realm_keys.OWN_PRIORITY // 2
    record(run, "key", f"{realm}/{KEY}", realm_keys.ensure_imported_key(keycloak, realm, KEY, key, priority))
    _ensure_expired_token(run)


def check(run: Run) -> None:
    """Record whether the realm issues the tokens that the mesh needs."""
    token = tokens.user_token(run)
    claims = jwt.claims(token)
    run.record.write("token", **jwt.row("valid", token))
    run.check("iss is the issuer, byte for byte", endpoints.issuer(run), claims.get("iss"))
    inside = f"{endpoints.inside_url(run)}/realms/{run.params.realm}"
    discovery = oidc.discovery(endpoints.issuer(run), url=inside, session=endpoints.keycloak_session(run))
    run.check("asked by another way, the issuer is still the public one", endpoints.issuer(run), discovery["issuer"])
    run.check("aud holds the client", True, run.params.client_id in _audiences(claims))
    run.check("sub is there", True, bool(claims.get("sub")), "the client needs the scope basic")
    run.check("typ is Bearer", "Bearer", claims.get("typ"))
    published = [key["kid"] for key in endpoints.published_keys(run)]
    kid = jwt.header(token)["kid"]
    run.check("the token's key is published", True, kid in published)
    imported = realm_keys.key_id(run.read_secret(KEY, endpoints.KEYCLOAK)["key"])
    run.check("the imported key is published, and signs nothing", True, imported in published and imported != kid)
    run.check(f"{run.params.user} has the role {READER}", True, READER in _roles_in(claims))
    visitor = jwt.claims(tokens.user_token(run, user=VISITOR))
    run.check(f"{VISITOR} has it not", False, READER in _roles_in(visitor))
    _check_flaws(run)


def _check_flaws(run: Run) -> None:
    no_audience = jwt.claims(tokens.user_token(run, client_id="no-audience"))
    run.check("without a mapper there is no audience", None, no_audience.get("aud"))
    no_subject = jwt.claims(tokens.user_token(run, client_id="no-subject"))
    run.check("without the scope basic there is no sub", None, no_subject.get("sub"))
    expired = jwt.claims(run.read_secret(tokens.EXPIRED, endpoints.KEYCLOAK)["token"])
    run.check("the short-lived token lived for a second", 1, expired["exp"] - expired["iat"])


def _audiences(claims: dict) -> list[str]:
    """Return `aud` as a list: a token with one audience has it as a string (RFC 7519, section 4.1.3)."""
    audience = claims.get("aud", [])
    return [audience] if isinstance(audience, str) else audience


def _roles_in(claims: dict) -> list[str]:
    return claims.get("realm_access", {}).get("roles", [])


def _client(run: Run, keycloak: Keycloak, realm: str, client: str, audience: bool = True, **settings: Any) -> None:
    stated = representations.client(client, notBefore=0, **settings)
    record(run, "client", f"{realm}/{client}", keycloak.ensure_client(realm, stated))
    if audience:
        mapper = representations.audience_mapper(run.params.client_id)
        record(run, "audience mapper", f"{realm}/{client}", keycloak.ensure_audience_mapper(realm, client, mapper))
    keep_client_secret(run, keycloak, realm, client)


def _ensure_expired_token(run: Run) -> None:
    """Keep a token that is expired and otherwise good: of this issuer, signed by a key that the realm publishes."""

    def issue() -> str:
        return tokens.user_token(run, client_id=SHORT)

    token = run.secret(tokens.EXPIRED, endpoints.KEYCLOAK, token=issue)["token"]
    published = jwt.header(token)["kid"] in [key["kid"] for key in endpoints.published_keys(run)]
    if not published or jwt.claims(token)["iss"] != endpoints.issuer(run):
        run.put_secret(tokens.EXPIRED, endpoints.KEYCLOAK, token=issue())


def _roles(run: Run, keycloak: Keycloak) -> None:
    """Give the user a role, and let two clients put it into tokens: `ensure_client` turns fullScopeAllowed off."""
    realm, user = run.params.realm, run.params.user
    record(run, "role", f"{realm}/{READER}", keycloak.ensure_role(realm, READER))
    run.changed("role of user", f"{realm}/{user}", keycloak.ensure_user_role(realm, user, READER))
    for client in (run.params.client_id, OTHER_APP):
        run.changed("role of client", f"{realm}/{client}", keycloak.ensure_client_role(realm, client, READER))
