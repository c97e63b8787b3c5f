"""Step 04: the realm, its clients and its user; and what the tests need beside them."""

from __future__ import annotations

from lib.crypto import jwt
from lib.ensured import Ensured
from lib.keycloak import oidc, realm_keys, representations
from lib.keycloak.admin import Keycloak
from lib.run import Run
from lib.steps import endpoints, gateway_tls, tokens

OTHER = "other"  # a second realm, whose tokens must be refused
SHORT = "short-lived"  # a client whose tokens live for a second
READER = "reader"  # the realm role that a policy may ask for
VISITOR = "bob"  # a user without that role
SERVICE, OTHER_APP, LIGHTWEIGHT = "service", "other-app", "lightweight"  # clients
SETTINGS = {"accessTokenLifespan": 300, "notBefore": 0}  # seconds; 0 revokes nothing
KEY = "realm-key"  # Secret: the private half of a key that the realm publishes and never signs with


def ensure(run: Run, keycloak: Keycloak) -> None:
    """Create or update realms, clients, mapper and user, and keep the clients' ids and secrets in Secrets."""
    realm, client = run.params.realm, run.params.client_id
    for name in (realm, OTHER):
        representation = representations.realm(name, sslRequired=gateway_tls.ssl_required(run), **SETTINGS)
        record(run, "realm", name, keycloak.ensure_realm(representation))
    _client(run, keycloak, realm, client)
    _client(run, keycloak, realm, SHORT, attributes={"access.token.lifespan": "1"})
    _client(run, keycloak, realm, "no-audience", audience=False)
    _client(run, keycloak, realm, "no-subject", defaultClientScopes=["profile", "email", "roles"])
    _client(run, keycloak, OTHER, client)
    _client(run, keycloak, realm, SERVICE, serviceAccountsEnabled=True, directAccessGrantsEnabled=False)
    _client(run, keycloak, realm, OTHER_APP)
    _client(run, keycloak, realm, LIGHTWEIGHT, attributes={"client.use.lightweight.access.token.enabled": "true"})
    for name, user in ((realm, run.params.user), (OTHER, run.params.user), (realm, VISITOR)):
        _user(run, keycloak, name, user)
    _roles(run, keycloak)
    key = run.secret(KEY, endpoints.KEYCLOAK, key=realm_keys.generate_key)["key"]
    priority = realm_keys.OWN_PRIORITY // 2
    record(run, "key", f"{realm}/{KEY}", realm_keys.ensure_imported_key(keycloak, realm, KEY, key, priority))
    _ensure_expired(run)


def check(run: Run) -> None:
    """Record whether the realm issues the tokens that the mesh needs."""
    token = tokens.user_token(run)
    said = jwt.claims(token)
    run.record.write("token", **jwt.row("valid", token))
    run.check("iss is the issuer, byte for byte", endpoints.issuer(run), said.get("iss"))
    inside = f"{endpoints.inside_url(run)}/realms/{run.params.realm}"
    found = oidc.discovery(endpoints.issuer(run), url=inside, session=endpoints.keycloak_session(run))
    run.check("asked by another way, the issuer is still the public one", endpoints.issuer(run), found["issuer"])
    audience = said.get("aud", [])
    run.check(
        "aud holds the client", True, run.params.client_id in ([audience] if isinstance(audience, str) else audience)
    )
    run.check("sub is there", True, bool(said.get("sub")), "the client needs the scope basic")
    run.check("typ is Bearer", "Bearer", said.get("typ"))
    kids = [key["kid"] for key in endpoints.published_keys(run)]
    kid = jwt.header(token)["kid"]
    run.check("the token's key is published", True, kid in kids)
    own = realm_keys.key_id(run.read_secret(KEY, endpoints.KEYCLOAK)["key"])
    run.check("the imported key is published, and signs nothing", True, own in kids and own != kid)
    _check_roles(run, said)
    _check_flaws(run)


def _check_roles(run: Run, said: dict) -> None:
    roles = said.get("realm_access", {}).get("roles", [])
    run.check(f"{run.params.user} has the role {READER}", True, READER in roles)
    said = jwt.claims(tokens.user_token(run, user=VISITOR))
    run.check(f"{VISITOR} has it not", False, READER in said.get("realm_access", {}).get("roles", []))


def _check_flaws(run: Run) -> None:
    flawed = jwt.claims(tokens.user_token(run, client_id="no-audience"))
    run.check("without a mapper there is no audience", None, flawed.get("aud"))
    run.check(
        "without the scope basic there is no sub",
        None,
        jwt.claims(tokens.user_token(run, client_id="no-subject")).get("sub"),
    )
    old = jwt.claims(run.read_secret(tokens.EXPIRED, endpoints.KEYCLOAK)["token"])
    run.check("the short-lived token lived for a second", 1, old["exp"] - old["iat"])


def _client(run: Run, keycloak: Keycloak, realm: str, client: str, audience: bool = True, **settings) -> None:
    representation = representations.client(client, notBefore=0, **settings)
    record(run, "client", f"{realm}/{client}", keycloak.ensure_client(realm, representation))
    if audience:
        mapper = representations.audience_mapper(run.params.client_id)
        record(run, "audience mapper", f"{realm}/{client}", keycloak.ensure_audience_mapper(realm, client, mapper))
    known = {"client-id": client, "client-secret": keycloak.client_secret(realm, client)}
    run.put_secret(f"client-{realm}-{client}", endpoints.KEYCLOAK, **known)


def _ensure_expired(run: Run) -> None:
    """Keep a token that has expired, and is wrong in nothing else: of this issuer, by a key that is published."""
    make = lambda: tokens.user_token(run, client_id=SHORT)  # noqa: E731
    held = run.secret(tokens.EXPIRED, endpoints.KEYCLOAK, token=make)["token"]
    known = jwt.header(held)["kid"] in [key["kid"] for key in endpoints.published_keys(run)]
    if not known or jwt.claims(held)["iss"] != endpoints.issuer(run):
        run.put_secret(tokens.EXPIRED, endpoints.KEYCLOAK, token=make())


def _user(run: Run, keycloak: Keycloak, realm: str, user: str) -> None:
    password = run.secret(f"user-{user}", endpoints.KEYCLOAK, password=oidc.generate_password)["password"]
    record(run, "user", f"{realm}/{user}", keycloak.ensure_user(realm, representations.user(user)))
    run.changed("password", f"{realm}/{user}", keycloak.ensure_password(realm, user, password, run.params.client_id))


def _roles(run: Run, keycloak: Keycloak) -> None:
    """The user's tokens, through the client and through the other one, tell the role."""
    realm, user = run.params.realm, run.params.user
    record(run, "role", f"{realm}/{READER}", keycloak.ensure_role(realm, READER))
    run.changed("role of user", f"{realm}/{user}", keycloak.ensure_user_role(realm, user, READER))
    for client in (run.params.client_id, OTHER_APP):
        run.changed("role of client", f"{realm}/{client}", keycloak.ensure_client_role(realm, client, READER))


def record(run: Run, kind: str, name: str, result: Ensured) -> None:
    """Record what an ensure_ of Keycloak did."""
    run.changed(kind, name, result[1])
