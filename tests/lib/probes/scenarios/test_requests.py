"""Sequences held with small servers on loopback, and the tables that name them."""

from dataclasses import replace

import pytest

from lib.probes.model import load
from lib.probes.scenarios.requests import SCENARIOS, Context, frame
from lib.probes.transport.messages import Reply, prepare
from lib.probes.transport.sockets import over_sockets, raw
from tests.support.loopback import heard, over_http2, served

GOOD, ENDING, EXPIRED = "good.t.s", "ending.t.s", "expired.t.s"


class Mesh:
    """A gateway on loopback that knows one good token and one that ends with its second request; echoes WebSockets."""

    def __init__(self):
        self.ended = False

    def speak(self, connection):
        while text := heard(connection).decode():
            status, body = self.judge(text)
            if status == 200 and "Upgrade: websocket" in text:
                connection.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n")
                return self.echo(connection)
            connection.sendall(f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())

    def judge(self, text):
        if GOOD in text or (ENDING in text and "/websocket" in text):
            return 200, "{}"
        return (401, "Jwt is expired") if ENDING in text or EXPIRED in text else (403, "RBAC: access denied")

    def echo(self, connection):
        while data := connection.recv(100):
            mask, masked = data[2:6], data[6:]
            text = bytes(byte ^ mask[place % 4] for place, byte in enumerate(masked))
            connection.sendall(bytes([0x81, len(text)]) + text)


def context(address):
    names = {"good": GOOD, "ending": ENDING, "expired": EXPIRED}
    return Context(address, "a.example", over_sockets(address), names.__getitem__, "F32")


@pytest.mark.parametrize(
    ("name", "answers"),
    [
        ("replay", ["200 app", "200 app"]),
        ("keep-alive", ["200 app", "403 R"]),
        ("websocket", ["403 R", "101 app"]),
        ("websocket-stays", ["101 app", "401 J15", "101 app"]),
    ],
)
def test_scenarios(name, answers):
    with served(Mesh().speak) as address:
        assert SCENARIOS[name](context(address)) == answers


def test_a_websocket_is_opened_with_a_new_token_if_the_first_ended_too_early():
    mesh, made = Mesh(), iter(["expired.t.s", ENDING])
    with served(mesh.speak) as address:
        slow = replace(context(address), token=lambda name: next(made))
        assert SCENARIOS["websocket-stays"](slow) == ["101 app", "401 J15", "101 app"]


def test_a_websocket_that_was_closed_is_told():
    mesh = Mesh()
    mesh.echo = lambda connection: None
    with served(mesh.speak) as address:
        assert SCENARIOS["websocket"](context(address)) == ["403 R", "0 closed"]


def test_grpc_tells_its_own_status():
    def answer(spoken, stream, headers):
        known = any(value.endswith(EXPIRED.encode()) for _, value in headers)
        status, message = ("16", "Jwt is expired") if known else ("7", "RBAC%3A access denied")
        fields = [(":status", "200"), ("grpc-status", status), ("grpc-message", message)]
        spoken.send_headers(stream, fields, end_stream=True)

    with served(over_http2(answer)) as address:
        assert SCENARIOS["grpc"](context(address)) == ["7 R", "16 J15"]


class Counting:
    """A way that keeps how many headers, and how many bytes of them, each request has."""

    def __init__(self):
        self.sizes = []

    def __call__(self, requests):
        self.sizes += [(len(request.headers), len("".join(request.headers))) for request in requests]
        return [Reply(431, body="Request Header Fields Too Large")] * len(requests)


def test_scenarios_that_are_too_large():
    ask = Counting()
    asked = Context("a.example:80", "a.example", ask, {"good": GOOD}.__getitem__, "B33")
    assert SCENARIOS["many-headers"](asked) == SCENARIOS["long-header"](asked) == ["431 codec", "431 codec"]
    assert [count for count, _ in ask.sizes[:2]] == [104, 100]
    assert all(size > 65536 for _, size in ask.sizes[2:])


@pytest.mark.parametrize("letter", ["B", "F"])
def test_the_tables_of_placement_and_paths_are_whole(letter):
    rows = [probe for probe in load() if probe.family == letter]
    assert {probe.id[:3] for probe in rows} == {f"{letter}{number:02}" for number in range(1, 36)}
    assert len({probe.id for probe in rows}) == len(rows)
    assert all(probe.how == "http" or probe.how in SCENARIOS for probe in rows)


@pytest.mark.parametrize("probe", [probe for probe in load() if probe.family in "BF"], ids=lambda probe: probe.id)
def test_every_request_of_the_tables_can_be_written(probe):
    request = prepare(probe, lambda name: f"<{name}>", "a.example", "label")
    assert raw(request).startswith(probe.method.encode())
    assert not any("{" in line for line in request.headers)


def test_a_frame_is_masked():
    assert frame(b"ab", b"\1\2\3\4") == b"\x81\x82\1\2\3\4" + bytes([ord("a") ^ 1, ord("b") ^ 2])
