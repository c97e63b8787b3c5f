"""Answers of a login: the filter's details in the access log, Keycloak's answer in them, and redirects that loop."""

import pytest

from lib import diagnose
from lib.diagnose.request import Request, secrets
from lib.http_client import Answer
from lib.istio.access_log import Hop
from tests.lib.diagnose.test_diagnose import seen

FAILED = "OAuth flow failed."
LOGIN = "https://sso.example/realms/x/protocol/openid-connect/auth?client_id=browser&state=x"
CODE, STATE = "0f7b1c52-3f2e-4b4c.9a1d", "eyJ1cmwiOiJodHRwczov"
CALLBACK = f"/oauth2/callback?code={CODE}&state={STATE}"
TOKEN = "Failed_to_get_access_token:_response_code:"


def found(status, details="", path="/headers", location="", set_cookie="", cookie="theme=dark", body=FAILED):
    headers = {name: value for name, value in (("location", location), ("set-cookie", set_cookie)) if value}
    hop = Hop("gateway", status, "", details, "", "")
    sent = {"cookie": cookie} if cookie else {}
    answer = Answer(status, body, 1.0, headers, body)
    hidden = secrets(Request(f"https://gw{path}", headers=sent))
    return diagnose.diagnose(
        seen(answer=answer, token=None, path=path, gateway_hop=hop, sidecar_hop=None, headers=sent, secrets=hidden)
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
