"""Tokens of the runbook's users, and the flawed tokens that the policies must refuse."""

from __future__ import annotations

import pandas as pd

from lib.crypto import jwt
from lib.keycloak import oidc
from lib.run import Run
from lib.steps import endpoints

EXPIRED = "token-expired"  # Secret: a token of the realm whose life is over


def user_token(run: Run, client_id: str = "", realm: str = "", user: str = "") -> str:
    """Return an access token of a user, the params' own, through a client, from the public token endpoint."""
    return user_tokens(run, client_id, realm, user)["access_token"]


def user_tokens(run: Run, client_id: str = "", realm: str = "", user: str = "", scope: str = "openid") -> dict:
    """Return all that the token endpoint gives a user: access_token, and refresh_token and id_token as by `scope`."""
    client_id, realm, user = client_id or run.params.client_id, realm or run.params.realm, user or run.params.user
    secret = run.read_secret(f"client-{realm}-{client_id}", endpoints.KEYCLOAK)["client-secret"]
    password = run.read_secret(f"user-{user}", endpoints.KEYCLOAK)["password"]
    endpoint = oidc.discovery(endpoints.issuer(run, realm))["token_endpoint"]
    said = oidc.password_token(endpoint, client_id, secret, user, password, scope)
    for name in ("access_token", "refresh_token", "id_token"):
        run.record.secret(said.get(name))
    return said


def test_tokens(run: Run) -> dict[str, str | None]:
    """Return the tokens of lib.cases.TOKENS by name: minted by the real Keycloak where it can, else made from one."""
    good = user_token(run)
    made = {
        "none": None,
        "valid": good,
        "tampered": jwt.tampered(good),
        "garbage": "not-a-token",
        "unsigned": jwt.unsigned(good),
        "expired": run.read_secret(EXPIRED, endpoints.KEYCLOAK)["token"],
        "other realm": user_token(run, realm="other"),
        "wrong audience": user_token(run, client_id="no-audience"),
        "no subject": user_token(run, client_id="no-subject"),
    }
    for name, token in made.items():
        if token and token.count(".") == 2:
            run.record.write("token", **jwt.row(name, token))
    return made


def token_table(run: Run) -> pd.DataFrame:
    """Return what may be shown of this step's tokens: claims, lifetime in seconds, fingerprint."""
    rows = [event for event in run.record.events if event["event"] == "token"]
    columns = ["name", "fingerprint", "alg", "iss", "aud", "azp", "sub", "lifetime"]
    return pd.DataFrame([{column: row.get(column) for column in columns} for row in rows], columns=columns)
