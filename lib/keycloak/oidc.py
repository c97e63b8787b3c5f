"""OpenID Connect as a client meets it: discovery (OIDC Discovery 1.0), keys (RFC 7517), tokens (RFC 6749, 7662)."""

from __future__ import annotations

import re
import secrets

import requests

from lib.crypto import trust_store
from lib.errors import KeycloakError

TIMEOUT = 60  # seconds for one request: a new realm takes 2 s on an idle machine, many more on a busy one

# (error, part of error_description, what to do); the first that fits is told. "" fits everything.
HINTS = (
    (
        "invalid_grant",
        "fully set up",
        "give the user an email, both names, a verified email, no required action and a "
        "password that is not temporary (ensure_user, ensure_password)",
    ),
    ("invalid_grant", "user credentials", "check the password; a user's is set again by ensure_password"),
    ("invalid_grant", "disabled", "enable the user"),
    ("unauthorized_client", "direct access grants", "set directAccessGrantsEnabled on the client (ensure_client)"),
    ("unauthorized_client", "", "read the client's secret again (client_secret): a client made anew has a new one"),
    ("invalid_client", "", "check the client's id, and that it is confidential with the secret that Keycloak has"),
    ("invalid_request", "HTTPS required", "reach Keycloak by https, or in a lab set the realm's sslRequired to none"),
    ("HTTPS required", "", "reach Keycloak by https, or in a lab set the realm's sslRequired to none"),
    ("Realm does not exist", "", "make the realm first, and leave /auth out of the address: Keycloak 17 dropped it"),
    ("Unable to find matching target resource method", "", "leave /auth out of the address: Keycloak 17 dropped it"),
)


def discovery(issuer: str, *, url: str | None = None, session: requests.Session | None = None) -> dict:
    """Return the issuer's OpenID configuration, having checked that it names this very issuer, byte for byte.

    `url` is the realm's address as reached from here, where that is not the issuer's own.
    """
    where = f"{(url or issuer).rstrip('/')}/.well-known/openid-configuration"
    said = _fetched(session, where, f"the OpenID configuration at {where}")
    got = said.get("issuer") or ""
    if got != issuer:
        raise KeycloakError(
            f"expected the issuer {issuer}, got {got} ({first_difference(issuer, got)}); "
            "make Keycloak's hostname (or the realm's frontendUrl) and the policy's issuer equal."
        )
    return said


def jwks(url: str, *, session: requests.Session | None = None) -> dict:
    """Return the key set at `url` (RFC 7517): {"keys": [...]}, at least one."""
    found = _fetched(session, url, f"a key set at {url}")
    if not found.get("keys"):
        raise KeycloakError(f"expected keys at {url}, got {sorted(found)}; take the address from discovery's jwks_uri.")
    return found


def password_token(
    token_endpoint: str,
    client_id: str,
    client_secret: str,
    username: str,
    password: str,
    scope: str = "openid",
    *,
    session: requests.Session | None = None,
) -> dict:
    """Return the token endpoint's answer to a password grant: access_token, expires_in in seconds, and more.

    An empty secret is a public client's. KeycloakError tells Keycloak's own error and what to do, never a secret.
    """
    form = {"grant_type": "password", "username": username, "password": password, **_client(client_id, client_secret)}
    form |= {"scope": scope} if scope else {}
    return _granted(session, token_endpoint, form, f"a token for {username} by the client {client_id}")


def client_token(
    token_endpoint: str, client_id: str, client_secret: str, *, session: requests.Session | None = None
) -> dict:
    """Return the token endpoint's answer to a client that asks for itself (RFC 6749, section 4.4)."""
    form = {"grant_type": "client_credentials", "client_id": client_id, "client_secret": client_secret}
    return _granted(session, token_endpoint, form, f"a token for the client {client_id} itself")


def refreshed(
    token_endpoint: str,
    client_id: str,
    client_secret: str,
    refresh_token: str,
    *,
    session: requests.Session | None = None,
) -> dict:
    """Return the token endpoint's answer to a refresh token (RFC 6749, section 6)."""
    form = {"grant_type": "refresh_token", "refresh_token": refresh_token, **_client(client_id, client_secret)}
    return _granted(session, token_endpoint, form, f"a refreshed token for the client {client_id}")


def logout(
    issuer: str, client_id: str, client_secret: str, refresh_token: str, *, session: requests.Session | None = None
) -> None:
    """End the session that the refresh token belongs to, as Keycloak lets a client do without a browser."""
    form = {"refresh_token": refresh_token, **_client(client_id, client_secret)}
    answer = send(session or direct_session(), "POST", f"{issuer}/protocol/openid-connect/logout", data=form)
    if answer.status_code not in (200, 204):
        raise refusal(f"the session to end for the client {client_id}", answer)


def introspection(
    issuer: str, client_id: str, client_secret: str, token: str, *, session: requests.Session | None = None
) -> dict:
    """Return what the issuer says of a token now (RFC 7662): active, and if so its claims."""
    form = {"token": token, **_client(client_id, client_secret)}
    at = f"{issuer}/protocol/openid-connect/token/introspect"
    answer = send(session or direct_session(), "POST", at, data=form)
    if answer.status_code != 200:
        raise refusal(f"the client {client_id} to be told of a token", answer)
    return body(answer)


def generate_password() -> str:
    """Return a new password of 256 random bits."""
    return secrets.token_urlsafe(32)


def first_difference(expected: str, actual: str) -> str:
    """Return where two texts part, e.g. "from character 5 on: expected 's://', got '://x'"; "" if they are equal."""
    if expected == actual:
        return ""
    pairs = zip(expected, actual, strict=False)
    place = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(expected), len(actual)))
    return (
        f"from character {place + 1} on: expected {expected[place : place + 20]!r}, got {actual[place : place + 20]!r}"
    )


def direct_session() -> requests.Session:
    """Return a session that heeds neither proxies nor .netrc, which would replace the Authorization header.

    It verifies certificates by lib.trust.
    """
    session = requests.Session()
    session.trust_env = False
    return trust_store.mount(session)


def send(session: requests.Session, method: str, url: str, **options) -> requests.Response:
    """Return the answer, whatever its status; raise KeycloakError where there was none."""
    try:
        return session.request(method, url, timeout=TIMEOUT, **options)
    except requests.exceptions.SSLError as error:
        reason = re.search(r"certificate verify failed: ([^(\"']*)", str(error))
        got = reason[1].strip() if reason else "a failed handshake"
        raise KeycloakError(
            f"expected a certificate that is trusted at {url}, got: {got}; "
            "run 02-istio and 03-keycloak again (tls: own-ca), or set ca_file (tls: given)."
        ) from None
    except requests.RequestException as error:
        raise KeycloakError(
            f"expected Keycloak to answer {method} {url}, got {type(error).__name__}; "
            "wait until its pod is ready, and check the address."
        ) from None


def body(answer: requests.Response) -> dict:
    """Return the answer's JSON, or raise KeycloakError."""
    try:
        return answer.json()
    except requests.JSONDecodeError:
        got = answer.text[:80]
        raise KeycloakError(f"expected JSON from {answer.url}, got {got!r}; check that it is Keycloak.") from None


def refusal(what: str, answer: requests.Response) -> KeycloakError:
    """Return the error that says `what` was expected, what Keycloak said instead, and what to do."""
    said = _said(answer)
    error = said.get("error") or _complaints(said) or answer.reason
    text = said.get("error_description") or ""
    hint = next((do for name, part, do in HINTS if name in error and part in text), "see Keycloak's log")
    return KeycloakError(f"expected {what}, got {answer.status_code} {error}{': ' + text if text else ''}; {hint}.")


def _client(client_id: str, client_secret: str) -> dict[str, str]:
    """An empty secret is a public client's."""
    return {"client_id": client_id} | ({"client_secret": client_secret} if client_secret else {})


def _granted(session: requests.Session | None, token_endpoint: str, form: dict[str, str], what: str) -> dict:
    answer = send(session or direct_session(), "POST", token_endpoint, data=form)
    if answer.status_code != 200:
        raise refusal(what, answer)
    said = body(answer)
    if not said.get("access_token"):
        raise KeycloakError(f"expected an access_token from {token_endpoint}, got {sorted(said)}; check the address.")
    return said


def _fetched(session: requests.Session | None, url: str, what: str) -> dict:
    answer = send(session or direct_session(), "GET", url)
    if answer.status_code != 200:
        raise refusal(what, answer)
    return body(answer)


def _complaints(said: dict) -> str:
    """The admin API's form: {field, errorMessage} or a list of them in `errors`."""
    found = [one for one in said.get("errors") or [said] if one.get("errorMessage")]
    return ", ".join(f"{one.get('field') or ''} {one['errorMessage']}".strip() for one in found)


def _said(answer: requests.Response) -> dict:
    try:
        said = answer.json()
    except requests.JSONDecodeError:
        return {}
    return said if isinstance(said, dict) else {}
