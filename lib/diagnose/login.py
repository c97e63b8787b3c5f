"""Answers of a login: of Envoy's OAuth 2.0 filter, of oauth2-proxy, of the deny-list, and of Keycloak's login page.

Envoy's filter writes why it refuses into its access log, as the details of the response code, and Keycloak's own answer
to it as well. Source: envoyproxy/envoy 1.40, source/extensions/filters/http/oauth2/{filter,oauth_client}.cc. Why a TLS
connection failed is hidden there since 1.38.1, and only Envoy's statistics have it. oauth2-proxy writes its own log.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any
from urllib.parse import parse_qs, urlsplit

from lib.diagnose.diagnosis import Diagnosis, explain
from lib.diagnose.evidence import Evidence
from lib.diagnose.pods import application_container, refused_certificates
from lib.kubernetes.cluster import Cluster
from lib.polling import until

WRITTEN = 3  # seconds until oauth2-proxy's lines about a request that it answered are in its log
OTHERS = ("kube-probe", "Initiating login")  # in lines about other requests: the kubelet's, and those without a session
LOGIN_PAGE = "/protocol/openid-connect/auth?"
KEPT = 4096  # bytes of a cookie's name and value that a browser keeps (RFC 6265bis, 5.7)
COOKIE = re.compile(r"(?:^|, )([^=;, ]+)=([^;,]*);")  # of Set-Cookie
PROXYS_PAGE = "OAuth2 Proxy"  # in each error page of oauth2-proxy
UNTRUSTED = "CERTIFICATE_VERIFY_FAILED"  # OpenSSL's word; Envoy before 1.38.1 wrote it into the details
SESSIONS = re.compile(r"(?i)(hmac|session|_oauth2_proxy)(?!.*csrf)")  # the names of a session's cookies


@dataclass(frozen=True)
class Sign:
    """The signs of one cause: a status, and a text in the answer's body, its Location, or Envoy's details."""

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
        "needs-browser",
        (401,),
        ("redirecting_to_OAuth_server_is_not_allowed",),
        "the request has neither a session nor a token, and it is no browser that opens a page (a script, JSON, no "
        "GET), so the login does not redirect it",
        "let a program send a token in Authorization; let a page's script load the page again, which logs in",
    ),
    Sign(
        "state-mismatch",
        (401, 403),
        ("CSRF_token_validation_failed", "CSRF token mismatch", "unable to obtain CSRF cookie"),
        "the state in the callback's address is not of a login that this browser began: the login's cookie is of "
        "another login, has been used, or is over 10 minutes old",
        "open the page again, not the callback's address or a bookmark of it; if every login ends so, let all pods of "
        "the gateway have one session key, and let no proxy drop cookies",
    ),
    Sign(
        "pkce-verifier",
        (401,),
        ("Code_verifier_cookie_is_missing", "Failed_to_decrypt_code_verifier"),
        "the cookie with the login's PKCE verifier is missing, was changed, or is sealed with another key",
        "open the page again; if every login ends so, let all pods of the gateway have one session key, and let no "
        "proxy drop or change cookies",
    ),
    Sign(
        "redirect-domain",
        (401,),
        ("allowed_redirect_domains", "failed_domain_allow-list_validation"),
        "the login may not lead back to this page's host: it is not among allowed_redirect_domains",
        "add the host to allowed_redirect_domains of the oauth2 filter, or ask for the page by the host that it has",
    ),
    Sign(
        "client-secret",
        (401, 500),
        ("response_code:_401", "unauthorized_client", "invalid_client"),
        "Keycloak refuses the gateway itself when it redeems the code: the client's secret, or its kind of "
        "authentication, is not Keycloak's",
        "run step 13 again, which writes Keycloak's secret into the gateway's Secret, and restart the gateway; without "
        "a restart, Envoy reads the changed file within two minutes",
    ),
    Sign(
        "code-refused",
        (401, 500),
        ("invalid_grant",),
        "Keycloak refuses the code: it is used up, over a minute old, or of a login with another PKCE verifier or "
        "redirect_uri",
        "open the page again; if every login ends so, compare redirect_uri of the gateway with the address in the "
        "browser, and the clocks",
    ),
    Sign(
        "keycloak-untrusted",
        (401, 500),
        (UNTRUSTED, "x509: "),
        "the login does not trust the certificate of Keycloak's token endpoint: another authority signed it, it has "
        "expired, or it is for another name",
        "give the login the authority of that certificate: the Secret of credentialName in the DestinationRule for "
        "Keycloak, whose subjectAltNames must be in the certificate; with oauth2-proxy its caFiles, and restart it",
    ),
    Sign(
        "keycloak-unreachable",
        (401, 500),
        ("upstream_connect_error", "no_healthy_upstream", "HTTP_request_failure", "Error redeeming code"),
        "the login gets no answer from Keycloak's token endpoint: Keycloak is down, or nothing leads to it",
        "look whether Keycloak is ready, and token_endpoint names its Service. If so, look whether the login trusts "
        "its certificate: Envoy tells that only in its statistics, if proxyStatsMatcher includes those of TLS "
        "(ssl.fail_verify_error, …)",
    ),
    Sign(
        "token-endpoint",
        (401,),
        ("Failed_to_get_access_token", "Token_endpoint_cluster_not_found"),
        "the gateway gets an error and no token from Keycloak's token endpoint",
        "look whether cluster and uri of token_endpoint name Keycloak's Service and realm, and read Keycloak's log",
    ),
    Sign(
        "login-ended",
        (401, 403),
        ("OAuth_server_returned_an_error", "identity provider returned an error"),
        "Keycloak ended the login with an error, which is in the callback's address",
        "read error and error_description there: the person may have refused",
    ),
    Sign(
        "login-callback",
        (401, 403, 500),
        ("OAuth flow failed.", PROXYS_PAGE),
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


def is_return(path: str) -> bool:
    """Return whether a path is one at which Keycloak sends a browser back: it has a state, and a code or an error."""
    names = parse_qs(urlsplit(path).query).keys()
    return "state" in names and bool({"code", "error"} & names)


def refused_before(cluster: Cluster, pods: Sequence[Mapping], path: str) -> int:
    """Return how many certificates the gateways have refused before a callback is sent; 0 for other requests."""
    return refused_certificates(cluster, pods) if is_return(path) else 0


def collect(cluster: Cluster, evidence: Evidence, label: str, refused: int, since_seconds: int) -> dict[str, Any]:
    """Return the fields of Evidence about a failed callback.

    Args:
        cluster: The cluster.
        evidence: What is known so far.
        label: The request's User-Agent, which is in oauth2-proxy's log.
        refused: What `refused_before` returned.
        since_seconds: How much of a log to read.
    """
    if not is_return(evidence.path) or evidence.answer.status < 400:
        return {}
    log, by = "", evidence.workload
    if PROXYS_PAGE in evidence.answer.body and by:
        place = by.pod, by.namespace, application_container(by, evidence.workloads)
        log = until(lambda: last_error(cluster.logs(*place, since_seconds), label), deadline=WRITTEN).value or ""
    return {"untrusted": refused_certificates(cluster, evidence.workloads) > refused, "login_log": log}


def last_error(log: str, label: str) -> str:
    """Return oauth2-proxy's message about the request with this User-Agent: next to the request's line, often before.

    It writes messages to standard error and requests to standard output, and a log may have them in another order.
    """
    lines = [line for line in log.splitlines() if not any(words in line for words in OTHERS)]
    at = next((number for number, line in enumerate(lines) if label in line), None)
    if at is None:
        return ""
    before, after = takewhile(_is_message, reversed(lines[:at])), takewhile(_is_message, lines[at + 1 :])
    return next(before, "") or next(after, "")


def _is_message(line: str) -> bool:
    return ".go:" in line or "[AuthFailure]" in line


def find_cause(evidence: Evidence) -> Diagnosis | None:
    """Return the cause of an answer that a login gave."""
    answer = evidence.answer
    text = "\n".join((answer.headers.get("location", ""), answer.body, evidence.details, evidence.login_log))
    text += f"\n{UNTRUSTED}" if evidence.untrusted else ""
    if found := _redirect(evidence) or _without_cookies(evidence, text):
        return found
    for sign in SIGNS:
        if answer.status in sign.statuses and any(one in text for one in sign.texts):
            refused = "Envoy's statistics: a gateway refused a certificate meanwhile" if evidence.untrusted else ""
            return explain(evidence, sign.cause, sign.why, sign.change, refused, evidence.login_log)
    return None


def _redirect(evidence: Evidence) -> Diagnosis | None:
    """Return why a redirect leads into a loop: a browser that follows it comes back here, without a session."""
    answer, sent = evidence.answer, evidence.headers.get("cookie", "")
    if answer.status not in (302, 303):
        return None
    cookies = COOKIE.findall(answer.headers.get("set-cookie", ""))
    for name, size in ((name, len(name) + len(value)) for name, value in cookies):
        if size > KEPT:
            why = f"the login sets a cookie {name} of {size} bytes, and browsers keep {KEPT}: they come back without"
            change = (
                "make the token smaller: fewer roles, groups and mappers in the client's scopes; or let the login keep "
                "its sessions in a store: login_engine: oauth2-proxy"
            )
            return explain(evidence, "cookie-too-large", why, change)
    if LOGIN_PAGE not in answer.headers.get("location", ""):
        return None
    if {"code", "state"} <= parse_qs(urlsplit(evidence.path).query).keys():
        why = "this is a callback, and it was sent to the login again: no rule takes its path for the login's own"
        change = (
            "let redirect_uri and redirect_path_matcher of the oauth2 filter name one path; with an external "
            "authorizer, exclude its /oauth2 paths from the CUSTOM policy (notPaths)"
        )
        return explain(evidence, "callback-caught", why, change)
    if any(SESSIONS.search(part.partition("=")[0]) for part in sent.split(";")):
        why = (
            "the request has a session's cookies, and the login does not take them: they have expired, were changed, "
            "or are of another host or key"
        )
        change = (
            "log in again; if it goes on, let all pods of the gateway have one session key and one host name, and "
            "compare their clocks"
        )
        return explain(evidence, "session-not-taken", why, change)
    return None


def _without_cookies(evidence: Evidence, details: str) -> Diagnosis | None:
    """Return the cause if the callback came without any cookie; `details` are the engine's own words."""
    missed = any(one in details for one in ("CSRF_token_validation_failed", "unable to obtain CSRF cookie"))
    if not missed or "cookie" in evidence.headers:
        return None
    why = "the browser came back from Keycloak without its login's cookies: it blocks them, or a proxy drops them"
    change = (
        "allow cookies for this host; reach it by https and by one host name (the cookies are Secure and of this host "
        "alone); SameSite must be Lax, not Strict, for a return from another site"
    )
    return explain(evidence, "cookies-blocked", why, change)
