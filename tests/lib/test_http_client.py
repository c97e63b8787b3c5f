"""Requests over HTTP and through a real curl, against a small server on loopback."""

import json
import socket
import struct
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from lib import http_client
from lib.crypto.jwt import fingerprint
from lib.errors import ClusterError

TOKEN = "eyJhbGciOiJub25lIn0.eyJpc3MiOiJ4In0.c2ln"


class Handler(BaseHTTPRequestHandler):
    """/headers echoes like go-httpbin; /deny refuses; /away redirects; /reset resets; /slow never answers."""

    def do_GET(self):
        if self.path == "/reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
        elif self.path == "/slow":
            self.server.released.wait(5)
        elif self.path == "/away":
            self.answer(302, "", {"Location": "/headers"})
        elif self.path == "/deny":
            self.answer(403, "RBAC: access denied" + "." * 200)
        else:
            shown = {name: [value] for name, value in self.headers.items()}
            self.answer(200, json.dumps({"headers": shown, "path": self.path}), {"X-Two": "a"})

    def answer(self, status, text, headers=None):
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def finish(self):
        if not self.wfile.closed and self.path != "/reset":
            super().finish()

    def log_message(self, *_):
        """Say nothing."""


@pytest.fixture(scope="module")
def base():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.handle_error = lambda *_: None
    server.released = threading.Event()
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.released.set()
    server.shutdown()
    server.server_close()


def execute(argv, stdin):
    """Run the command as Kubernetes' exec does: standard input stays open."""
    assert TOKEN not in " ".join(argv)
    pipes = {name: subprocess.PIPE for name in ("stdin", "stdout")}
    with subprocess.Popen(argv, **pipes, stderr=subprocess.STDOUT, text=True) as process:
        process.stdin.write(stdin)
        process.stdin.flush()
        return process.stdout.read(), process.wait(20)


@pytest.fixture(params=["http", "exec"])
def ask(request):
    """One of the two ways to ask, called alike."""
    return (
        http_client.over_http
        if request.param == "http"
        else lambda url, **more: http_client.over_exec(execute, url, **more)
    )


def test_a_good_answer(ask, base):
    answer = ask(f"{base}/headers?a=[1]&b=/../", token=TOKEN, host="httpbin.example")
    seen = json.loads(answer.body)
    assert (answer.status, answer.reason, answer.headers["x-two"]) == (200, "", "a")
    assert seen["headers"]["Host"] == ["httpbin.example"]
    assert seen["path"] == "/headers?a=[1]&b=/../"
    assert 0 < answer.latency_ms < 5000


def test_a_token_is_sent_and_never_shown(ask, base):
    answer = ask(f"{base}/headers", token=TOKEN)
    (shown,) = json.loads(answer.body)["headers"]["Authorization"]
    assert shown.startswith("Bearer ") and fingerprint(TOKEN) in shown
    assert "eyJ" not in repr(answer)


def test_without_a_token_there_is_no_header(ask, base):
    assert "Authorization" not in json.loads(ask(f"{base}/headers").body)["headers"]


@pytest.mark.parametrize("token", ['a"b\\c', "null", "", "x y"])
def test_garbage_goes_as_it_is(ask, base, token):
    seen = json.loads(ask(f"{base}/headers", token=token).body)["headers"]
    assert seen["Authorization"] == [f"Bearer {token}"]


def test_a_token_of_two_lines_is_refused(ask, base):
    with pytest.raises(ValueError, match="one line"):
        ask(base, token="a\r\nX-Evil: 1")


def test_a_refusal_keeps_its_reason(ask, base):
    answer = ask(f"{base}/deny")
    assert (answer.status, len(answer.reason)) == (403, http_client.REASON)
    assert answer.reason.startswith("RBAC: access denied")


def test_redirects_are_not_followed(ask, base):
    answer = ask(f"{base}/away")
    assert (answer.status, answer.headers["location"]) == (302, "/headers")


@pytest.mark.parametrize(
    ("path", "reason"), [("/reset", "connection reset"), ("/slow", "timeout")], ids=["reset", "slow"]
)
def test_no_answer_is_status_0(ask, base, path, reason):
    answer = ask(base + path, timeout=0.5)
    assert (answer.status, answer.reason) == (0, reason)


def test_a_closed_port(ask):
    assert (ask("http://127.0.0.1:1/").status, ask("http://127.0.0.1:1/").reason) == (0, "refused")


@pytest.mark.parametrize(
    ("code", "reason"), [(6, "name not found"), (28, "timeout"), (52, "closed without an answer"), (94, "odd")]
)
def test_curls_exit_codes(code, reason):
    def execute(argv, stdin):
        mark = stdin.partition('write-out = "\\n')[2].partition("{")[0]
        trailer = {"curl": {"exitcode": code, "errormsg": "odd", "time_total": 0.1, "http_code": 0}, "headers": {}}
        return f"\n{mark}{json.dumps(trailer)}\n{mark}curl: ({code}) odd", code

    assert http_client.over_exec(execute, "http://x/") == http_client.Answer(0, reason, 100.0)


def test_curl_that_does_not_run_is_no_answer():
    with pytest.raises(ClusterError, match="exit code 127 and 'curl: not found'"):
        http_client.over_exec(lambda argv, stdin: ("curl: not found", 127), "http://x/")


GATEWAY = "spiffe://cluster.local/ns/istio-system/sa/istio-ingressgateway-service-account"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ([f'By=spiffe://b;Hash=1;Subject="";URI={GATEWAY}'], GATEWAY),
        (f'By=spiffe://b;Hash=1;Subject="";URI={GATEWAY}', GATEWAY),
        ([f"Hash=0;URI=spiffe://first,By=spiffe://b;URI={GATEWAY}"], GATEWAY),
        (["Hash=0;URI=spiffe://first", f"URI={GATEWAY}"], GATEWAY),
        ([f'By=spiffe://b;Subject="CN=x,URI=spiffe://forged";URI={GATEWAY}'], GATEWAY),
        (['By=spiffe://b;Subject="CN=x,;URI=spiffe://forged"'], ""),
    ],
)
def test_peer(value, expected):
    body = json.dumps({"headers": {"X-Forwarded-Client-Cert": value}})
    assert http_client.peer(http_client.Answer(200, "", 1.0, body=body)) == expected


@pytest.mark.parametrize("body", ["", "RBAC: access denied", "[]", '{"headers": {}}'])
def test_peer_of_nobody(body):
    assert http_client.peer(http_client.Answer(200, "", 1.0, body=body)) == ""
