"""A cell is sent until its answer is right, and judged by who refused it."""

import pytest

from lib.probes.transport.messages import Reply
from lib.roles import proof
from lib.roles.matrix import Cell

OPEN = Reply(200, "HTTP/1.1 200 OK", {"x-envoy-upstream-service-time": "1"}, "{}")
SHUT = Reply(403, "HTTP/1.1 403 Forbidden", {"content-length": "19"}, "RBAC: access denied")
READ, WRITE = Cell("reader", "GET", "/a", True), Cell("reader", "POST", "/a", False)


def test_each_cell_is_sent_with_its_callers_token():
    seen = []

    def send(requests):
        seen.extend(requests)
        return [OPEN if one.method == "GET" else SHUT for one in requests]

    found = proof.ask(send, [READ, WRITE, Cell("no token", "GET", "/b", True)], {"reader": "t"}.get, "app.example")
    assert [one.right for one in found] == [True, True, True]
    assert "Authorization: Bearer t" in seen[0].headers and "Host: app.example" in seen[0].headers
    assert "Content-Length: 0" in seen[1].headers
    assert not [line for line in seen[2].headers if line.startswith("Authorization")]


def test_a_caller_may_write_another_scheme():
    seen = []

    def send(requests):
        seen.extend(requests)
        return [OPEN] * len(requests)

    proof.ask(send, [READ], lambda caller: "t", "h", scheme=lambda caller: "bearer")
    assert "Authorization: bearer t" in seen[0].headers


def test_only_a_wrong_answer_is_asked_again():
    rounds = []

    def send(requests):
        rounds.append([one.method for one in requests])
        return [SHUT if one.method == "POST" or len(rounds) == 1 else OPEN for one in requests]

    found = proof.ask(send, [READ, WRITE], {}.get, "h", deadline=5)
    assert rounds == [["GET", "POST"], ["GET"]]
    assert [(one.right, one.tries) for one in found] == [(True, 2), (True, 1)]


def test_what_stays_wrong_is_told():
    (one,) = proof.ask(lambda requests: [OPEN], [WRITE], {}.get, "h")
    assert (one.right, one.expected, one.actual, one.got) == (False, "refused", "allowed", "200 app")


@pytest.mark.parametrize(
    ("answer", "meaning"),
    [
        ("200 app", "allowed"),
        ("404 app", "allowed"),
        ("404 bare", "allowed"),
        ("403 bare", "refused"),
        ("403 app", "refused"),
        ("403 R", "refused"),
        ("401 J18", "refused"),
        ("0 reset", "0 reset"),
        ("404 route", "404 route"),
        ("503 upstream", "503 upstream"),
    ],
)
def test_a_refusal_is_its_status_and_no_answer_is_neither(answer, meaning):
    assert proof.judged(answer) == meaning
