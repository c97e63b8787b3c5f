"""Tokens of the runbook's users, and the flawed tokens that the policies must refuse."""

from __future__ import annotations

import time
from functools import partial

import pandas as pd

from lib.crypto import jwt
from lib.keycloak import oidc
from lib.parallel import at_once
from lib.polling import wait
from lib.run import Run
from lib.steps import endpoints

STEP = "04-realm-and-client"  # makes clients and users
SKEW = 60  # seconds that Envoy grants an expired token (jwt_authn: kClockSkewInSecond)
MARGIN = 2  # seconds: this machine's clock and the pods' clocks may differ by so much
EXPIRED = "token-expired"  # Secret: a token of the realm that has expired


def client_secret(run: Run, client_id: str, realm: str = "") -> str:
    """Return the secret of a client, as step 04 keeps it in the cluster; `realm` defaults to that of the params."""
    return endpoints.keycloak_secret(run, f"client-{realm or run.params.realm}-{client_id}", STEP)["client-secret"]


def password(run: Run, user: str = "") -> str:
    """Return the password of a user, as step 04 keeps it in the cluster; `user` defaults to that of the params."""
    return endpoints.keycloak_secret(run, f"user-{user or run.params.user}", STEP)["password"]


def user_token(run: Run, client_id: str = "", realm: str = "", user: str = "") -> str:
    """Return an access token of a user from the public token endpoint. Arguments default to those of the params."""
    return user_tokens(run, client_id, realm, user)["access_token"]


def user_tokens(
    run: Run, client_id: str = "", realm: str = "", user: str = "", scope: str = "openid"
) -> dict[str, str]:
    """Return the token endpoint's answer to the password grant: access_token, and more tokens as `scope` asks.

    `scope` "openid" adds an id_token, "offline_access" an offline refresh_token. All of them are redacted from now on.
    """
    client_id, realm, user = client_id or run.params.client_id, realm or run.params.realm, user or run.params.user
    known = client_secret(run, client_id, realm), user, password(run, user)
    with oidc.direct_session() as session:
        endpoint = oidc.discovery(endpoints.issuer(run, realm), session=session)["token_endpoint"]
        answer = oidc.password_token(endpoint, client_id, *known, scope, session=session)
    for name in ("access_token", "refresh_token", "id_token"):
        run.record.secret(answer.get(name))
    return answer


def expired_token(run: Run) -> str:
    """Return step 04's token that has expired, as soon as Envoy takes it for expired."""
    token = run.read_secret(EXPIRED, endpoints.KEYCLOAK)["token"]
    refused = jwt.claims(token)["exp"] + SKEW + MARGIN
    wait("the expired token to be expired for a minute", lambda: time.time() > refused, deadline=SKEW + 2 * MARGIN)
    return token


def test_tokens(run: Run) -> dict[str, str | None]:
    """Return the tokens of cases.TOKENS by name. Keycloak issues them; the forged ones are made from a valid one."""
    asked: list[dict[str, str]] = [{}, {"realm": "other"}, {"client_id": "no-audience"}, {"client_id": "no-subject"}]
    valid, other, no_audience, no_subject = at_once([partial(user_token, run, **one) for one in asked])
    tokens = {
        "none": None,
        "valid": valid,
        "tampered": jwt.tampered(valid),
        "garbage": "not-a-token",
        "unsigned": jwt.unsigned(valid),
        "expired": run.read_secret(EXPIRED, endpoints.KEYCLOAK)["token"],
        "other realm": other,
        "wrong audience": no_audience,
        "no subject": no_subject,
    }
    for name, token in tokens.items():
        if token and token.count(".") == 2:
            run.record.write("token", **jwt.row(name, token))
    return tokens


def token_table(run: Run) -> pd.DataFrame:
    """Return this step's tokens without their text: claims, lifetime in seconds, fingerprint."""
    rows = [event for event in run.record.events if event["event"] == "token"]
    columns = ["name", "fingerprint", "alg", "iss", "aud", "azp", "sub", "lifetime"]
    return pd.DataFrame([{column: row.get(column) for column in columns} for row in rows], columns=columns)
