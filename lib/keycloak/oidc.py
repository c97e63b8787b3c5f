"""OpenID Connect for a client: discovery (OIDC Discovery 1.0), keys (RFC 7517), tokens (RFC 6749, 7662)."""

from __future__ import annotations

import re
import secrets
from typing import Any

import requests

from lib.crypto import trust_store
from lib.errors import KeycloakError

TIMEOUT = 60  # seconds for one request: Keycloak makes a realm in 2 s on an idle machine, much later on a busy one

# (error, part of error_description, what to do): the first match counts, and "" matches everything.
HINTS = (
    (
        "invalid_grant",
        "fully set up",
        "Give the user an email, both names, a verified email, no required action and a "
        "password that is not temporary (ensure_user, ensure_password)",
    ),
    ("invalid_grant", "user credentials", "Check the password, or set it again (ensure_password)"),
    ("invalid_grant", "disabled", "Enable the user"),
    ("unauthorized_client", "direct access grants", "Set directAccessGrantsEnabled on the client (ensure_client)"),
    ("unauthorized_client", "", "Read the client's secret again (client_secret): a re-created client has a new secret"),
    ("invalid_client", "", "Check the client's id and secret, and that the client is confidential"),
    ("invalid_request", "HTTPS required", "Use https, or in a lab set the realm's sslRequired to none"),
    ("HTTPS required", "", "Use https, or in a lab set the realm's sslRequired to none"),
    ("Realm does not exist", "", "Create the realm first, and leave /auth out of the address: Keycloak 17 dropped it"),
    ("Unable to find matching target resource method", "", "Leave /auth out of the address: Keycloak 17 dropped it"),
)


def discovery(issuer: str, *, url: str | None = None, session: requests.Session | None = None) -> dict[str, Any]:
    """Return the issuer's OpenID configuration; raise KeycloakError unless it names exactly this issuer.

    Args:
        issuer: The issuer that the configuration must name, byte for byte.
        url: The realm's address, if this machine reaches the realm at another address than the issuer's.
        session: The HTTP session to use.
    """
    where = f"{(url or issuer).rstrip('/')}/.well-known/openid-configuration"
    configuration = _fetched(session, where, f"the OpenID configuration at {where}")
    actual = configuration.get("issuer") or ""
    if actual != issuer:
        raise KeycloakError(
            f"The issuer at {where} is {actual}, not {issuer} ({first_difference(issuer, actual)}). "
            "Make Keycloak's hostname (or the realm's frontendUrl) and the policy's issuer equal."
        )
    return configuration


def jwks(url: str, *, session: requests.Session | None = None) -> dict[str, Any]:
    """Return the key set at `url` (RFC 7517): {"keys": [...]}, with at least one key."""
    key_set = _fetched(session, url, f"a key set at {url}")
    if not key_set.get("keys"):
        raise KeycloakError(f"No keys at {url}, only {sorted(key_set)}. Take the address from discovery's jwks_uri.")
    return key_set


def password_token(
    token_endpoint: str,
    client_id: str,
    client_secret: str,
    username: str,
    password: str,
    scope: str = "openid",
    *,
    session: requests.Session | None = None,
) -> dict[str, Any]:
    """Return the token endpoint's answer to a password grant: access_token, expires_in (seconds), and more.

    A public client has an empty secret. A KeycloakError has Keycloak's error and what to do, never a secret.
    """
    form = {"grant_type": "password", "username": username, "password": password, **_client(client_id, client_secret)}
    form |= {"scope": scope} if scope else {}
    return _granted(session, token_endpoint, form, f"a token for {username} by the client {client_id}")


def client_token(
    token_endpoint: str, client_id: str, client_secret: str, *, session: requests.Session | None = None
) -> dict[str, Any]:
    """Return the token endpoint's answer to a client that requests a token for itself (RFC 6749, section 4.4)."""
    form = {"grant_type": "client_credentials", "client_id": client_id, "client_secret": client_secret}
    return _granted(session, token_endpoint, form, f"a token for the client {client_id} itself")


def refreshed(
    token_endpoint: str,
    client_id: str,
    client_secret: str,
    refresh_token: str,
    *,
    session: requests.Session | None = None,
) -> dict[str, Any]:
    """Return the token endpoint's answer to a refresh token (RFC 6749, section 6)."""
    form = {"grant_type": "refresh_token", "refresh_token": refresh_token, **_client(client_id, client_secret)}
    return _granted(session, token_endpoint, form, f"a refreshed token for the client {client_id}")


def logout(
    issuer: str, client_id: str, client_secret: str, refresh_token: str, *, session: requests.Session | None = None
) -> None:
    """End the session of a refresh token; Keycloak lets a client do this without a browser."""
    form = {"refresh_token": refresh_token, **_client(client_id, client_secret)}
    answer = send(session or direct_session(), "POST", f"{issuer}/protocol/openid-connect/logout", data=form)
    if answer.status_code not in (200, 204):
        raise refusal(f"a logout by the client {client_id}", answer)


def introspection(
    issuer: str, client_id: str, client_secret: str, token: str, *, session: requests.Session | None = None
) -> dict[str, Any]:
    """Return the issuer's answer about a token (RFC 7662): `active`, and the claims of an active token."""
    form = {"token": token, **_client(client_id, client_secret)}
    at = f"{issuer}/protocol/openid-connect/token/introspect"
    answer = send(session or direct_session(), "POST", at, data=form)
    if answer.status_code != 200:
        raise refusal(f"a token's state by the client {client_id}", answer)
    return body(answer)


def generate_password() -> str:
    """Return a new password of 256 random bits."""
    return secrets.token_urlsafe(32)


def first_difference(expected: str, actual: str) -> str:
    """Return where two texts differ, as in "from character 5 on: expected 's://', got '://x'", or "" if they do not."""
    if expected == actual:
        return ""
    pairs = zip(expected, actual, strict=False)
    place = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(expected), len(actual)))
    return (
        f"from character {place + 1} on: expected {expected[place : place + 20]!r}, got {actual[place : place + 20]!r}"
    )


def direct_session() -> requests.Session:
    """Return a session that verifies certificates by lib.crypto.trust_store.

    It ignores proxies and .netrc, which would replace the Authorization header.
    """
    session = requests.Session()
    session.trust_env = False
    return trust_store.mount(session)


def send(session: requests.Session, method: str, url: str, **options: Any) -> requests.Response:
    """Return the answer, whatever its status; raise KeycloakError if there is none."""
    try:
        return session.request(method, url, timeout=TIMEOUT, **options)
    except requests.exceptions.SSLError as error:
        reason = re.search(r"certificate verify failed: ([^(\"']*)", str(error))
        got = reason[1].strip() if reason else "a failed handshake"
        raise KeycloakError(
            f"The certificate at {url} is not trusted: {got}. "
            "Run 02-istio and 03-keycloak again (tls: own-ca), or set ca_file (tls: given)."
        ) from None
    except requests.RequestException as error:
        raise KeycloakError(
            f"Keycloak does not answer {method} {url}: {type(error).__name__}. "
            "Wait until its pod is ready, and check the address."
        ) from None


def body(answer: requests.Response) -> Any:
    """Return the answer's JSON, or raise KeycloakError."""
    try:
        return answer.json()
    except requests.JSONDecodeError:
        got = answer.text[:80]
        raise KeycloakError(f"{answer.url} sent no JSON: {got!r}. Check that it is Keycloak.") from None


def refusal(request: str, answer: requests.Response) -> KeycloakError:
    """Return the error for a refused request: what was requested, Keycloak's answer, and what to do."""
    content = _json(answer)
    error = content.get("error") or _field_errors(content) or answer.reason
    text = content.get("error_description") or ""
    hint = next((do for name, part, do in HINTS if name in error and part in text), "See Keycloak's log")
    details = f"{error}: {text}" if text else error
    message = f"The request for {request} failed: {answer.status_code} {details.rstrip('.')}. {hint}."
    return KeycloakError(message, answer.status_code, error)


def _client(client_id: str, client_secret: str) -> dict[str, str]:
    """Return the client's part of a form; a public client has an empty secret."""
    return {"client_id": client_id} | ({"client_secret": client_secret} if client_secret else {})


def _granted(
    session: requests.Session | None, token_endpoint: str, form: dict[str, str], request: str
) -> dict[str, Any]:
    answer = send(session or direct_session(), "POST", token_endpoint, data=form)
    if answer.status_code != 200:
        raise refusal(request, answer)
    tokens = body(answer)
    if not tokens.get("access_token"):
        raise KeycloakError(f"No access_token from {token_endpoint}, only {sorted(tokens)}. Check the address.")
    return tokens


def _fetched(session: requests.Session | None, url: str, request: str) -> dict[str, Any]:
    answer = send(session or direct_session(), "GET", url)
    if answer.status_code != 200:
        raise refusal(request, answer)
    return body(answer)


def _field_errors(content: dict[str, Any]) -> str:
    """Return the errors in the admin API's form: {field, errorMessage}, or a list of them in `errors`."""
    errors = [error for error in content.get("errors") or [content] if error.get("errorMessage")]
    return ", ".join(f"{error.get('field') or ''} {error['errorMessage']}".strip() for error in errors)


def _json(answer: requests.Response) -> dict[str, Any]:
    """Return the answer's JSON object, {} if it has none."""
    try:
        content = answer.json()
    except requests.JSONDecodeError:
        return {}
    return content if isinstance(content, dict) else {}
