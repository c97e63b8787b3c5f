"""The probes pointed at a mesh that is not ours: a server on loopback, whole and with each of its holes."""

import json
import re
import ssl
import subprocess

import pytest

from lib.crypto import certificates, jwt
from lib.crypto.base64url import encoded
from lib.errors import ParamsError
from lib.probes.model import Probe
from lib.probes.runner import RetryPolicy
from lib.probes.targets import remote
from lib.probes.tokens.kit import Missing
from lib.probes.transport.messages import Reply, Request
from lib.probes.transport.rate_limit import BudgetSpent, Limiter, rate_limited
from tests.support import little_mesh
from tests.support.little_mesh import AUDIENCE, HOLES, ISSUER, mesh, signed
from tests.support.loopback import heard, over_http2, served

SOON = RetryPolicy(streak=2, deadline=0.2, pause=0.05)
GOOD = signed()


class Kit:
    made = {
        "good": GOOD,
        "tampered": jwt.tampered(GOOD),
        "unsigned": jwt.unsigned(GOOD),
        "stranger": signed(little_mesh.RSAKey.generate_key(2048)),
        "no audience": jwt.tampered(signed(aud="account")),
        "expired": signed(exp=1),
    }

    def token(self, name):
        if name not in self.made:
            raise Missing(f"only Keycloak can mint {name!r}")
        return self.made[name]


def probe(id, expect, **more):
    return Probe(**{"id": id, "title": "a title", "source": "a source", "expect": expect, **more})


PROBES = [
    probe("A01", "403 R"),
    probe("A02", "200 app", token="good"),
    probe("B05", "403 R", headers=["Authorization: {good}"]),
    probe("B14", "200 app", path="/headers?access_token={good}"),
    probe("C02", "401 J1", token="unsigned"),
    probe("C12", "401 J18", token="stranger"),
    probe("D02", "401 J15", token="expired"),
    probe("D18", "403 J16", token="no audience"),
    probe("D21", "401 J18", token="tampered"),
]
ELSEWHERE = [
    probe("A03", "200 app", caller="sleep"),
    probe("A11", "200 app", world="lens"),
    probe("A12", ["200 app", "403 R"], how="keep-alive"),
    probe("A08", "418 app", path="/status/418"),
    probe("A10", "200 app", token="good", sees="Authorization"),
]


def settings(address="mesh.example", **more):
    given = {"url": f"http://{address}/orders", "issuer": ISSUER, "audience": AUDIENCE, "token_command": "true"}
    return remote.settings({**given, "rate": 1000, **more})


def asked(address, probes=PROBES, **more):
    given = settings(address, **more)
    plan, left = remote.plan(probes, Kit().token, given)
    return [*remote.ask([probe for probe, _ in plan], Kit().token, given, SOON), *left]


def red(found):
    return {one.id for one in found if one.verdict == "fail"}


def test_a_whole_mesh_passes():
    heads = []
    with served(mesh(asked=heads)) as address:
        found = asked(address, host="orders.example")
    assert {one.verdict for one in found} == {"pass"}
    assert all(head.split()[1].partition("?")[0] == "/orders" for head in heads)
    assert all("Host: orders.example\r\n" in head for head in heads)


@pytest.mark.parametrize(
    ("hole", "ids"),
    [
        ("no authorization", {"A01", "B05"}),
        ("no authentication", {"A02", "B14", "C02", "C12", "D02", "D18", "D21"}),
        ("no audience", {"D18"}),
        ("no signature", {"C12", "D21"}),
        ("no expiry", {"D02"}),
    ],
)
def test_each_hole_turns_its_probes_red(hole, ids):
    assert hole in HOLES
    with served(mesh(hole)) as address:
        assert red(asked(address)) == ids


def test_what_does_not_fit_is_skipped_with_a_reason_of_its_own():
    plan, left = remote.plan([*ELSEWHERE, probe("D25", "200 app", token="id")], Kit().token, settings())
    assert not plan and {one.verdict for one in left} == {"skipped"}
    assert len({one.note for one in left}) == len(left) == 6


def test_families_and_ids_choose():
    chosen = lambda families: [one.id for one, _ in remote.plan(PROBES, Kit().token, settings(families=families))[0]]  # noqa: E731
    assert chosen("C, D02") == ["C02", "C12", "D02"]
    assert chosen("A01") == ["A01"]


def test_the_budget_is_never_exceeded():
    heads = []
    with served(mesh("no authentication", heads)) as address:
        found = asked(address, budget=4)
    assert len(heads) == 4
    assert [one.note for one in found if one.verdict == "skipped"] == [
        "the budget of 4 requests is not enough for it"
    ] * 5


def test_the_applications_own_status_may_be_another():
    (fitted,), _ = remote.fitting(PROBES[1:2], settings(status=204))
    assert fitted.expected("figure-2") == "204 app"


def test_the_answers_expected_are_the_profiles():
    row = probe("D25", "200 app", token="good", hardened="403 R")
    (fitted,), _ = remote.fitting([row], settings(profile="hardened"))
    assert fitted.expected("hardened") == "403 R"


def test_a_missing_token_may_get_a_challenge():
    (missing, good), _ = remote.fitting([probe("A01", "403 R"), PROBES[1]], settings(missing_token=401))
    assert (missing.expected("figure-2"), good.expected("figure-2")) == ("401 R", "200 app")


def test_braces_in_a_path_stay():
    ((_, request),), _ = remote.plan(PROBES[:1], Kit().token, settings(path="/a/{b}"))
    assert request.target == "/a/{b}"


def test_the_plan_shows_tokens_as_fingerprints():
    plan, _ = remote.plan(PROBES, Kit().token, settings())
    assert not [token for token in Kit.made.values() if token in str(plan)]
    assert f"Bearer [good sha256:{jwt.fingerprint(GOOD)}]" in str(plan[1])
    assert "eyJ" not in str(plan)


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("https://a.example/x", "a.example:443"),
        ("http://a.example", "a.example:80"),
        ("https://a.example:8443/", "a.example:8443"),
        ("http://[::1]:8080/x", "[::1]:8080"),
    ],
)
def test_the_address_is_the_urls(url, address):
    given = settings().model_copy(update={"url": url})
    assert given.address == address
    assert (given.tls() is None) == url.startswith("http:")


def test_tls_is_always_verified():
    context = settings().model_copy(update={"url": "https://a.example"}).tls()
    assert context.check_hostname and context.verify_mode.name == "CERT_REQUIRED"


@pytest.fixture
def secure(tmp_path):
    """A server of TLS that knows HTTP/2, for 127.0.0.1; its address, and the file of its authority."""
    root, key = certificates.generate_authority("of this test")
    shown, own = certificates.issue(root, key, ["127.0.0.1"])
    for name, text in (("ca.pem", root), ("tls.crt", shown), ("tls.key", own)):
        (tmp_path / name).write_text(text)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "tls.crt", tmp_path / "tls.key")
    context.set_alpn_protocols(["h2", "http/1.1"])
    refused = over_http2(lambda spoken, stream, _: spoken.send_headers(stream, [(":status", "403")], end_stream=True))

    def speak(connection):
        with context.wrap_socket(connection, server_side=True) as line:
            if line.selected_alpn_protocol() == "h2":
                refused(line)
            elif heard(line):
                line.sendall(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n")

    with served(speak) as address:
        yield address, tmp_path / "ca.pem"


def test_a_mesh_by_https_is_asked_in_both_versions_of_http(secure):
    address, ca = secure
    probes = [probe("A01", ["403 codec"]), probe("F16", ["403 codec"], version="HTTP/2")]
    given = settings(url=f"https://{address}/x", ca=str(ca))
    found = {one.id: one.got for one in remote.ask(probes, Kit().token, given, SOON)}
    assert found == {"A01": "403 codec", "F16": "403 codec"}


def test_a_certificate_that_nobody_here_trusts_is_told_before_anything_is_asked(secure):
    address, ca = secure
    with pytest.raises(ParamsError, match="that the system trusts, got: .*--ca"):
        remote.ask(PROBES, Kit().token, settings(url=f"https://{address}/x"), SOON)
    host = f"localhost:{address.rpartition(':')[2]}"
    with pytest.raises(ParamsError, match=f"certificate for {host} .*mismatch"):
        remote.ask(PROBES, Kit().token, settings(url=f"https://{host}/x", ca=str(ca)), SOON)


def test_a_file_that_holds_no_certificates_is_told(tmp_path):
    (tmp_path / "empty.pem").write_text("")
    for name in ("empty.pem", "nowhere.pem"):
        with pytest.raises(ParamsError, match=rf"expected certificates \(PEM\) in '.*{name}'.*correct --ca"):
            settings(url="https://a.example", ca=str(tmp_path / name)).tls()


@pytest.mark.parametrize(
    "wrong", [{"url": "ftp://a"}, {"url": "https://user@a/"}, {"rate": 0}, {"path": "x"}, {"no": 1}]
)
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ParamsError):
        settings(**wrong)


def test_a_params_file_is_read_and_options_go_before_it(tmp_path):
    file = tmp_path / "mesh.yml"
    file.write_text(f"url: http://a.example/x\nissuer: {ISSUER}\naudience: istio\ntoken_command: t\nrate: 5\n")
    given = remote.settings({"rate": "7"}, file)
    assert (given.rate, given.name) == (7, "a.example")


def printing(text, code=0):
    return lambda argv, **_: subprocess.CompletedProcess(argv, code, text, "")


def test_a_token_command_is_run_without_a_shell():
    seen = []
    run = lambda argv, **_: seen.append(argv) or subprocess.CompletedProcess(argv, 0, " a.b.c\n", "")  # noqa: E731
    assert remote.token_of("get 'a token' $HOME", run) == "a.b.c"
    assert seen == [["get", "a token", "$HOME"]]


def test_a_token_may_come_in_json():
    assert remote.token_of("x", printing(json.dumps({"access_token": "a.b.c", "expires_in": 3}))) == "a.b.c"


@pytest.mark.parametrize(
    "said", ["", '{"error": "invalid_grant"}', "{", "secret words", "a\nb", '{"access_token": null}']
)
def test_what_is_no_token_is_refused_and_not_shown(said):
    with pytest.raises(ParamsError) as caught:
        remote.token_of("x", printing(said))
    assert "secret" not in str(caught.value)


def test_a_token_command_that_fails_is_told_without_its_output():
    with pytest.raises(ParamsError, match="exit code 3") as caught:
        remote.token_of("x", printing("secret", 3))
    assert "secret" not in str(caught.value)
    with pytest.raises(ParamsError, match="FileNotFoundError"):
        remote.token_of("/no/such/command")


def test_a_good_token_is_what_the_settings_say():
    assert remote.good(GOOD, ISSUER, AUDIENCE) == GOOD
    for token, issuer, audience in ((GOOD, "https://other", AUDIENCE), (GOOD, ISSUER, "b"), ("opaque", ISSUER, "b")):
        with pytest.raises(ParamsError):
            remote.good(token, issuer, audience)


def test_the_kit_forges_from_the_good_token_and_says_what_it_cannot():
    said = {"get": GOOD, "get-id": "an.id.token"}
    token = remote.token_source(settings(token_command="get", tokens={"id": "get-id"}), said.get)
    assert (token("good"), token("id")) == (GOOD, "an.id.token")
    assert token("tampered") != GOOD
    assert GOOD not in repr(token) and "an.id.token" not in repr(token)
    with pytest.raises(Missing, match="--token refresh=COMMAND"):
        token("refresh")
    with pytest.raises(Missing, match="signing key"):
        token("no exp")


def issuing(jwks_uri):
    """An issuer on loopback; its keys are at `jwks_uri`, {} standing for itself."""

    def speak(connection):
        head = heard(connection).decode()
        here = "http://" + re.search(r"Host: (\S+)", head)[1]
        about = {"issuer": here, "jwks_uri": jwks_uri.format(here)}
        body = json.dumps(about if "openid-configuration" in head else {"keys": [{"kid": "one"}]})
        connection.sendall(
            f"HTTP/1.1 200 OK\r\nConnection: close\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode()
        )

    return speak


def test_keys_are_asked_of_the_issuers_own_host_alone():
    with served(issuing("{}/certs")) as address:
        assert remote.published(f"http://{address}") == [{"kid": "one"}]
    with served(issuing("http://other.example/certs")) as address, pytest.raises(ParamsError, match="own host"):
        remote.published(f"http://{address}")


class Clock:
    """A clock that moves only while somebody waits."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now

    def wait(self, seconds):
        self.now += seconds


def test_turns_are_evenly_spread_and_end_with_the_budget():
    clock = Clock()
    limiter = Limiter(4, 5, clock, clock.wait)
    times = [limiter.wait_turn() or clock.now for _ in range(5)]
    assert times == [100, 100.25, 100.5, 100.75, 101]
    with pytest.raises(BudgetSpent):
        limiter.wait_turn()


def test_turns_that_were_not_taken_are_not_saved_up():
    clock = Clock()
    limiter = Limiter(2, 9, clock, clock.wait)
    clock.now += 60
    assert [limiter.wait_turn() or clock.now for _ in range(3)] == [160, 160.5, 161]


def test_a_limited_way_takes_a_turn_for_each_request_and_keeps_their_order():
    turns = []
    way = rate_limited(lambda requests: [Reply(int(requests[0].target))], lambda: turns.append(1), workers=3)
    assert [reply.status for reply in way([Request("GET", str(n), ()) for n in range(9)])] == list(range(9))
    assert len(turns) == 9


def written(alg, kid="k1", **claims):
    """A token with these values; nobody checks its signature here."""
    parts = [encoded(json.dumps(one).encode()) for one in ({"alg": alg, "kid": kid}, {"iss": ISSUER, **claims})]
    return ".".join([*parts, "c2ln"])


def test_an_issuer_without_audiences_can_be_probed():
    token = written("RS256")
    given = settings(audience="")
    assert remote.good(token, ISSUER, "") == token
    rows = [probe("D18", "403 J16", token="no audience"), probe("D19", "200 app", token="aud a list"),
            probe("D02", "401 J15", token="expired")]  # fmt: skip
    fit, left = remote.fitting(rows, given)
    assert [one.id for one in fit] == ["D02"] and {one.id for one in left} == {"D18", "D19"}
    assert all("requires no audience" in one.note for one in left)


@pytest.mark.parametrize(
    ("keys", "alg", "expected"),
    [
        ([{"kid": "k1", "alg": "RS256"}], "ES256", "401 J17"),
        ([{"kid": "k1", "alg": "ES256"}], "ES256", "401 J18"),
        ([{"kid": "k1"}], "RS384", "401 J18"),
        ([{"kid": "k2", "alg": "ES256"}], "ES256", "401 J17"),
        ([{"kid": "k1", "alg": "RS256"}, {"kid": "k1", "alg": "ES256"}], "ES256", "401 J18"),
    ],
)
def test_the_expected_reason_follows_the_keys_that_the_issuer_publishes(keys, alg, expected):
    known = {"good": written("RS256"), "EC key": written(alg)}
    assert remote.by_keys(probe("C09a", "401 J17", token="EC key"), known.__getitem__, keys).expect == expected


def test_without_the_issuers_keys_the_good_tokens_own_key_counts():
    known = {"good": written("ES256"), "EC key": written("ES256")}
    assert remote.by_keys(probe("C09a", "401 J17", token="EC key"), known.__getitem__, []).expect == "401 J18"
