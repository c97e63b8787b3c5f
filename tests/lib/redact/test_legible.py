"""What is legible stays: certificates, fingerprints, claims, public keys, names of secrets, programs, prose."""

import json
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from joserfc.jwk import RSAKey

from lib.redact import clean, cleaned, forbidden

TEXTS = [
    "Authorization: Bearer $TOKEN",
    '{"Authorization": ["Bearer undefined"]}',
    "Authorization: Bearer null",
    "kind: AuthorizationPolicy, a bearer token, basic authentication",
    "forwardOriginalToken: true; keyJ; password: see the Secret keycloak-admin",
    "Password: choose one that has twelve letters.",
    "`Authorization`: the header that holds the token.",
    json.dumps({"source": ["The header\n", "`Authorization`:"], "x": "y"}, indent=1),
    '`Authorization`:\n\n"A line in quotes"',
    "secret: {secretName: keycloak}",
    "secretName: keycloak-tls",
    "credentialName: keycloak-tls",
    "tokenName: x",
    "token_type: Bearer",
    '{"token_type": "Bearer", "expires_in": 300}',
    '"token_endpoint": "https://k/realms/istio/protocol/openid-connect/token"',
    '"token_endpoint_auth_methods_supported":["private_key_jwt","client_secret_basic"]',
    'token = tokens.fetch(run, "alice")',
    'password = run.read_secret("keycloak-admin", "keycloak")["password"]',
    'secret = values["client-secret"]',
    "f(token=token, password=password)",
    "    token=token,",
    "session = requests.Session()",
    '"passwordPolicy": "length(8)"',
    "accessTokenLifespan: 300",
    "automountServiceAccountToken: false",
    "secretKeyRef: {name: keycloak, key: password}",
    "  - name: KC_DB_PASSWORD\n    valueFrom:\n      secretKeyRef:\n        key: password\n"
    "        name: postgres\n  - name: KC_HOSTNAME\n    value: https://198.18.0.102",
    'WWW-Authenticate: Bearer realm="http://x/headers", error="invalid_token"',
    "a token, an expired token: 401",
    "token: none",
    "token: HS256 keyed with password",
    "keys: 2",
    "sha256:a1b2c3d4a1b2c3d4a1b2c3d4a1b2c3d4a1b2c3d4a1b2c3d4a1b2c3d4a1b2c3d4",
    "[jwt sha256:0123456789abcdef]",
    "Set-Cookie: a=; Path=/; Secure",
    "spiffe://cluster.local/ns/foo/sa/httpbin",
    "outbound|80||httpbin.foo.svc.cluster.local",
    "https:/" + "/user@host/x",
    "docker://img:tag@sha256:abc",
    "10.0.0.1:8080",
    "istio-ingressgateway.istio-system.svc.cluster.local",
    "session_state is a claim",
    "serviceAccountToken:\n  audience: istio-ca",
    "volumes:\n- name: x\n  secret:\n    secretName: y",
    "tokens.csv",
    "Secret keycloak-admin created",
    "Cookie: none",
    "the cookie, the session: closed",
    "secrets: 3 created",
    'authorization, authentication = run.load("x")',
    "--token-file FILE",
    "usage: x [--token TOKEN] [--password PASSWORD]",
    "grant_type=password&username=alice",
    "client_id=istio&grant_type=client_credentials",
    "private_key_jwt",
    "public_key: MIIBIjANBg",
    "ssl_certificate_key /etc/x.pem",
    "api_key_name: x",
    '{"kty":"RSA","n":"qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq","e":"AQAB","kid":"k","use":"sig","x5c":["MIIC"]}',
    "code: 401 J18",
    "RBAC: access denied",
    "pass",
    "expected 403, got 200",
    "resourceVersion: '12345'",
    "x-request-id: 3f2504e0-4f89-41d3-9a0c-0305e82c3301",
    "ca.crt: LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0t",
    "jti: 3f2504e0-4f89-41d3-9a0c-0305e82c3301",
    "sid: 3f2504e0-4f89-41d3-9a0c-0305e82c3301",
    "tokenReview: allowed",
    "Authorization: Basic realm",
    "HEADER authorization: present",
    "Deprecated: use --token string to log in",
    "secret/keycloak-admin created",
    "token=valid, expected 200",
    "[('token', 'good'), ('realm', 'istio')]",
    "scopes: ['password', 'secret']",
    "key: password\nname: x",
]


@pytest.mark.parametrize("text", TEXTS)
def test_a_legible_text_stays(text):
    assert clean(text) == text and forbidden(text) == ""


@pytest.mark.parametrize(
    "value",
    [
        {"token": "expired", "name": "x"},
        {"token": "HS256 keyed with your-256-bit-secret"},
        {"claims": {"sub": "alice", "aud": ["a"], "sid": "3f2504e0", "exp": 1}},
        {"fingerprint": "0123456789abcdef", "kid": "k" * 43},
        {"secretName": "a", "accessTokenLifespan": 300, "tokens": 5, "authorization": True, "password": None},
        {"kind": "ConfigMap", "data": {"issuer": "https://k/realms/istio"}},
        {"secret": {"secretName": "keycloak"}, "secretKeyRef": {"name": "keycloak", "key": "password"}},
        [("token", "good"), ("realm", "istio")],
    ],
)
def test_a_legible_value_stays(value):
    assert cleaned(value) == json.loads(json.dumps(value))


def test_public_keys_and_certificates_stay():
    key = RSAKey.import_key(rsa.generate_private_key(65537, 2048))
    public = key.as_dict(private=False)
    assert cleaned({"keys": [public]}) == {"keys": [public]} and clean(json.dumps(public)) == json.dumps(public)
    pem = key.as_pem(private=False).decode()
    assert clean(pem) == pem
    private = cleaned({"keys": [key.as_dict(private=True)]})["keys"][0]
    assert {name for name, one in private.items() if one == "[redacted]"} == {"d", "p", "q", "dp", "dq", "qi"}
    assert private["n"] == public["n"]


def test_marks_keep_the_scheme_and_the_names():
    assert clean("Authorization: Basic YTpi") == "Authorization: Basic [redacted]"
    cookie = "Set-Cookie: A=b1; Path=/realms; Max-Age=60; HttpOnly"
    assert clean(cookie) == "Set-Cookie: A=[redacted]; Path=/realms; Max-Age=60; HttpOnly"
    assert clean("postgresql://kc:x9z@db/kc") == "postgresql://kc:[redacted]@db/kc"
    assert clean("a=b&password=x9z&c=d") == "a=b&password=[redacted]&c=d"


def test_other_types_become_texts_and_lists():
    when = datetime(2026, 1, 31, tzinfo=UTC)
    assert cleaned({"a": b"password=x9z", "b": {"x"}, "c": when, "d": ValueError("password=x9z"), "e": (1, None)}) == {
        "a": "password=[redacted]", "b": ["x"], "c": str(when), "d": "password=[redacted]", "e": [1, None],
    }  # fmt: skip


def test_the_structure_of_a_secret_file_stays_legible():
    """A Secret may be a file of YAML: its password goes wherever it stands, and a line `name: a-word` stays."""
    file = "resources:\n- name: session-key\n  generic_secret: {secret: {inline_string: 8fJx0-qqWzR4uT2m}}\n"
    seen = "hmac_secret:\n  name: session-key\n  other: 8fJx0-qqWzR4uT2m\n"
    assert clean(seen, {file, "8fJx0-qqWzR4uT2m"}) == "hmac_secret:\n  name: session-key\n  other: [redacted]\n"
