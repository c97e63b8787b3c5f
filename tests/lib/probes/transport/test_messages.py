"""Requests and replies as people read them: no token in full, no control character."""

from lib.crypto.jwt import fingerprint
from lib.probes.model import Probe
from lib.probes.transport.messages import Reply, masked_request

TOKEN = ".".join(("eyJhbGciOiJub25lIn0", "eyJpc3MiOiJ4In0", "c2ln"))
PROBE = Probe(
    id="B14",
    title="the token in the query too",
    source="a source",
    token="good",
    path="/headers?access_token={good}",
    headers=["X-Odd: a\x00b"],
    expect="200 app",
)


def test_a_request_is_shown_with_the_token_as_name_and_fingerprint():
    text = masked_request(PROBE, lambda name: TOKEN, "a.example", "a-label").text
    shown = f"[good sha256:{fingerprint(TOKEN)}]"
    assert text.splitlines() == [
        f"GET /headers?access_token={shown} HTTP/1.1",
        "Host: a.example",
        f"Authorization: Bearer {shown}",
        "X-Odd: a\\x00b",
        "User-Agent: a-label",
    ]


def test_a_reply_is_shown_with_its_headers_and_without_the_token_that_it_echoes():
    text = Reply(200, "HTTP/1.1 200 OK", {"server": "envoy"}, f"you sent {TOKEN}\n" * 20).text
    assert text.startswith("HTTP/1.1 200 OK\nserver: envoy\n\nyou sent ") and "eyJ" not in text
    assert text.count("you sent") == 12


def test_no_reply_says_why():
    assert Reply(0, reason="reset").text == "no HTTP: reset"
