"""No secret leaves `why`, wherever it came in: each input has one planted, for each kind of answer."""

import json

import pytest

from lib import diagnose
from lib.crypto.base64url import encoded
from lib.diagnose.collect import collect
from lib.diagnose.request import Request, body, headers, secrets, shown
from lib.errors import RunbookError
from tests.support.recorded_mesh import Mesh, istiod, pod, service

ISSUER = "https://login.example/realms/shop"


def jwt(number):
    """A token that differs from the others."""
    claims = {"iss": ISSUER, "sub": f"s{number}", "exp": 4_000_000_000}
    return ".".join(
        [encoded(json.dumps(one).encode()) for one in ({"alg": "RS256", "kid": "k"}, claims)] + ["c2lnbmF0dXJl"]
    )


PLANTED = {
    "token": jwt(1),
    "opaque": "opaque-0123456789abcdef",
    "api key": "key-fedcba9876543210",
    "cookie": jwt(2),
    "session": "session-aaaabbbbcccc",
    "query token": jwt(3),
    "query password": "hunter2hunter2",
    "code": "oidc-code-112233445566",
    "password in the URL": "urlpassw0rd-99",
    "body": "body-secret-445566",
    "policy's header": "shared-secret-of-the-policy",
    "jwksUri": "jwks-api-key-778899",
}
SELECTED = {"selector": {"matchLabels": {"app": "web"}}}


def cluster(answer, hop, rules):
    rule = {"issuer": ISSUER, "jwksUri": f"http://login.shop.svc.cluster.local/certs?apikey={PLANTED['jwksUri']}"}
    uri = rule["jwksUri"]
    log = [f'error model Failed to fetch public key from "{uri}": x509: unknown authority; got {PLANTED["token"]}']
    keys = {"inline_string": json.dumps({"keys": [{"n": "0xObjM0UvS_o"}]})}
    dump = {"x": {"@type": "JwtAuthentication", "providers": {"o": {"issuer": ISSUER, "local_jwks": keys}}}}
    return Mesh([
        pod("web", "shop", {"app": "web"}, "10.0.0.8"), pod("caller", "shop", {"app": "caller"}, "10.0.0.9"),
        service("web", "shop", {"app": "web"}, 8000, 8080), *istiod({"accessLogFile": "/dev/stdout"}),
        {"kind": "RequestAuthentication", "metadata": {"name": "web", "namespace": "shop"},
         "spec": {**SELECTED, "jwtRules": [rule]}},
        {"kind": "AuthorizationPolicy", "metadata": {"name": "web", "namespace": "shop"},
         "spec": {**SELECTED, "rules": rules}},
    ], answer, {"web": hop} if hop else {}, log, dump)  # fmt: skip


ECHO = " ".join(PLANTED.values())
HEADER = [{"when": [{"key": "request.headers[x-api-key]", "values": [PLANTED["policy's header"]]}]}]
PATH = [{"to": [{"operation": {"paths": ["/other"]}}]}]
CLAIM = [{"when": [{"key": "request.auth.claims[role]", "values": ["x"]}]}]
REFUSED = [403, "", "rbac_access_denied_matched_policy[none]"]
ANSWERS = [
    ({"status": 403, "body": "RBAC: access denied"}, REFUSED, HEADER),
    ({"status": 403, "body": "RBAC: access denied"}, REFUSED, PATH),
    ({"status": 403, "body": "RBAC: access denied"}, REFUSED, CLAIM),
    ({"status": 401, "body": "Jwt verification fails"}, [401, "", "jwt_authn_access_denied{x}"], CLAIM),
    ({"status": 401, "body": "Jwt issuer is not configured"}, [401, "", "jwt_authn_access_denied{x}"], CLAIM),
    ({"status": 404, "body": ECHO}, [404, "", "via_upstream"], [{}]),
    ({"status": 500, "body": ECHO}, [500, "", "via_upstream"], [{}]),
    ({"status": 200, "body": ECHO}, [200, "", "via_upstream"], [{}]),
    ({"status": 200, "headers": {"grpc-status": "7", "grpc-message": ECHO}}, REFUSED, HEADER),
    ({"status": 503, "body": f"upstream connect error {ECHO}"}, None, [{}]),
    ({"status": 0, "reason": "refused"}, None, [{}]),
    ({"status": 0, "reason": "name not found"}, None, [{}]),
    ({"status": 0, "reason": f"strange: {ECHO}"}, None, [{}]),
    ({"status": 431, "body": ECHO}, None, [{}]),
]


@pytest.mark.parametrize("token", ["token", "opaque", None])
@pytest.mark.parametrize(("answer", "hop", "rules"), ANSWERS)
def test_no_secret_is_in_a_diagnosis(token, answer, hop, rules):
    mesh = cluster(answer, hop, rules)
    query = f"access_token={PLANTED['query token']}&password={PLANTED['query password']}&code={PLANTED['code']}&a=b"
    url = f"http://user:{PLANTED['password in the URL']}@web.shop:8000/headers?{query}"
    sent = {"X-Api-Key": PLANTED["api key"], "Cookie": f"id={PLANTED['cookie']}; sid={PLANTED['session']}"}
    request = Request(url, PLANTED.get(token), "", "POST", headers=sent, data=f"secret={PLANTED['body']}")
    found = diagnose.diagnose(collect(mesh, request, "caller", lambda _: set(), mesh.send, 0))
    # what the application echoes is secret only if the request sent it; the policy's own value is hidden by its header
    echoed = {"policy's header", "jwksUri", "opaque" if token != "opaque" else "", "token" if token != "token" else ""}
    for name, value in PLANTED.items():
        assert value not in str(found) or (name in echoed and ECHO in str(answer)), (name, str(found))
    assert "hunter2" not in repr(found) and mesh.asked[0][1]["headers"] == sent


def test_the_evidence_itself_prints_no_secret():
    mesh = cluster(*ANSWERS[0])
    request = Request("http://web.shop:8000/headers", PLANTED["token"], headers={"X-Api-Key": PLANTED["api key"]})
    evidence = collect(mesh, request, "caller", lambda _: set(), mesh.send, 0)
    assert PLANTED["token"] not in repr(evidence) and PLANTED["api key"] not in repr(evidence)


def test_headers_and_body_come_from_files(tmp_path):
    file = tmp_path / "headers"
    file.write_text("X-A: 1\nCookie: a=b; c=d\n")
    assert headers([f"@{file}", "X-B: 2"]) == {"X-A": "1", "Cookie": "a=b; c=d", "X-B": "2"}
    assert body(f"@{file}").startswith("X-A") and body("plain") == "plain"
    with pytest.raises(RunbookError, match="has no colon"):
        headers(["nothing"])
    with pytest.raises(RunbookError, match="Cannot read"):
        body(f"@{tmp_path}/missing")


def test_ordinary_words_are_shown():
    request = Request("http://x/?page=2&q=short", headers={"X-Tenant": "blue"})
    assert secrets(request) == []
    assert (
        shown("GET https:/" + "/u:pw@h/a?x=1 and /b?y=2 (http://h/c)")
        == "GET https:/" + "/…@h/a?… and /b?… (http://h/c)"
    )
