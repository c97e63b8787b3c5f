"""The token webhook: which tokens it takes, why it refuses the others, and what it answers over TLS."""

import http.client
import json
import socket
import ssl
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache

import boto3
import pytest

from lib.crypto.jwt import fingerprint
from sandbox.iam.sigv4 import Identity, Refused
from sandbox.node import authenticator, certificates
from tests.support import eks_token
from tests.support.eks_token import closed, opened

HOST, REGION, CLUSTER = "127.0.0.1:4599", "us-east-1", "runbook"
ACCOUNT = "123456789012"
USER = Identity(f"arn:aws:iam::{ACCOUNT}:user/admin", ACCOUNT, "AIDAADMIN", "AKIAADMINADMINADMIN1", "the-secret")
ROLE = f"arn:aws:sts::{ACCOUNT}:assumed-role/deployer/me"
SESSION = Identity(ROLE, ACCOUNT, "AROADEPLOY:me", "ASIADEPLOYDEPLOYDEP1", "other", "st")
HOSTS = {HOST, "sts.us-east-1.amazonaws.com", "sts.amazonaws.com"}


def find(access_key, session_token):
    known = {(who.access_key, who.session_token): who for who in (USER, SESSION)}
    return known.get((access_key, session_token))


@lru_cache  # a client takes longer to make than all that is tested here
def made(who=USER, cluster=CLUSTER, secret=None, endpoint=f"http://{HOST}", expires=60):
    session = boto3.Session(who.access_key, secret or who.secret, who.session_token, region_name=REGION)
    return eks_token.made(session, cluster, endpoint, expires)


def changed(old, new):
    """A good token in whose URL `old` is replaced, its signature left as it is."""
    url = opened(made())
    assert old in url
    return closed(url.replace(old, new))


def verify(token, now=None, cluster=CLUSTER):
    rules = {"cluster_name": cluster, "region": REGION, "hosts": HOSTS, "find": find}
    return authenticator.verify(token, **rules, now=now or datetime.now(UTC))


@pytest.mark.parametrize("who", [USER, SESSION])
@pytest.mark.parametrize(
    "endpoint", [f"http://{HOST}", "https://sts.us-east-1.amazonaws.com", "https://sts.amazonaws.com"]
)
def test_a_good_token_gives_the_identity_of_its_maker(who, endpoint):
    assert verify(made(who, endpoint=endpoint)) == who


def test_a_token_is_valid_for_15_minutes_whatever_expiry_its_url_has():
    assert verify(made(expires=60), now=datetime.now(UTC) + timedelta(minutes=14)) == USER


TODAY = f"{datetime.now(UTC):%Y%m%d}"
BAD = {
    "another prefix": (lambda: made().replace("k8s-aws-v1.", "k8s-aws-v2."), "begins with k8s-aws-v1."),
    "no token": (lambda: "", "begins with"),
    "garbage": (lambda: authenticator.PREFIX + "%%%", "base64url"),
    "padding": (lambda: made() + "=", "base64url"),
    "too long": (lambda: made() + "A" * 4096, "at most 4096"),
    "no URL": (lambda: closed("hello"), "scheme"),
    "a line end": (lambda: changed("Version=", "\nVersion="), "printable"),
    "another scheme": (lambda: changed("http://", "ftp://"), "scheme 'ftp'"),
    "another host": (lambda: made(endpoint="http://127.0.0.1:9999"), "got the host '127.0.0.1:9999'"),
    "another domain": (lambda: made(endpoint="https://sts.amazonaws.com.evil.example"), "got the host"),
    "a user in the host": (lambda: changed("http://", "http://me@"), "got the host"),
    "another path": (lambda: changed("/?", "/latest?"), "path /"),
    "a fragment": (lambda: changed("Action=", "Action=#"), "fragment"),
    "another parameter": (lambda: closed(opened(made()) + "&Name=x"), "'Name' too"),
    "a parameter twice": (lambda: closed(opened(made()) + "&Action=GetCallerIdentity"), "twice"),
    "a parameter in another case": (lambda: closed(opened(made()) + "&action=GetCallerIdentity"), "'action' too"),
    "no query": (lambda: closed(f"http://{HOST}/"), "Action, got none"),
    "a broken query": (lambda: closed(f"http://{HOST}/?Action"), "name=value"),
    "a parameter missing": (lambda: changed("Version=2011-06-15&", ""), "Version, got none"),
    "another action": (lambda: changed("GetCallerIdentity", "AssumeRole"), "Action to be GetCallerIdentity"),
    "another version": (lambda: changed("2011-06-15", "2012-06-15"), "Version"),
    "another algorithm": (lambda: changed("AWS4-HMAC-SHA256", "AWS4-HMAC-SHA1"), "X-Amz-Algorithm"),
    "cluster not signed": (lambda: changed("host%3Bx-k8s-aws-id", "host"), "X-Amz-SignedHeaders"),
    "host not signed": (lambda: changed("host%3Bx-k8s-aws-id", "x-k8s-aws-id"), "X-Amz-SignedHeaders"),
    "another region": (lambda: changed("%2Fus-east-1%2F", "%2Feu-west-1%2F"), "scope"),
    "another service": (lambda: changed("%2Fsts%2F", "%2Fs3%2F"), "scope"),
    "another form of credential": (lambda: changed("%2Faws4_request", ""), "key/date/region/service"),
    "no date": (lambda: changed(f"X-Amz-Date={TODAY}T", f"X-Amz-Date={TODAY}"), "expected X-Amz-Date as"),
    "lives too long": (lambda: changed("X-Amz-Expires=60", "X-Amz-Expires=901"), "X-Amz-Expires"),
    "never lives": (lambda: changed("X-Amz-Expires=60", "X-Amz-Expires=0"), "X-Amz-Expires"),
    "changed after signing": (lambda: changed("X-Amz-Expires=60", "X-Amz-Expires=900"), "expected a signature"),
    "another cluster": (lambda: made(cluster="other"), "expected a signature for the cluster runbook"),
    "a wrong secret": (lambda: made(secret="guessed"), "expected a signature"),
    "no signature": (lambda: changed("X-Amz-Signature=", "X-Amz-Signature=0"), "expected a signature"),
    "an unknown key": (lambda: changed("AKIAADMIN", "AKIANOBOD"), "access key"),
    "a session token too many": (lambda: closed(opened(made()) + "&X-Amz-Security-Token=st"), "access key"),
    "a session's key without its token": (
        lambda: made(replace(SESSION, session_token=None)),
        "access key",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_tokens_are_refused_with_the_reason(name):
    make, reason = BAD[name]
    with pytest.raises(Refused) as refusal:
        verify(make())
    assert reason in str(refusal.value)


@pytest.mark.parametrize(("minutes", "reason"), [(16, "expired"), (-6, "in the future")])
def test_expired_and_future_tokens_are_refused(minutes, reason):
    with pytest.raises(Refused, match=reason):
        verify(made(), now=datetime.now(UTC) + timedelta(minutes=minutes))


def test_an_old_token_cannot_be_given_a_new_date():
    token, later = made(), datetime.now(UTC) + timedelta(minutes=16)
    old = opened(token).partition("X-Amz-Date=")[2][:16]
    with pytest.raises(Refused, match="expected a signature|scope"):
        verify(closed(opened(token).replace(old, f"{later:%Y%m%dT%H%M%SZ}")), now=later)


def test_a_session_has_its_roles_access():
    assert SESSION.principal == "arn:aws:iam::123456789012:role/deployer"
    assert USER.principal == USER.arn


def test_an_identity_hides_its_secrets():
    assert USER.secret not in repr(USER) and "'st'" not in repr(SESSION)


@pytest.fixture
def served(tmp_path):
    ca, lines = certificates.authority(tmp_path, "ca", "test"), []
    files = ca.issue("webhook", "webhook", hosts=("127.0.0.1",))
    user = {"username": "alice", "uid": "1", "groups": ["system:masters"]}

    def authenticate(token):
        if token == "strange":
            return None
        if token != "good":
            raise Refused("expected another token.")
        return user

    may = lambda asked: asked["user"] == "alice"  # noqa: E731
    server = authenticator.serve("127.0.0.1", 0, *files, authenticate, lines.append, may)
    yield server.server_address[1], ssl.create_default_context(cadata=ca.pem.decode()), lines
    server.shutdown()
    server.server_close()


def asked(served, method, path, content=None, **headers):
    port, trust, _ = served
    connection = http.client.HTTPSConnection("127.0.0.1", port, context=trust, timeout=5)
    connection.request(method, path, content if isinstance(content, bytes) else json.dumps(content), headers)
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read())


def reviewed(served, token):
    spec = {"apiVersion": authenticator.AUTHENTICATION_API, "kind": "TokenReview", "spec": {"token": token}}
    return asked(served, "POST", "/authenticate?timeout=10s", spec)


def test_review_of_a_good_token(served):
    status, answer = reviewed(served, "good")
    assert (status, answer["apiVersion"], answer["kind"]) == (200, authenticator.AUTHENTICATION_API, "TokenReview")
    assert answer["status"] == {
        "authenticated": True,
        "user": {"username": "alice", "uid": "1", "groups": ["system:masters"]},
    }


@pytest.mark.parametrize(
    ("token", "reason"), [("bad-token", "expected another token."), ("strange", "a token of a known user")]
)
def test_review_of_a_bad_token(served, token, reason):
    status, answer = reviewed(served, token)
    assert status == 200 and answer["status"]["authenticated"] is False and reason in answer["status"]["error"]
    assert "user" not in answer["status"]


@pytest.mark.parametrize(("user", "allowed"), [("alice", True), ("bob", False)])
def test_review_of_rights(served, user, allowed):
    spec = {"apiVersion": authenticator.AUTHORIZATION_API, "kind": "SubjectAccessReview", "spec": {"user": user}}
    status, answer = asked(served, "POST", "/authorize?timeout=30s", spec)
    assert (status, answer["kind"], answer["status"]) == (200, "SubjectAccessReview", {"allowed": allowed})
    assert asked(served, "POST", "/authorize", {**spec, "kind": "TokenReview"})[0] == 400


def test_the_log_has_the_fingerprint_and_the_reason_never_the_token(served):
    reviewed(served, "bad-token")
    assert served[2] == [f"webhook: token {fingerprint('bad-token')} refused: expected another token."]
    assert "bad-token" not in served[2][0]


@pytest.mark.parametrize(
    ("method", "path", "content", "status"),
    [
        ("GET", "/healthz", None, 200),
        ("GET", "/authenticate", None, 404),
        ("POST", "/", {}, 404),
        ("POST", "/authenticate", b"not json", 400),
        (
            "POST",
            "/authenticate",
            {"apiVersion": "authentication.k8s.io/v1beta1", "kind": "TokenReview", "spec": {"token": "x"}},
            400,
        ),
        (
            "POST",
            "/authenticate",
            {"apiVersion": authenticator.AUTHENTICATION_API, "kind": "TokenReview", "spec": {"token": ""}},
            400,
        ),
        (
            "POST",
            "/authenticate",
            {"apiVersion": authenticator.AUTHENTICATION_API, "kind": "TokenReview", "spec": {"token": 7}},
            400,
        ),
    ],
)
def test_a_request_that_is_no_token_review(served, method, path, content, status):
    assert asked(served, method, path, content)[0] == status


def test_a_review_that_is_too_long(served):
    assert asked(served, "POST", "/authenticate", b"", **{"Content-Length": "70000"})[0] == 413


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_old_tls_gets_no_answer(served):
    _, trust, _ = served
    trust.set_ciphers("ALL:@SECLEVEL=0")  # else it is the client that refuses
    trust.minimum_version = trust.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(ssl.SSLError, match="(?i)protocol.version"):
        asked(served, "GET", "/healthz")


def test_plain_text_gets_no_answer(served):
    plain = http.client.HTTPConnection("127.0.0.1", served[0], timeout=5)
    with pytest.raises((OSError, http.client.HTTPException)):
        plain.request("GET", "/healthz")
        plain.getresponse()


def test_a_silent_client_does_not_delay_others(served):
    with socket.create_connection(("127.0.0.1", served[0])):
        assert asked(served, "GET", "/healthz")[0] == 200
