"""The token webhook over TLS: which clients get an answer, and which answer."""

import http.client
import json
import socket
import ssl
import time
from types import SimpleNamespace

import pytest

from lib.crypto.jwt import fingerprint
from sandbox.iam.sigv4 import Refused
from sandbox.node import certificates, webhook


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
    client, other = ca.issue("client", "apiserver"), ca.issue("other", "kubelet")
    reviews = (authenticate, lines.append, may)
    server = webhook.serve("127.0.0.1", 0, *files, client[0], *reviews, handshake=1)

    def trust(files=client):
        made = ssl.create_default_context(cadata=ca.pem.decode())
        if files:
            made.load_cert_chain(*files)
        return made

    yield SimpleNamespace(port=server.server_address[1], trust=trust, other=other, lines=lines)
    server.shutdown()
    server.server_close()


def asked(served, method, path, content=None, trust=None, **headers):
    trust = trust or served.trust()
    connection = http.client.HTTPSConnection("127.0.0.1", served.port, context=trust, timeout=5)
    connection.request(method, path, content if isinstance(content, bytes) else json.dumps(content), headers)
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read())


def test_a_kept_connection_waits_for_no_acknowledgement(served):
    """Headers and body are two writes: by Nagle's algorithm the second one waits 40 ms for the client's delayed ACK."""
    connection, taken = http.client.HTTPSConnection("127.0.0.1", served.port, context=served.trust()), []
    for _ in range(15):
        start = time.perf_counter()
        connection.request("GET", "/healthz")
        connection.getresponse().read()
        taken.append(time.perf_counter() - start)
    connection.close()
    assert sorted(taken)[3] < 0.03


def reviewed(served, token):
    spec = {"apiVersion": webhook.AUTHENTICATION_API, "kind": "TokenReview", "spec": {"token": token}}
    return asked(served, "POST", "/authenticate?timeout=10s", spec)


def test_review_of_a_good_token(served):
    status, answer = reviewed(served, "good")
    assert (status, answer["apiVersion"], answer["kind"]) == (200, webhook.AUTHENTICATION_API, "TokenReview")
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
    spec = {"apiVersion": webhook.AUTHORIZATION_API, "kind": "SubjectAccessReview", "spec": {"user": user}}
    status, answer = asked(served, "POST", "/authorize?timeout=30s", spec)
    assert (status, answer["kind"], answer["status"]) == (200, "SubjectAccessReview", {"allowed": allowed})
    assert asked(served, "POST", "/authorize", {**spec, "kind": "TokenReview"})[0] == 400


def test_the_log_has_the_fingerprint_and_the_reason_never_the_token(served):
    reviewed(served, "bad-token")
    assert served.lines == [f"webhook: token {fingerprint('bad-token')} refused: expected another token."]
    assert "bad-token" not in served.lines[0]


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
            {"apiVersion": webhook.AUTHENTICATION_API, "kind": "TokenReview", "spec": {"token": ""}},
            400,
        ),
        (
            "POST",
            "/authenticate",
            {"apiVersion": webhook.AUTHENTICATION_API, "kind": "TokenReview", "spec": {"token": 7}},
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
    trust = served.trust()
    trust.set_ciphers("ALL:@SECLEVEL=0")  # else it is the client that refuses
    trust.minimum_version = trust.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(ssl.SSLError, match="(?i)protocol.version"):
        asked(served, "GET", "/healthz", trust=trust)


def test_a_client_without_the_api_servers_certificate_gets_no_answer(served):
    """Neither one without a certificate nor one with another certificate of the cluster's CA, such as the kubelet's."""
    for files in (None, served.other):
        with pytest.raises((OSError, http.client.HTTPException)):
            asked(served, "POST", "/authenticate", {}, trust=served.trust(files))
    assert asked(served, "POST", "/authenticate", {})[0] == 400


@pytest.mark.parametrize(
    "wrong", [{"extra": None}, {"extra": []}, {"resourceAttributes": []}, {"resourceAttributes": None}]
)
def test_a_review_with_other_types_is_refused(served, wrong):
    spec = {"apiVersion": webhook.AUTHORIZATION_API, "kind": "SubjectAccessReview"}
    assert asked(served, "POST", "/authorize", {**spec, "spec": {"user": "alice", **wrong}})[0] == 400


def test_a_deeply_nested_review_is_refused(served):
    assert asked(served, "POST", "/authorize", b"[" * 60000)[0] == 400


def test_plain_text_gets_no_answer(served):
    plain = http.client.HTTPConnection("127.0.0.1", served.port, timeout=5)
    with pytest.raises((OSError, http.client.HTTPException)):
        plain.request("GET", "/healthz")
        plain.getresponse()


def test_a_silent_client_does_not_delay_others(served):
    with socket.create_connection(("127.0.0.1", served.port)) as silent:
        assert asked(served, "GET", "/healthz")[0] == 200
        silent.settimeout(5)
        assert silent.recv(1) == b""  # and it is not waited for
