"""Answers of a login: the filter's details in the access log, Keycloak's answer in them, and redirects that loop."""

from types import SimpleNamespace

import pytest

from lib import diagnose
from lib.diagnose import login
from lib.diagnose.request import Request, secrets
from lib.http_client import Answer
from lib.istio.access_log import Hop
from tests.lib.diagnose.test_diagnose import ISSUER, allow, seen, source

FAILED = "OAuth flow failed."
LOGIN = "https://sso.example/realms/x/protocol/openid-connect/auth?client_id=browser&state=x"
CODE, STATE = "0f7b1c52-3f2e-4b4c.9a1d", "eyJ1cmwiOiJodHRwczov"
CALLBACK = f"/oauth2/callback?code={CODE}&state={STATE}"
TOKEN = "Failed_to_get_access_token:_response_code:"


def found(status, details="", path="/headers", location="", set_cookie="", cookie="theme=dark", body=FAILED, **more):
    headers = {name: value for name, value in (("location", location), ("set-cookie", set_cookie)) if value}
    hop = Hop("gateway", status, "", details, "", "")
    sent = {"cookie": cookie} if cookie else {}
    answer = Answer(status, body, 1.0, headers, body)
    more["secrets"] = secrets(Request(f"https://gw{path}", headers=sent))
    return diagnose.diagnose(
        seen(answer=answer, token=None, path=path, gateway_hop=hop, sidecar_hop=None, headers=sent, **more)
    )


@pytest.mark.parametrize(
    ("details", "cause"),
    [
        ("CSRF_token_validation_failed", "state-mismatch"),
        ("Code_verifier_cookie_is_missing_in_the_request", "pkce-verifier"),
        ("Failed_to_decrypt_code_verifier:_gcm.x,_error:_Invalid_encrypted_data", "pkce-verifier"),
        ("State_url_host_is_not_in_the_allowed_redirect_domains:_https://x", "redirect-domain"),
        ("authority_or_original_request_uri_failed_domain_allow-list_validation:_https://x", "redirect-domain"),
        (f'{TOKEN}_401,_response_body:_{{"error":"unauthorized_client"}}', "client-secret"),
        (f'{TOKEN}_400,_response_body:_{{"error":"invalid_client"}}', "client-secret"),
        (f'{TOKEN}_400,_response_body:_{{"error":"invalid_grant"}}', "code-refused"),
        (f"{TOKEN}_503,_response_body:_upstream_connect_error_or_disconnect", "keycloak-unreachable"),
        (f"{TOKEN}_503,_response_body:_no_healthy_upstream", "keycloak-unreachable"),
        (f"{TOKEN}_404,_response_body:_Realm_does_not_exist", "token-endpoint"),
        ("Failed_to_get_access_token_due_to_HTTP_request_failure", "keycloak-unreachable"),
        ("Token_endpoint_cluster_not_found", "token-endpoint"),
        ("OAuth_server_returned_an_error:_?error=access_denied", "login-ended"),
        ("Unauthorized,_and_redirecting_to_OAuth_server_is_not_allowed:_/headers", "needs-browser"),
        ("State_query_param_is_not_a_valid_JSON:_x", "login-callback"),
        ("Code_or_state_query_param_does_not_exist:_x", "login-callback"),
    ],
)
def test_the_filters_details_name_the_cause(details, cause):
    assert found(401, details, CALLBACK).cause == cause


def test_a_certificate_that_envoy_refused_meanwhile_is_the_cause_of_a_failed_connection():
    details = f"{TOKEN}_503,_response_body:_upstream_connect_error_or_disconnect"
    assert found(401, details, CALLBACK, untrusted=True).cause == "keycloak-untrusted"
    older = f"{details}/reset_before_headers._transport_failure_reason:_TLS_error:CERTIFICATE_VERIFY_FAILED"
    assert found(401, older, CALLBACK).cause == "keycloak-untrusted"


NO_COOKIE = "Invalid authentication via OAuth2: unable to obtain CSRF cookie: http: named cookie not present"
REDEEM = "[oauthproxy.go:947] Error redeeming code during OAuth2 callback: token exchange failed: "


@pytest.mark.parametrize(
    ("status", "message", "cause"),
    [
        (403, NO_COOKIE, "state-mismatch"),
        (403, "Invalid authentication via OAuth2: CSRF token mismatch, potential attack", "state-mismatch"),
        (500, f'{REDEEM}oauth2: "invalid_grant" "Code not valid"', "code-refused"),
        (500, f'{REDEEM}oauth2: "unauthorized_client" "Invalid client or Invalid client credentials"', "client-secret"),
        (500, f"{REDEEM}x509: certificate signed by unknown authority", "keycloak-untrusted"),
        (500, f"{REDEEM}dial tcp 10.0.0.1:443: connect: connection refused", "keycloak-unreachable"),
        (403, "Login Failed: The upstream identity provider returned an error: access_denied", "login-ended"),
        (500, "", "login-callback"),
    ],
)
def test_the_log_of_oauth2_proxy_names_the_cause(status, message, cause):
    assert found(status, "via_upstream", CALLBACK, body="OAuth2 Proxy", login_log=message).cause == cause


LOG = """
[2026/11/29 08:00:01] [oauthproxy.go:947] Error redeeming code during OAuth2 callback: of another
10.0.0.1:0 - 1 - - [2026/11/29 08:00:01] app GET - "/oauth2/callback?code=x&state=y" HTTP/1.1 "why-1" 500 9 0.1
10.0.0.1:0 - 2 - - [2026/11/29 08:00:02] [AuthFailure] Invalid authentication via OAuth2: unable to obtain CSRF cookie
127.0.0.6:0 - 3 - - [2026/11/29 08:00:02] 10.0.0.9:4180 GET - "/ready" HTTP/1.1 "kube-probe/1.36" 200 2 0.001
10.0.0.1:0 - 2 - - [2026/11/29 08:00:02] app GET - "/oauth2/callback?code=x&state=y" HTTP/1.1 "why-2" 403 9 0.1
[2026/11/29 08:00:03] [oauthproxy.go:1101] No valid authentication in request. Initiating login.
10.0.0.1:0 - 4 - - [2026/11/29 08:00:03] app GET - "/oauth2/callback?code=x&state=y" HTTP/1.1 "why-4" 500 9 0.1
[2026/11/29 08:00:03] [oauthproxy.go:956] Error redeeming code during OAuth2 callback: on its own way to the log
"""


def test_oauth2_proxys_message_is_the_one_next_to_the_line_of_the_request():
    """A code that is used up had no cause: its message came by standard error, and later than the request's line."""
    assert "on its own way" in login.last_error(LOG, "why-4")
    assert "unable to obtain CSRF cookie" in login.last_error(LOG, "why-2")
    assert "redeeming code" in login.last_error(LOG, "why-1")
    assert login.last_error(LOG, "why-3") == login.last_error("", "why-1") == ""


def gateways(*counts):
    """A cluster with one gateway whose statistics grow with each look at them."""
    left = list(counts)
    text = lambda: f"cluster.k.ssl.fail_verify_error: {left.pop(0)}\ncluster.k.ssl.fail_verify_san: 1\n"  # noqa: E731
    pod = {
        "metadata": {"name": "gw-1", "namespace": "login", "labels": {"istio": "gateway"}},
        "spec": {"containers": [{"name": "istio-proxy"}]},
        "status": {"phase": "Running"},
    }
    cluster = SimpleNamespace(execute=lambda labels, namespace, container: lambda argv, stdin: (text(), 0))
    return cluster, pod


@pytest.mark.parametrize(("counts", "untrusted"), [((4, 5), True), ((4, 4), False)])
def test_a_login_that_returns_reads_the_gateways_statistics_before_and_after(counts, untrusted):
    cluster, pod = gateways(*counts)
    refused = login.refused_before(cluster, [pod], CALLBACK)
    assert refused == counts[0] + 1
    failed = seen(answer=Answer(401, FAILED, 1.0, {}, FAILED), path=CALLBACK, workloads=[pod])
    assert login.collect(cluster, failed, "why-1", refused, 20)["untrusted"] is untrusted


def test_no_other_request_costs_a_look_at_the_gateways():
    cluster, pod = gateways()
    assert login.refused_before(cluster, [pod], "/headers?code=x") == 0
    assert login.collect(cluster, seen(workloads=[pod]), "why-1", 0, 20) == {}
    well = seen(answer=Answer(302, "", 1.0), path=CALLBACK, workloads=[pod])
    assert login.collect(cluster, well, "why-1", 0, 20) == {}


def test_a_callback_without_any_cookie_is_of_a_browser_that_blocks_them():
    assert found(401, "CSRF_token_validation_failed", CALLBACK, cookie="").cause == "cookies-blocked"


@pytest.mark.parametrize(
    ("given", "cause"),
    [
        ({"location": LOGIN}, "no-session"),
        ({"location": LOGIN, "cookie": ""}, "no-session"),
        ({"location": LOGIN, "cookie": "__Host-nonce.x=1; __Host-verifier=2"}, "no-session"),
        ({"location": LOGIN, "cookie": "__Host-session_abc_csrf=1"}, "no-session"),
        ({"location": LOGIN, "cookie": "a=1; __Host-hmac=2"}, "session-not-taken"),
        ({"location": LOGIN, "cookie": "__Host-session=t|1|s"}, "session-not-taken"),
        ({"location": LOGIN, "cookie": "_oauth2_proxy=x"}, "session-not-taken"),
        ({"location": LOGIN, "path": CALLBACK}, "callback-caught"),
        ({"location": LOGIN, "path": CALLBACK, "cookie": "OauthHMAC=x"}, "callback-caught"),
        ({"location": LOGIN, "path": "/oauth2/callback?code=x"}, "no-session"),
        ({"location": "/x", "set_cookie": f"a=1; Secure, b={'x' * 4096}; Secure"}, "cookie-too-large"),
    ],
)
def test_a_redirect_that_comes_back_has_a_cause(given, cause):
    assert found(302, "", **given).cause == cause


@pytest.mark.parametrize("given", [{"set_cookie": f"b={'x' * 4095}; Secure"}, {"set_cookie": "b=1; Secure"}])
def test_a_cookie_that_a_browser_keeps_is_no_cause(given):
    assert found(302, "", path=CALLBACK, location="/headers", **given).cause != "cookie-too-large"


def test_nothing_of_the_callback_or_of_a_cookie_is_shown():
    details = f"OAuth_server_returned_an_error:_?error=x&code={CODE}&state={STATE}_verifier_gcm.s3aled"
    said = str(found(401, details, CALLBACK, cookie="__Host-verifier=gcm.s3aled"))
    assert "OAuth_server_returned_an_error" in said
    assert not [one for one in (CODE, STATE, "s3aled") if one in said]


@pytest.mark.parametrize(("cookie", "cause"), [("__Host-hmac=x", "allowed"), ("theme=dark", "policy-just-applied")])
def test_a_page_passes_without_a_token_if_a_login_adds_one_for_the_session(cookie, cause):
    users = allow(source(requestPrincipals=[f"{ISSUER}/*"]), created="1970-01-01T00:16:30Z")
    assert diagnose.diagnose(seen(200, "", token=None, rules=[users], headers={"cookie": cookie})).cause == cause
