"""Scenarios of Keycloak's token endpoint: passwords, clients, refresh tokens and codes that it must refuse."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock

import requests

from lib.crypto import jwt
from lib.errors import KeycloakError
from lib.keycloak import browser_login, oidc, representations
from lib.keycloak.admin import Keycloak, path
from lib.keycloak.oauth_error import outcome
from lib.polling import until
from lib.probes.scenarios.requests import Scenario

PASSWORD, NO_GRANT, BROWSER, PUBLIC = "password", "no-direct-grant", "browser", "public"  # clients
GUEST, DISABLED, UNFINISHED = "guest", "disabled", "unfinished"  # users
REDIRECT = "http://localhost/callback"  # no server listens there; the tests do not follow redirects
WRONG = "not-the-password"
COUNTING = 10  # seconds: Keycloak counts a wrong password only after it has answered


@dataclass(frozen=True)
class Endpoint:
    """A realm's token endpoint with the clients and users of the scenarios. See fixtures.endpoint.

    Args:
        issuer: The realm's URL.
        secrets: Client secrets by client; public clients have none.
        password: The password of all users.
        admin: Keycloak's administration.
        realm: The realm's name.
        tries: The number of wrong passwords that locks a user.
        keep_secret: Receives every token before its first use.
        session: Sends the HTTP requests.
        lock: Allows one login at a time: brute force protection refuses one of two concurrent logins.
    """

    issuer: str
    secrets: dict[str, str]
    password: str
    admin: Keycloak
    realm: str
    tries: int
    keep_secret: Callable[[str], None]
    session: requests.Session = field(default_factory=oidc.direct_session)
    lock: Lock = field(default_factory=Lock)

    def post(self, form: dict[str, str], at: str = "token") -> requests.Response:
        """Return the answer to a form, whatever its status."""
        return oidc.send(self.session, "POST", f"{self.issuer}/protocol/openid-connect/{at}", data=form)

    def client(self, name: str) -> dict[str, str]:
        """Return the form fields that identify a client."""
        secret = self.secrets.get(name)
        return {"client_id": name} | ({"client_secret": secret} if secret else {})

    def grant(self, username: str = GUEST, password: str = "", client: str = PASSWORD) -> requests.Response:
        """Return the answer to a password grant, by default with the right password."""
        form = {"grant_type": "password", "scope": "openid", "username": username}
        with self.lock:
            return self.post({**form, "password": password or self.password, **self.client(client)})

    def session_tokens(self, client: str = PASSWORD) -> dict[str, str]:
        """Return the tokens of a new session of the guest; KeycloakError if Keycloak refuses."""
        answer = self.grant(client=client)
        if answer.status_code != 200:
            raise KeycloakError(f"No tokens for {GUEST}: {outcome(answer)}. Check the realm {self.realm}.")
        return self.kept(oidc.body(answer))

    def kept(self, body: dict) -> dict[str, str]:
        """Return the tokens of a token response, after `keep_secret` has received them."""
        tokens = {name: body[name] for name in ("access_token", "refresh_token", "id_token") if name in body}
        for token in tokens.values():
            self.keep_secret(token)
        return tokens

    def refresh(self, token: str, client: str = PASSWORD) -> requests.Response:
        """Return the answer to a refresh token."""
        return self.post({"grant_type": "refresh_token", "refresh_token": token, **self.client(client)})

    def introspect(self, token: str, client: str = PASSWORD) -> requests.Response:
        """Return the introspection of a token, as this client asks for it."""
        return self.post({"token": token, **self.client(client)}, "token/introspect")

    def userinfo(self, token: str) -> requests.Response:
        """Return the answer of the userinfo endpoint to a bearer token."""
        at = f"{self.issuer}/protocol/openid-connect/userinfo"
        return oidc.send(self.session, "GET", at, headers={"Authorization": f"Bearer {token}"})


def wrong_password(endpoint: Endpoint) -> list[str]:
    """Return the answers to a wrong password and to an unknown user. Both must be alike."""
    with _temporary_user(endpoint) as name:
        return [outcome(endpoint.grant(name, WRONG)), outcome(endpoint.grant("nobody-of-this-name", WRONG))]


def wrong_client(endpoint: Endpoint) -> list[str]:
    """Return the answers to a wrong client secret, to a missing one, and to an unknown client."""
    form = {"grant_type": "password", "username": GUEST, "password": endpoint.password}
    known, unknown = {"client_id": PASSWORD}, {"client_id": "no-such-client", "client_secret": WRONG}
    return [outcome(endpoint.post({**form, **one})) for one in ({**known, "client_secret": WRONG}, known, unknown)]


def no_direct_grant(endpoint: Endpoint) -> list[str]:
    """Return the answer to the right password through a client that may not use the password grant."""
    return [outcome(endpoint.grant(client=NO_GRANT))]


def disabled_user(endpoint: Endpoint) -> list[str]:
    """Return the answers to a disabled user with the right and with a wrong password."""
    answers = [outcome(endpoint.grant(DISABLED)), outcome(endpoint.grant(DISABLED, WRONG))]
    _unlock(endpoint, DISABLED)
    return answers


def unfinished_user(endpoint: Endpoint) -> list[str]:
    """Return the answer to the right password of a user who must first change it."""
    return [outcome(endpoint.grant(UNFINISHED))]


def brute_force(endpoint: Endpoint) -> list[str]:
    """Return the answers to `tries` wrong passwords, then to the right one, and to the right one after an unlock.

    Keycloak counts a wrong password after it has answered, and a busy one lost a count: each is waited for.
    """
    with _temporary_user(endpoint) as name:
        counted, wrong = _failures_path(endpoint, name), set()
        for number in range(1, endpoint.tries + 1):
            wrong.add(outcome(endpoint.grant(name, WRONG)))
            reached = lambda found, least=number: found["numFailures"] >= least  # noqa: E731
            until(lambda: endpoint.admin.call("GET", counted), reached, deadline=COUNTING, pause=0.02)
        locked = outcome(endpoint.grant(name))
        _unlock(endpoint, name)
        return [*sorted(wrong), locked, outcome(endpoint.grant(name))]


def reused_refresh(endpoint: Endpoint) -> list[str]:
    """Return the answers to a refresh token, to its second use, and to the refresh token that its first use gave."""
    old = endpoint.session_tokens()["refresh_token"]
    first = endpoint.refresh(old)
    new = endpoint.kept(oidc.body(first))["refresh_token"]
    return [outcome(first), outcome(endpoint.refresh(old)), outcome(endpoint.refresh(new))]


def foreign_refresh(endpoint: Endpoint) -> list[str]:
    """Return the answers to a refresh token from another client, and to a tampered one."""
    token = endpoint.session_tokens()["refresh_token"]
    return [outcome(endpoint.refresh(token, PUBLIC)), outcome(endpoint.refresh(jwt.tampered(token)))]


def bad_redirect(endpoint: Endpoint) -> list[str]:
    """Return the answers to redirect URIs that the client does not have: another host, a path behind its own URI."""
    uris = ("http://attacker.example/callback", f"{REDIRECT}/../other", f"{REDIRECT}@attacker.example")
    return [outcome(browser_login.Browser(endpoint.issuer).open(PUBLIC, uri)) for uri in uris]


def pkce(endpoint: Endpoint) -> list[str]:
    """Return the answers of a client that requires PKCE: no challenge, a plain one, a wrong verifier, and none."""
    verifier = browser_login.generate_verifier()
    browser = browser_login.Browser(endpoint.issuer)
    plain = browser.open(BROWSER, REDIRECT, code_challenge=verifier, code_challenge_method="plain")
    return [
        outcome(browser.open(BROWSER, REDIRECT)),
        outcome(plain),
        outcome(_redeemed(endpoint, _code(endpoint, verifier), browser_login.generate_verifier())),
        outcome(_redeemed(endpoint, _code(endpoint, verifier), "")),
    ]


def code_replay(endpoint: Endpoint) -> list[str]:
    """Return the answers to a code and to its second use, each with the introspection of the code's first token."""
    verifier = browser_login.generate_verifier()
    code = _code(endpoint, verifier)
    first = _redeemed(endpoint, code, verifier)
    token = endpoint.kept(oidc.body(first))["access_token"]
    before = outcome(endpoint.introspect(token, BROWSER))
    second = outcome(_redeemed(endpoint, code, verifier))
    return [outcome(first), before, second, outcome(endpoint.introspect(token, BROWSER))]


def after_logout(endpoint: Endpoint) -> list[str]:
    """Return a token's introspection before and after its session's logout, then the answer to its refresh."""
    kept = endpoint.session_tokens()
    access, refresh = kept["access_token"], kept["refresh_token"]
    before = outcome(endpoint.introspect(access))
    oidc.logout(endpoint.issuer, PASSWORD, endpoint.secrets[PASSWORD], refresh, session=endpoint.session)
    return [before, outcome(endpoint.introspect(access)), outcome(endpoint.refresh(refresh))]


def introspection(endpoint: Endpoint) -> list[str]:
    """Return introspections of a good token, a tampered one and garbage; then of the good one for others.

    The others are a client outside the token's audience, a public client, and a caller that names no client.
    """
    token = endpoint.session_tokens()["access_token"]
    own = [endpoint.introspect(one) for one in (token, jwt.tampered(token), "not-a-token")]
    refused = [endpoint.introspect(token, PUBLIC), endpoint.post({"token": token}, "token/introspect")]
    return [outcome(one) for one in (*own, endpoint.introspect(token, BROWSER), *refused)]


def userinfo(endpoint: Endpoint) -> list[str]:
    """Return the userinfo endpoint's answers to a good token, its grant's ID token, a tampered and an unsigned one."""
    kept = endpoint.session_tokens()
    good, other = kept["access_token"], kept["id_token"]
    return [outcome(endpoint.userinfo(one)) for one in (good, other, jwt.tampered(good), jwt.unsigned(good))]


def no_service_account(endpoint: Endpoint) -> list[str]:
    """Return the answers to client_credentials from a client without a service account and from a public client."""
    form = {"grant_type": "client_credentials"}
    return [outcome(endpoint.post({**form, **endpoint.client(name)})) for name in (PASSWORD, PUBLIC)]


def odd_requests(endpoint: Endpoint) -> list[str]:
    """Return the answers to no grant type, an unknown one, an unknown scope, and a request by GET."""
    form = {"username": GUEST, "password": endpoint.password, **endpoint.client(PASSWORD)}
    unknown = [{"grant_type": "no-such-grant"}, {"grant_type": "password", "scope": "no-such-scope"}]
    by_get = oidc.send(endpoint.session, "GET", f"{endpoint.issuer}/protocol/openid-connect/token")
    return [*(outcome(endpoint.post({**form, **grant})) for grant in [{}, *unknown]), outcome(by_get)]


SCENARIOS: dict[str, Callable[[Endpoint], list[str]]] = {
    "wrong-password": wrong_password,
    "wrong-client": wrong_client,
    "no-direct-grant": no_direct_grant,
    "disabled-user": disabled_user,
    "unfinished-user": unfinished_user,
    "brute-force": brute_force,
    "reused-refresh": reused_refresh,
    "foreign-refresh": foreign_refresh,
    "bad-redirect": bad_redirect,
    "pkce": pkce,
    "code-replay": code_replay,
    "after-logout": after_logout,
    "introspection": introspection,
    "userinfo": userinfo,
    "no-service-account": no_service_account,
    "odd-requests": odd_requests,
}


def scenarios(endpoint: Endpoint) -> dict[str, Scenario]:
    """Return the scenarios by name. They ask Keycloak alone and ignore their context."""
    return {name: _scenario(endpoint, run) for name, run in SCENARIOS.items()}


def _scenario(endpoint: Endpoint, run: Callable[[Endpoint], list[str]]) -> Scenario:
    return lambda _: run(endpoint)


@contextmanager
def _temporary_user(endpoint: Endpoint) -> Iterator[str]:
    """Create a user for one scenario, with the right password and no counted failures; delete it at the end."""
    name = f"probe-{uuid.uuid4().hex[:8]}"
    endpoint.admin.ensure_user(endpoint.realm, representations.user(name, firstName="Probe"))
    try:
        endpoint.admin.ensure_password(endpoint.realm, name, endpoint.password, PASSWORD)
        _unlock(endpoint, name)
        yield name
    finally:
        endpoint.admin.delete_user(endpoint.realm, name)


def _unlock(endpoint: Endpoint, username: str) -> None:
    """Reset the count of wrong passwords and unlock the user."""
    endpoint.admin.call("DELETE", _failures_path(endpoint, username))


def _failures_path(endpoint: Endpoint, username: str) -> str:
    """Return the path of a user's failure count: GET reads numFailures and disabled, DELETE resets them."""
    user = endpoint.admin.get_user(endpoint.realm, username)["id"]
    return path(endpoint.realm, "attack-detection", "brute-force", "users", user)


def _code(endpoint: Endpoint, verifier: str) -> str:
    more = {"code_challenge": browser_login.challenge(verifier), "code_challenge_method": "S256"}
    with endpoint.lock:
        return browser_login.Browser(endpoint.issuer).code(BROWSER, REDIRECT, GUEST, endpoint.password, **more)


def _redeemed(endpoint: Endpoint, code: str, verifier: str) -> requests.Response:
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": REDIRECT, **endpoint.client(BROWSER)}
    return endpoint.post({**form, **({"code_verifier": verifier} if verifier else {})})
