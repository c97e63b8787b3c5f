"""Many requests through one run of a real curl, against small servers on loopback."""

import json
import re
import subprocess

import pytest

from lib.errors import ClusterError
from lib.probes.transport.curl import config, over_curl
from lib.probes.transport.messages import Request
from tests.support.loopback import heard, reset, served

SECRET = "a.good.token"


def execute(argv, stdin):
    """Run the command as Kubernetes' exec does: standard input stays open, and bytes come back as text."""
    assert SECRET not in " ".join(argv)
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdin.write(stdin.encode())
        process.stdin.flush()
        return process.stdout.read().decode(errors="replace"), process.wait(30)


def get(path="/", *lines, method="GET", body="", version="HTTP/1.1"):
    return Request(method, path, ("Host: a.example", f"Authorization: Bearer {SECRET}", *lines), body, version)


class Server:
    """Counts its connections, keeps what it heard, and answers by path; it would keep every connection open."""

    def __init__(self):
        self.connections, self.came = 0, []

    def speak(self, connection):
        self.connections += 1
        while data := heard(connection):
            self.came.append(data)
            path = data.split()[1]
            if path == b"/reset":
                return reset(connection)
            if path == b"/closed":
                return None
            if path == b"/slow":
                return heard(connection)
            status = b"403 Forbidden" if path == b"/deny" else b"200 OK"
            body = b"" if data.startswith(b"HEAD") else (b"RBAC: access denied" if path == b"/deny" else path)
            if path == b"/continue":
                connection.sendall(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n")
            connection.sendall(b"HTTP/1.1 %b\r\nX-Two: a\r\nx-two: b\r\n" % status)
            connection.sendall(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))


@pytest.fixture
def server():
    return Server()


@pytest.fixture
def ask(server):
    with served(server.speak) as address:
        yield over_curl(execute, f"http://{address}", timeout=0.5, batch=5)


def test_one_bad_request_leaves_the_others_alone(ask, server):
    paths = ["/a", "/reset", "/deny", "/closed", "/b", "/slow", "/continue"]
    got = ask([get(path) for path in paths])
    answers = ["200 app", "0 reset", "403 R", "0 closed", "200 app", "0 timeout", "200 app"]
    assert [reply.answer for reply in got] == answers
    assert [got[place].body for place in (0, 2, 6)] == ["/a", "RBAC: access denied", "/continue"]
    assert got[0].line == "HTTP/1.1 200 OK" and got[0].headers["x-two"] == "a, b"
    assert all(0 < reply.latency_ms < 5000 for reply in got)


def test_each_request_has_a_connection_of_its_own(ask, server):
    ask([get(f"/{number}") for number in range(12)])
    assert server.connections == 12


def test_header_lines_and_paths_go_out_as_they_are(ask, server):
    ask([get("/public/..;/%2e%2e/\\x#y", "X-Empty:", "x: 1", "x: 2", 'Quoted: "a\\b"', "Tab: a\tb")])
    first, *lines = server.came[0].decode().removesuffix("\r\n\r\n").split("\r\n")
    assert first == "GET /public/..;/%2e%2e/\\x#y HTTP/1.1"
    given = ["Host: a.example", f"Authorization: Bearer {SECRET}", "X-Empty:", "x: 1", "x: 2"]
    assert lines == [*given, 'Quoted: "a\\b"', "Tab: a\tb"]


def test_methods_bodies_and_versions(ask, server):
    requests = [
        get("/", method="HEAD"),
        get("/", "Content-Length: 3", method="POST", body="a=b"),
        get("/", method="FOO"),
        get("/", version="HTTP/1.0"),
    ]
    assert [reply.answer for reply in ask(requests)] == ["200 app"] * 4
    firsts = [data.split(b"\r\n")[0] for data in server.came]
    assert firsts == [b"HEAD / HTTP/1.1", b"POST / HTTP/1.1", b"FOO / HTTP/1.1", b"GET / HTTP/1.0"]
    assert b"application/x-www-form-urlencoded" not in server.came[1]
    assert server.came[1].endswith(b"\r\n\r\na=b")


def test_nothing_listens():
    with served(lambda connection: None) as address:
        pass
    assert over_curl(execute, f"http://{address}")([get()])[0].answer == "0 refused"


def fake(*abouts):
    """Return an `execute` whose curl says so of each request, without reply."""

    def run(argv, stdin):
        mark = next(line for line in stdin.splitlines() if line.startswith("write-out"))[15:51]
        said = [f"\n{mark}{json.dumps({'time_total': 0.1, **about})}\n{mark}" for about in abouts]
        return "".join(said), 0

    return run


@pytest.mark.parametrize(
    ("about", "reason"),
    [
        ({"exitcode": 56, "errormsg": "OpenSSL SSL_read: tlsv13 alert certificate required, errno 0"}, "alert"),
        ({"exitcode": 35, "errormsg": "OpenSSL SSL_connect: Connection reset by peer"}, "reset"),
        ({"exitcode": 35, "errormsg": "wrong version number"}, "alert"),
        ({"exitcode": 3, "errormsg": None}, "closed"),
    ],
)
def test_reasons_of_curl(about, reason):
    assert over_curl(fake(about), "http://x")([get()])[0].reason == reason


def test_a_pod_without_curl_is_an_error_of_the_cluster():
    with pytest.raises(ClusterError, match="2 answers of curl .* exit code 127"):
        over_curl(lambda argv, stdin: ("sh: curl: not found", 127), "http://x")([get(), get()])


def test_options_are_curls_own():
    text = config("https://x", [get(), get()], 5, "mark", (("insecure", ""), ("cert", "/etc/cert.pem")))
    assert text.count("\ninsecure\n") == text.count('\ncert = "/etc/cert.pem"\n') == 2
    assert text.count("\nnext\n") == 1


def test_each_run_of_curl_begins_at_another_port():
    said = []
    way = over_curl(lambda argv, stdin: said.append(stdin) or ("", 0), "http://x")
    for _ in range(8):
        with pytest.raises(ClusterError):
            way([get(), get()])
    ports = [[int(port) for port in re.findall(r'local-port = "(\d+)-', text)] for text in said]
    assert all(second == first + 1 for first, second in ports) and len({first for first, _ in ports}) > 1
