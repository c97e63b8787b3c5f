"""The token endpoint tried: passwords, clients, refresh tokens and codes that must get nothing; see lib.probes.said."""

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
from lib.keycloak.oauth_error import said
from lib.polling import until
from lib.probes.scenarios.requests import Drill

PASSWORD, NO_GRANT, BROWSER, PUBLIC = "password", "no-direct-grant", "browser", "public"  # clients
GUEST, DISABLED, UNFINISHED = "guest", "disabled", "unfinished"  # users
REDIRECT = "http://localhost/callback"  # nothing listens there, and nobody follows
WRONG = "not-the-password"
COUNTING = 5  # seconds: Keycloak counts wrong passwords behind the answer's back


@dataclass(frozen=True)
class Endpoint:
    """A realm's endpoint and what it is tried with; `tries` wrong passwords lock a user. Made by lib.probes.fixtures.

    `issuer` is the realm's address. `keep_secret` is told every token before it is used.
    """

    issuer: str
    secrets: dict[str, str]
    password: str
    admin: Keycloak
    realm: str
    tries: int
    keep_secret: Callable[[str], None]
    session: requests.Session = field(default_factory=oidc.direct_session)
    lock: Lock = field(default_factory=Lock)  # with brute force protection, of two logins at once one is refused

    def post(self, form: dict[str, str], at: str = "token") -> requests.Response:
        """Return the answer to a form, whatever its status."""
        return oidc.send(self.session, "POST", f"{self.issuer}/protocol/openid-connect/{at}", data=form)

    def client(self, name: str) -> dict[str, str]:
        """Return the fields by which a client says who it is."""
        secret = self.secrets.get(name)
        return {"client_id": name} | ({"client_secret": secret} if secret else {})

    def grant(self, username: str = GUEST, password: str = "", client: str = PASSWORD) -> requests.Response:
        """Return the answer to a password grant; without a password the right one."""
        form = {"grant_type": "password", "scope": "openid", "username": username}
        with self.lock:
            return self.post({**form, "password": password or self.password, **self.client(client)})

    def session_tokens(self, client: str = PASSWORD) -> dict[str, str]:
        """Return the tokens of a new session of the guest's; KeycloakError where there are none."""
        answer = self.grant(client=client)
        if answer.status_code != 200:
            raise KeycloakError(f"expected tokens for {GUEST}, got {said(answer)}; look at the realm {self.realm}.")
        return self.kept(oidc.body(answer))

    def kept(self, said: dict) -> dict[str, str]:
        """Return the tokens of an answer, told to `keep_secret`."""
        found = {name: said[name] for name in ("access_token", "refresh_token", "id_token") if name in said}
        for token in found.values():
            self.keep_secret(token)
        return found

    def refresh(self, token: str, client: str = PASSWORD) -> requests.Response:
        """Return the answer to a refresh token."""
        return self.post({"grant_type": "refresh_token", "refresh_token": token, **self.client(client)})

    def introspect(self, token: str, client: str = PASSWORD) -> requests.Response:
        """Return what the realm says of a token, asked by a client."""
        return self.post({"token": token, **self.client(client)}, "token/introspect")

    def userinfo(self, token: str) -> requests.Response:
        """Return the answer of the userinfo endpoint to a bearer token."""
        at = f"{self.issuer}/protocol/openid-connect/userinfo"
        return oidc.send(self.session, "GET", at, headers={"Authorization": f"Bearer {token}"})


def wrong_password(here: Endpoint) -> list[str]:
    """Return the answers to a wrong password, and to a user who does not exist: they must be the same."""
    with _somebody(here) as name:
        return [said(here.grant(name, WRONG)), said(here.grant("nobody-of-this-name", WRONG))]


def wrong_client(here: Endpoint) -> list[str]:
    """Return the answers to a client's wrong secret, to none, and to a client who does not exist."""
    form = {"grant_type": "password", "username": GUEST, "password": here.password}
    known, unknown = {"client_id": PASSWORD}, {"client_id": "no-such-client", "client_secret": WRONG}
    return [said(here.post({**form, **one})) for one in ({**known, "client_secret": WRONG}, known, unknown)]


def no_direct_grant(here: Endpoint) -> list[str]:
    """Return the answer to the right password through a client that may not use the password grant."""
    return [said(here.grant(client=NO_GRANT))]


def disabled_user(here: Endpoint) -> list[str]:
    """Return the answers to a disabled user with the right and with a wrong password."""
    answers = [said(here.grant(DISABLED)), said(here.grant(DISABLED, WRONG))]
    _forgive(here, DISABLED)
    return answers


def unfinished_user(here: Endpoint) -> list[str]:
    """Return the answer to the right password of a user who must change it first."""
    return [said(here.grant(UNFINISHED))]


def brute_force(here: Endpoint) -> list[str]:
    """Return the answers to as many wrong passwords as are allowed, to the right one then, and to it once forgiven."""
    with _somebody(here) as name:
        wrong = [said(here.grant(name, WRONG)) for _ in range(here.tries)]
        counted = _detection(here, name)
        until(lambda: here.admin.call("GET", counted)["disabled"], deadline=COUNTING, pause=0.1)
        locked = said(here.grant(name))
        _forgive(here, name)
        return [*sorted(set(wrong)), locked, said(here.grant(name))]


def reused_refresh(here: Endpoint) -> list[str]:
    """Return the answers to a refresh token, to the same once more, and then to the one that the first use gave."""
    old = here.session_tokens()["refresh_token"]
    first = here.refresh(old)
    new = here.kept(oidc.body(first))["refresh_token"]
    return [said(first), said(here.refresh(old)), said(here.refresh(new))]


def foreign_refresh(here: Endpoint) -> list[str]:
    """Return the answers to one client's refresh token from another client, and tampered with."""
    token = here.session_tokens()["refresh_token"]
    return [said(here.refresh(token, PUBLIC)), said(here.refresh(jwt.tampered(token)))]


def bad_redirect(here: Endpoint) -> list[str]:
    """Return the answers to redirect addresses that the client does not have: another host, a path behind its own."""
    places = ("http://attacker.example/callback", f"{REDIRECT}/../other", f"{REDIRECT}@attacker.example")
    return [said(browser_login.Browser(here.issuer).open(PUBLIC, place)) for place in places]


def pkce(here: Endpoint) -> list[str]:
    """Return the answers where PKCE is a must: no challenge, a plain one; then no right verifier, and none at all."""
    verifier = browser_login.generate_verifier()
    browser = browser_login.Browser(here.issuer)
    plain = browser.open(BROWSER, REDIRECT, code_challenge=verifier, code_challenge_method="plain")
    return [
        said(browser.open(BROWSER, REDIRECT)),
        said(plain),
        said(_redeemed(here, _code(here, verifier), browser_login.generate_verifier())),
        said(_redeemed(here, _code(here, verifier), "")),
    ]


def code_replay(here: Endpoint) -> list[str]:
    """Return the answers to a code and to the same again, each with what then holds of the first one's token."""
    verifier = browser_login.generate_verifier()
    code = _code(here, verifier)
    first = _redeemed(here, code, verifier)
    token = here.kept(oidc.body(first))["access_token"]
    before = said(here.introspect(token, BROWSER))
    return [said(first), before, said(_redeemed(here, code, verifier)), said(here.introspect(token, BROWSER))]


def after_logout(here: Endpoint) -> list[str]:
    """Return what introspection says of a token before and after its session's logout, then a refresh of it."""
    kept = here.session_tokens()
    before = said(here.introspect(kept["access_token"]))
    oidc.logout(here.issuer, PASSWORD, here.secrets[PASSWORD], kept["refresh_token"], session=here.session)
    return [before, said(here.introspect(kept["access_token"])), said(here.refresh(kept["refresh_token"]))]


def introspection(here: Endpoint) -> list[str]:
    """Return what is told of a good token, a tampered one and garbage; then of the good one to those it is not for.

    These are another client, a public one, and nobody in particular.
    """
    token = here.session_tokens()["access_token"]
    told = [here.introspect(one) for one in (token, jwt.tampered(token), "not-a-token")]
    refused = [here.introspect(token, PUBLIC), here.post({"token": token}, "token/introspect")]
    return [said(one) for one in (*told, here.introspect(token, BROWSER), *refused)]


def userinfo(here: Endpoint) -> list[str]:
    """Return what the userinfo endpoint says to a good token, to the ID token of its grant, and to flawed ones."""
    kept = here.session_tokens()
    good, other = kept["access_token"], kept["id_token"]
    return [said(here.userinfo(one)) for one in (good, other, jwt.tampered(good), jwt.unsigned(good))]


def no_service_account(here: Endpoint) -> list[str]:
    """Return the answers to client_credentials of a client without a service account, and of a public client."""
    form = {"grant_type": "client_credentials"}
    return [said(here.post({**form, **here.client(name)})) for name in (PASSWORD, PUBLIC)]


def odd_requests(here: Endpoint) -> list[str]:
    """Return the answers to no grant type, an unknown one, a scope that is not there, and a password by GET."""
    form = {"username": GUEST, "password": here.password, **here.client(PASSWORD)}
    grants = ({}, {"grant_type": "no-such-grant"}, {"grant_type": "password", "scope": "no-such-scope"})
    by_get = oidc.send(here.session, "GET", f"{here.issuer}/protocol/openid-connect/token")
    return [*(said(here.post({**form, **grant})) for grant in grants), said(by_get)]


DRILLS: dict[str, Callable[[Endpoint], list[str]]] = {
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


def drills(here: Endpoint) -> dict[str, Callable[[Drill], list[str]]]:
    """Return the sequences as lib.probes.runner holds them; what they are told of a workload is left aside."""
    return {name: lambda _, drill=drill: drill(here) for name, drill in DRILLS.items()}


@contextmanager
def _somebody(here: Endpoint) -> Iterator[str]:
    """A user of the drill's own, with the password, gone afterwards with all that was counted against the name."""
    name = f"probe-{uuid.uuid4().hex[:8]}"
    here.admin.ensure_user(here.realm, representations.user(name, firstName="Probe"))
    try:
        here.admin.ensure_password(here.realm, name, here.password, PASSWORD)
        _forgive(here, name)
        yield name
    finally:
        here.admin.delete_user(here.realm, name)


def _forgive(here: Endpoint, username: str) -> None:
    """Let the wrong passwords so far not count, and unlock the user."""
    here.admin.call("DELETE", _detection(here, username))


def _detection(here: Endpoint, username: str) -> str:
    """Return where Keycloak tells what it counted against a user (numFailures, disabled), and forgets it."""
    user = here.admin.get_user(here.realm, username)["id"]
    return path(here.realm, "attack-detection", "brute-force", "users", user)


def _code(here: Endpoint, verifier: str) -> str:
    more = {"code_challenge": browser_login.challenge(verifier), "code_challenge_method": "S256"}
    with here.lock:
        return browser_login.Browser(here.issuer).code(BROWSER, REDIRECT, GUEST, here.password, **more)


def _redeemed(here: Endpoint, code: str, verifier: str) -> requests.Response:
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": REDIRECT, **here.client(BROWSER)}
    return here.post({**form, **({"code_verifier": verifier} if verifier else {})})
