"""Step 04: the realm, its clients and its user; and what the tests need beside them."""

from __future__ import annotations

from lib import mesh, oidc, tokens
from lib.keycloak import Keycloak
from lib.run import Run

OTHER = "other"  # a second realm, whose tokens must be refused
SHORT = "short-lived"  # a client whose tokens live for a second


def ensure(run: Run, keycloak: Keycloak) -> None:
    """Create or update realms, clients, mapper and user, and keep the clients' ids and secrets in Secrets."""
    realm, client = run.params.realm, run.params.client_id
    # A realm refuses plain HTTP from outside unless told otherwise; behind TLS this is needless.
    for name in (realm, OTHER):
        _done(run, "realm", name, keycloak.ensure_realm(name, sslRequired="none", accessTokenLifespan=300))
    password = run.secret(f"user-{run.params.user}", mesh.KEYCLOAK, password=oidc.generate_password)["password"]
    _client(run, keycloak, realm, client)
    _client(run, keycloak, realm, SHORT, attributes={"access.token.lifespan": "1"})
    _client(run, keycloak, realm, "no-audience", audience=False)
    _client(run, keycloak, realm, "no-subject", defaultClientScopes=["profile", "email", "roles"])
    _client(run, keycloak, OTHER, client)
    for name in (realm, OTHER):
        user, action = keycloak.ensure_user(
            name, run.params.user, f"{run.params.user}@example.com", run.params.user.title(), "Example"
        )
        run.changed("user", f"{name}/{run.params.user}", action)
        action = keycloak.ensure_password(name, run.params.user, password, client)
        run.changed("password", f"{name}/{run.params.user}", action)
    run.secret("token-expired", mesh.KEYCLOAK, token=lambda: mesh.user_token(run, client_id=SHORT))


def check(run: Run) -> None:
    """Record whether the realm issues the tokens that the mesh needs."""
    token = mesh.user_token(run)
    said = tokens.claims(token)
    run.record.write("token", **tokens.row("valid", token))
    run.check("iss is the issuer, byte for byte", mesh.issuer(run), said.get("iss"))
    audience = said.get("aud", [])
    run.check(
        "aud holds the client", True, run.params.client_id in ([audience] if isinstance(audience, str) else audience)
    )
    run.check("sub is there", True, bool(said.get("sub")), "the client needs the scope basic")
    run.check("typ is Bearer", "Bearer", said.get("typ"))
    kids = [key["kid"] for key in oidc.jwks(oidc.discovery(mesh.issuer(run))["jwks_uri"])["keys"]]
    run.check("the token's key is published", True, tokens.header(token)["kid"] in kids)
    _check_flaws(run)


def _check_flaws(run: Run) -> None:
    flawed = tokens.claims(mesh.user_token(run, client_id="no-audience"))
    run.check("without a mapper there is no audience", None, flawed.get("aud"))
    run.check(
        "without the scope basic there is no sub",
        None,
        tokens.claims(mesh.user_token(run, client_id="no-subject")).get("sub"),
    )
    old = tokens.claims(run.read_secret("token-expired", mesh.KEYCLOAK)["token"])
    run.check("the short-lived token lived for a second", 1, old["exp"] - old["iat"])


def _client(run: Run, keycloak: Keycloak, realm: str, client: str, audience: bool = True, **settings) -> None:
    _done(run, "client", f"{realm}/{client}", keycloak.ensure_client(realm, client, **settings))
    if audience:
        _done(
            run,
            "audience mapper",
            f"{realm}/{client}",
            keycloak.ensure_audience_mapper(realm, client, "audience", run.params.client_id),
        )
    known = {"client-id": lambda: client, "client-secret": lambda: keycloak.client_secret(realm, client)}
    kept = run.secret(f"client-{realm}-{client}", mesh.KEYCLOAK, **known)
    if kept["client-secret"] != keycloak.client_secret(realm, client):
        run.cluster.delete("v1", "Secret", f"client-{realm}-{client}", mesh.KEYCLOAK)
        run.secret(f"client-{realm}-{client}", mesh.KEYCLOAK, **known)


def _done(run: Run, kind: str, name: str, result: tuple[dict, str]) -> None:
    run.changed(kind, name, result[1])
