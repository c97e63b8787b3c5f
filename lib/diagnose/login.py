"""Answers of a login: of Envoy's OAuth 2.0 filter, of oauth2-proxy, of the deny-list, and of Keycloak's login page."""

from __future__ import annotations

from dataclasses import dataclass

from lib.diagnose.diagnosis import Diagnosis, explain
from lib.diagnose.evidence import Evidence


@dataclass(frozen=True)
class Sign:
    """The signs of one cause in an answer: a status, and a text in its body or in its Location."""

    cause: str
    statuses: tuple[int, ...]
    texts: tuple[str, ...]
    why: str
    change: str


SIGNS = (
    Sign(
        "session-ended",
        (401,),
        ("the session has ended",),
        "the session of this token has ended in Keycloak, and the deny-list refuses its tokens",
        "log in again; if nobody ended the session, look into the realm's events and into the deny-list's log",
    ),
    Sign(
        "login-callback",
        (401, 403, 500),
        ("OAuth flow failed.", "OAuth2 Proxy"),
        "the login did not end: its state, PKCE verifier or code is not of this browser's login, is used up or too "
        "old, or Keycloak refused the code",
        "open the page again, not the callback's address; if that fails too, compare the client's secret, look whether "
        "cookies are blocked or dropped, and read the log of the gateway or of oauth2-proxy",
    ),
    Sign(
        "redirect-uri",
        (400,),
        ("Invalid parameter: redirect_uri",),
        "Keycloak refuses redirect_uri: the client has not registered this address, letter by letter",
        "add the address to the client's Valid redirect URIs; behind a load balancer it is often http instead of https",
    ),
    Sign(
        "client-missing",
        (400, 401),
        ("Client not found.", "Invalid client or Invalid client credentials"),
        "Keycloak has no such client in this realm",
        "compare client_id and the realm in the URL with Keycloak's clients",
    ),
    Sign(
        "login-refused",
        (302, 303),
        (
            "error=invalid_request",
            "error=unsupported_response_type",
            "error=invalid_scope",
            "error=unauthorized_client",
        ),
        "Keycloak refuses the login's request, and sends the reason back to the client",
        "read error_description in the redirect: often PKCE is missing, or the client may not use this flow",
    ),
    Sign(
        "no-session",
        (302, 303),
        ("/protocol/openid-connect/auth?",),
        "the request has neither a session nor a token, so the login sends the browser to Keycloak's page",
        "log in with a browser; a program sends a token in Authorization. A browser that comes back again and again "
        "does not keep the session's cookies: blocked, over 4,096 bytes, or without https",
    ),
)


def find_cause(evidence: Evidence) -> Diagnosis | None:
    """Return the cause of an answer that a login gave."""
    answer = evidence.answer
    text = f"{answer.headers.get('location', '')}\n{answer.body}"
    for sign in SIGNS:
        if answer.status in sign.statuses and any(one in text for one in sign.texts):
            return explain(evidence, sign.cause, sign.why, sign.change)
    return None
