"""Requests byte by byte, against small servers on loopback."""

import socket
import ssl
from datetime import datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from lib.probes.transport.messages import Request
from lib.probes.transport.sockets import GREETING, Connection, host_and_port, over_sockets, why
from tests.support.loopback import heard, over_http2, reset, served

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Two: a\r\nx-two: b\r\n\r\nhi"


def get(path="/", *lines, method="GET", body="", version="HTTP/1.1"):
    return Request(method, path, ("Host: a.example", *lines), body, version, "label")


def answering(*parts):
    """A server's part: hear one request, then say these bytes."""

    def speak(connection):
        heard(connection)
        for part in parts:
            connection.sendall(part)

    return speak


def asked(speak, request=None, **options):
    with served(speak) as address:
        return over_sockets(address, **options)([request or get()])[0]


def test_a_request_goes_out_as_it_is_written():
    came = []

    def speak(connection):
        came.append(heard(connection))
        connection.sendall(OK)

    lines = ("X: a\0b\rc", "Folded: a\r\n b", "content-length: 1", "Content-Length: 2", "Latin: \xff", "Wide: \u20ac")
    asked(speak, get("/a b/../\\#x", *lines, method="g\x01t"))
    assert came[0] == (
        b"g\x01t /a b/../\\#x HTTP/1.1\r\nHost: a.example\r\nX: a\0b\rc\r\nFolded: a\r\n b\r\n"
        b"content-length: 1\r\nContent-Length: 2\r\nLatin: \xff\r\nWide: \xe2\x82\xac\r\n\r\n"
    )


def test_a_reply_with_a_counted_body():
    got = asked(answering(OK))
    assert (got.status, got.line, got.body, got.answer) == (200, "HTTP/1.1 200 OK", "hi", "200 app")
    assert got.headers == {"content-length": "2", "x-two": "a, b"}
    assert 0 < got.latency_ms < 5000


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("said", "body"),
    [
        ((CHUNKED, b"3\r\nabc\r\n", b"2;x=y\r\nde\r\n0\r\nTrailer: x\r\n\r\n"), "abcde"),
        ((CHUNKED, b"3\r\nabc\r\n", b"zz\r\n"), "abc"),
        ((b"HTTP/1.0 200 OK\r\n\r\nuntil", b" the end"), "until the end"),
        ((b"HTTP/1.1 100 Continue\r\n\r\n", OK), "hi"),
        ((b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\ncut",), ""),
        ((b"HTTP/1.1 204 No Content\r\n\r\n",), ""),
        ((b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 300_000), "x" * 262_144),
    ],
    ids=["chunked", "broken chunk", "until close", "after 100", "cut off", "no content", "cap"],
)
def test_bodies(said, body):
    got = asked(answering(*said))
    assert (got.status, got.body) == (int(said[-1][9:12]) if b"HTTP" in said[-1] else 200, body)


def test_head_has_no_body_to_wait_for():
    with served(lambda connection: (answering(OK.removesuffix(b"hi"))(connection), heard(connection))) as address:
        got = over_sockets(address, timeout=2)([get(method="HEAD")])[0]
    assert (got.status, got.body) == (200, "")


def silent(connection):
    heard(connection)
    heard(connection)


@pytest.mark.parametrize(
    ("speak", "reason"),
    [
        (lambda connection: (heard(connection), reset(connection)), "reset"),
        (lambda connection: heard(connection), "closed"),
        (answering(b"SMTP ready\r\n\r\n"), "closed"),
        (silent, "timeout"),
    ],
    ids=["reset", "closed", "no HTTP", "silent"],
)
def test_no_answer_has_a_reason(speak, reason):
    got = asked(speak, timeout=0.3)
    assert (got.status, got.reason, got.answer) == (0, reason, f"0 {reason}")


def test_nothing_listens():
    with served(silent) as address:
        pass
    assert over_sockets(address)([get()])[0].answer == "0 refused"


def test_an_answer_before_all_was_sent_counts():
    def speak(connection):
        connection.recv(1)
        connection.sendall(b"HTTP/1.1 431 Too Large\r\nContent-Length: 0\r\n\r\n")
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):
            continue

    assert asked(speak, get("/", "X: " + "x" * 1_000_000)).status == 431


def test_replies_come_in_the_order_of_the_requests():
    def speak(connection):
        path = heard(connection).split()[1]
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(path), path))

    with served(speak) as address:
        got = over_sockets(address, workers=4)([get(f"/{number}") for number in range(20)])
    assert [reply.body for reply in got] == [f"/{number}" for number in range(20)]


def test_one_line_carries_several_requests():
    def speak(connection):
        for _ in range(2):
            heard(connection)
            connection.sendall(OK)

    with served(speak) as address, Connection(address, 2) as line:
        assert [line.ask(get()).answer for _ in range(3)] == ["200 app", "200 app", "0 closed"]


@pytest.mark.parametrize(
    ("text", "parts"), [("a.example:80", ("a.example", 80)), ("[::1]:8080", ("::1", 8080))], ids=["name", "IPv6"]
)
def test_place(text, parts):
    assert host_and_port(text) == parts


def test_a_place_needs_a_port():
    with pytest.raises(ValueError, match="host:port"):
        host_and_port("a.example")


def test_words_for_errors_of_tls():
    assert why(ssl.SSLError("tlsv13 alert certificate required")) == "alert"
    assert why(ssl.SSLEOFError()) == "closed"


def certificate(folder):
    """Write a self-signed certificate for loopback; return the paths of it and of its key."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([])
    start = datetime(2020, 1, 1)
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, start, start + timedelta(days=36500))
    paths = folder / "cert.pem", folder / "key.pem"
    paths[0].write_bytes(made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    form = serialization.PrivateFormat.PKCS8
    paths[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, form, plain))
    return paths


def test_a_server_that_wants_a_certificate_sends_an_alert(tmp_path):
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(*certificate(tmp_path))
    server.load_verify_locations(tmp_path / "cert.pem")
    server.verify_mode = ssl.CERT_REQUIRED
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE

    def speak(connection):
        server.wrap_socket(connection, server_side=True)

    assert asked(speak, tls=client).answer == "0 alert"


def test_a_server_that_has_answered_over_tls_is_not_waited_for_again(tmp_path):
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    server.load_cert_chain(*certificate(tmp_path))
    server.num_tickets = 0  # it sends nothing before its answer, as Envoy does
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE

    def speak(connection):
        with server.wrap_socket(connection, server_side=True) as secure:
            heard(secure)
            secure.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

    with served(speak) as address:
        first, *others = (over_sockets(address, tls=client)([get()])[0] for _ in range(6))
    assert first.status == 204 and first.latency_ms > 1000 * GREETING > min(other.latency_ms for other in others)


def test_http2_over_tls_hears_a_server_that_speaks_first(tmp_path):
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    server.load_cert_chain(*certificate(tmp_path))
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE

    def speak(connection):
        over_http2(lambda spoken, stream, _: spoken.send_headers(stream, [(":status", "204")], end_stream=True))(
            server.wrap_socket(connection, server_side=True)
        )

    assert asked(speak, get(version="HTTP/2"), tls=client).status == 204


def test_http2_by_prior_knowledge_with_what_is_illegal():
    came = []

    def answer(spoken, stream, headers):
        came.extend(headers)
        spoken.send_headers(stream, [(":status", "403")])
        spoken.send_data(stream, b"RBAC: access denied", end_stream=True)

    request = get("/x", "Authorization: Bearer t", "Upper: A", ":method: get", version="HTTP/2")
    got = asked(over_http2(answer), request)
    assert (got.answer, got.line) == ("403 R", "HTTP/2 403")
    assert came == [
        (b":scheme", b"http"),
        (b":authority", b"a.example"),
        (b":path", b"/x"),
        (b":method", b"get"),
        (b"authorization", b"Bearer t"),
        (b"upper", b"A"),
    ]


def test_http2_reset_and_end():
    resetting = over_http2(lambda spoken, stream, _: spoken.reset_stream(stream))
    assert asked(resetting, get(version="HTTP/2")).reason == "reset"
    assert asked(over_http2(lambda spoken, *_: spoken.close_connection()), get(version="HTTP/2")).reason == "closed"
    assert asked(lambda connection: None, get(version="HTTP/2")).status == 0
    assert asked(answering(OK), get(version="HTTP/2")).reason == "closed"


def test_grpc_over_http_1_is_told_by_its_headers():
    said = b"HTTP/1.1 200 OK\r\ngrpc-status: 7\r\ngrpc-message: RBAC%3A access denied\r\nContent-Length: 0\r\n\r\n"
    assert asked(answering(said)).answer == "200 R"


def test_the_codec_of_a_later_hop_is_no_application():
    more = b"x-envoy-upstream-service-time: 1\r\nContent-Length: 11\r\n\r\n"
    assert asked(answering(b"HTTP/1.1 400 Bad Request\r\n" + more + b"Bad Request")).answer == "400 codec"
    assert asked(answering(b"HTTP/1.1 400 Bad Request\r\n" + more + b"its own way")).answer == "400 app"


def test_what_goes_first_goes_before_the_request():
    got = []

    def speak(connection):
        got.append(heard(connection))
        connection.sendall(OK)

    with served(speak) as address:
        reply = over_sockets(address, first=b"PROXY TCP4 203.0.113.9 198.18.0.1 1 80\r\n")([get()])[0]
    assert reply.status == 200 and got[0].startswith(b"PROXY TCP4 203.0.113.9 198.18.0.1 1 80\r\n")
