"""The time stamp of a bundle: each wrong part is refused, and an authority that is away costs no run."""

import hashlib
import json
import random
import shutil
import socket
import ssl
import subprocess
import time
from contextlib import suppress
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID as Usage

from lib.__main__ import main
from lib.bundle import audit, time_stamp
from lib.bundle.verify import verify
from lib.crypto import certificates, trust_store
from lib.errors import BundleError
from lib.params import load
from tests.support import time_stamps
from tests.support.loopback import served
from tests.support.sealed_bundle import NOW, sealed
from tests.support.time_stamps import ALONE, AT, CLOCK, ROOT, YEAR, authority, changed, clock, http, query, signer
from tests.support.tiny import KEY, write_params
from tools import verify_bundle

FILE = "provenance.tsr"
ROOTS = [ROOT.certificate]
BETWEEN = authority("between", ROOT)
TWO_USAGES = x509.ExtendedKeyUsage([Usage.TIME_STAMPING, Usage.CODE_SIGNING])
UNKNOWN_USAGE = x509.ExtendedKeyUsage([Usage.TIME_STAMPING, x509.ObjectIdentifier("1.2.3.4")])
STRANGER = signer(authority("nobody's root"))
NOT_FOR_TIME = "critically and alone, for time stamps"


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"status": time_stamps.integer(2)}, "its status is 2, expected 0"),
        (
            {"status": time_stamps.integer(2) + time_stamps.der(48, time_stamps.der(12, b"busy\x1b[2J"))},
            "(granted) ['busy",
        ),
        ({"digest": hashlib.sha256(b"other").digest()}, "it stamps something else"),
        ({"algorithm": time_stamps.SHA3_256}, "it stamps something else"),
        ({"nonce": 7}, "it does not repeat the request's nonce"),
        ({"nonce": None}, "it does not repeat the request's nonce"),
        ({"by": STRANGER}, "unable to get local issuer certificate"),
        ({"by": signer(authority("root of these tests"))}, "certificate signature failure"),
        ({"by": ROOT}, NOT_FOR_TIME),
        ({"by": signer(ROOT, None)}, NOT_FOR_TIME),
        ({"by": signer(ROOT, (ALONE, False))}, NOT_FOR_TIME),
        ({"by": signer(ROOT, (TWO_USAGES, True))}, NOT_FOR_TIME),
        ({"by": signer(ROOT, (UNKNOWN_USAGE, True))}, NOT_FOR_TIME),
        ({"by": signer(ROOT, (x509.ExtendedKeyUsage([Usage.SERVER_AUTH]), True))}, NOT_FOR_TIME),
        ({"by": signer(CLOCK, name="below"), "between": (CLOCK,)}, "invalid CA certificate"),
        ({"by": signer(BETWEEN)}, "unable to get local issuer certificate"),
        ({"at": AT + 2 * YEAR}, "certificate has expired"),
        ({"at": AT - 2 * YEAR}, "certificate is not yet valid"),
        ({"certificates": False}, "it holds 0 certificates of its signer"),
        ({"extra": (signer(ROOT),)}, "it has 2 signatures, expected one"),
    ],
)
def test_an_answer_with_a_wrong_part_is_no_time_stamp(wrong, words):
    with clock(changed(**wrong)) as known, pytest.raises(BundleError) as refused:
        known.stamp(b"statement")
    assert words in str(refused.value) and "\x1b" not in str(refused.value)


@pytest.mark.parametrize("right", [{}, {"by": signer(BETWEEN), "between": (BETWEEN,)}], ids=["root", "between"])
def test_an_answer_with_all_parts_attests_the_time(right):
    with clock(changed(**right)) as known:
        stamp = time_stamp.check(known.stamp(b"statement"), b"statement", ROOTS)
    assert stamp == (AT, "CN=the clock of these tests")


def test_no_changed_byte_of_the_signed_parts_is_accepted():
    right = time_stamps.parts(b"statement", 5)
    answer = bytearray(right.answer())
    start = bytes(answer).index(right.info())
    for place in range(start, start + len(right.info())):
        answer[place] ^= 1
        with pytest.raises(ValueError):  # noqa: PT011 - which part it names differs
            time_stamp.check(bytes(answer), b"statement", ROOTS)
        answer[place] ^= 1
    time_stamp.check(bytes(answer), b"statement", ROOTS)


@pytest.mark.filterwarnings("ignore:Parsed a serial number")
@pytest.mark.parametrize("seed", range(20))
def test_no_damage_raises_anything_but_a_sentence(seed):
    dice = random.Random(seed)
    answer = time_stamps.parts(b"statement", 5).answer()
    for _ in range(50):
        damaged = bytearray(answer)
        for _ in range(dice.randrange(1, 4)):
            place = dice.randrange(len(damaged))
            damaged[place : place + dice.randrange(3)] = dice.randbytes(dice.randrange(3))
        with suppress(ValueError):
            time_stamp.check(bytes(damaged), b"statement", ROOTS)


CONFIG = """
[tsa]
default_tsa = one
[one]
serial = {0}/serial
default_policy = 1.2.3.4
digests = sha256
signer_digest = sha256
ess_cert_id_alg = sha256
"""


def test_the_authority_of_openssl_is_accepted(tmp_path):
    clock_now = signer(ROOT, until=AT + 19 * YEAR)
    (tmp_path / "conf").write_text(CONFIG.format(tmp_path))
    (tmp_path / "root.pem").write_text(certificates.pem(ROOT.certificate))

    def speak(connection):
        (tmp_path / "query").write_bytes(query(connection)[1])
        pair = clock_now.file(tmp_path)
        command = ["openssl", "ts", "-reply", "-config", "conf", "-queryfile", "query", "-signer", pair, "-inkey", pair]
        connection.sendall(http(subprocess.run(command, cwd=tmp_path, capture_output=True, check=True).stdout))

    with served(speak) as address:
        folder, _ = sealed(tmp_path / "runs", authority=time_stamp.Authority(f"http://{address}", ROOTS))
    assert "time-stamped 20" in verify(folder, [KEY.public_key()], roots=ROOTS).looked_at
    assert openssl_verifies(folder, tmp_path / "root.pem")


def openssl_verifies(folder, root, *more):
    """The command that tools/verify_bundle.py names."""
    command = ["openssl", "ts", "-verify", "-data", "provenance.dsse.json", "-in", FILE, "-CAfile", str(root), *more]
    return subprocess.run(command, cwd=folder, capture_output=True).returncode == 0


def drip(connection):
    query(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/timestamp-reply\r\nX: ")
    while True:
        connection.sendall(b"x")
        time.sleep(0.05)


def flood(connection):
    query(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/timestamp-reply\r\n\r\n")
    while True:
        connection.sendall(bytes(65536))


def says(body, status="200 OK", kind=time_stamp.REPLY):
    def speak(connection):
        query(connection)
        connection.sendall(http(body, status, kind))

    return speak


@pytest.mark.parametrize(
    ("speak", "words"),
    [
        (lambda connection: time.sleep(2), "timeout"),
        (drip, "timeout"),
        (flood, "its answer has more than 65536 bytes"),
        (says(b"<html>", kind="text/html"), "it answered 200 with text/html, expected application/timestamp-reply"),
        (says(b"oops", "500 Internal Server Error"), "it answered 500 with application/timestamp-reply"),
        (says(b""), "ASN.1 parse error"),
        (says(b"0"), "ASN.1 parse error"),
        (lambda connection: connection.sendall(b"SSH-2.0\r\n"), "BadStatusLine"),
        (lambda connection: query(connection) and None, "closed without an answer"),
    ],
    ids=["slow", "drip", "flood", "html", "500", "empty", "cut", "ssh", "mute"],
)
def test_an_authority_that_gives_no_answer_costs_a_second_and_a_sentence(speak, words):
    with served(speak) as address, pytest.raises(BundleError, match="gave no time stamp") as refused:
        start = time.monotonic()
        time_stamp.Authority(f"http://{address}/", ROOTS, deadline=0.5).stamp(b"statement")
    assert words in str(refused.value) and time.monotonic() - start < 1.5


def test_no_redirect_is_followed_and_no_proxy_is_asked(monkeypatch):
    with clock() as known:
        moved = b"HTTP/1.1 307 Moved\r\nLocation: %b\r\nContent-Length: 0\r\n\r\n" % known.url.encode()
        away = served(lambda connection: query(connection) and connection.sendall(moved))
        with away as address, pytest.raises(BundleError, match="it answered 307"):
            time_stamp.Authority(f"http://{address}/", ROOTS).stamp(b"statement")
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
            monkeypatch.setenv(name, "http://127.0.0.1:1")
        assert known.stamp(b"statement")


def test_the_certificate_of_an_authority_over_https_is_verified(tmp_path):
    ca, key = certificates.generate_authority("of the server")
    (tmp_path / "pair.pem").write_text("".join(certificates.issue(ca, key, ["127.0.0.1"])))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "pair.pem")
    reply = time_stamps.parts(b"statement")

    def speak(connection):
        with suppress(ssl.SSLError), context.wrap_socket(connection, server_side=True) as secure:
            query(secure)
            secure.sendall(http(reply.answer()))

    with served(speak) as address:
        known = time_stamp.Authority(f"https://{address}/", ROOTS)
        with pytest.raises(BundleError, match="certificate not trusted"):
            known.stamp(b"statement")
        trust_store.add("test", ca)
        with pytest.raises(BundleError, match="nonce"):  # it came as far as the answer
            known.stamp(b"statement")
    trust_store.add("test", "")


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Two stamped runs, the newest first, and the root's file."""
    place = tmp_path_factory.mktemp("two")
    with clock() as known:
        older, newest = (sealed(place, now=NOW + timedelta(hours=hour), authority=known)[0] for hour in (0, 1))
    (place / "root.pem").write_text(certificates.pem(ROOT.certificate))
    return newest, older, place / "root.pem"


def test_a_run_says_in_words_what_its_authority_attests(two):
    folder, _, root = two
    lines, problem = audit.bundle(folder, [KEY.public_key()], roots_at=[root])
    assert not problem
    assert "time-stamped 2026-01-31T12:00:12Z by CN=the clock of these tests, 2 s after its end" in lines[-1]
    lines, problem = audit.environment(folder.parent, [KEY.public_key()], roots_at=[root])
    assert not problem and lines[0].endswith("by its own clock") and "verifies, time-stamped" in lines[0]
    assert 'href="provenance.tsr"' in (folder / "index.html").read_text()
    attime = ("-attime", str(int(AT.timestamp())))
    assert openssl_verifies(folder, root, *attime)
    problems, notes = verify_bundle.verify(folder, [KEY.public_key().public_bytes_raw()])
    assert problems == [] and "openssl ts -verify -data provenance.dsse.json -in provenance.tsr" in notes[0]


def test_without_a_root_the_time_is_nobodys_word(two):
    found = verify(two[0], [KEY.public_key()])
    assert found.problems == [] and "; its time stamp not checked; before it" in found.looked_at
    assert "no root certificate of a time-stamping authority is named" in " ".join(found.notes)


REMOVED, ADDED = "provenance.tsr is missing.", "provenance.tsr was added after the bundle was sealed"
SWAPPED = "provenance.tsr is no trusted time stamp of provenance.dsse.json: it stamps something else."
LINKED = "provenance.tsr is no trusted time stamp of provenance.dsse.json: it is not readable"


def stamped_by(by, at=AT):
    def act(folder, other):
        answer = changed(by=by, at=at)(time_stamps.parts((folder / "provenance.dsse.json").read_bytes())).answer()
        (folder / FILE).write_bytes(answer)

    return act


def flip(place):
    def act(folder, other):
        data = bytearray((folder / FILE).read_bytes())
        data[place] ^= 1
        (folder / FILE).write_bytes(data)

    return act


def link(folder, other):
    (folder / FILE).unlink()
    (folder / FILE).symlink_to(other / FILE)


@pytest.mark.parametrize(
    ("act", "words", "shared"),
    [
        (lambda folder, other: (folder / FILE).unlink(), REMOVED, True),
        (lambda folder, other: shutil.copy(other / FILE, folder / FILE), SWAPPED, False),
        (link, LINKED, True),
        (flip(-1), "signature failure", False),
        (flip(100), "provenance.tsr is no trusted time stamp", False),
        (lambda folder, other: (folder / FILE).write_bytes(b""), "ASN.1 parse error", False),
        (lambda folder, other: (folder / FILE).write_bytes(bytes(2**20)), "it has more than 65536 bytes", False),
        (stamped_by(STRANGER), "unable to get local issuer certificate", False),
        (stamped_by(signer(ROOT, (TWO_USAGES, True))), NOT_FOR_TIME, False),
        (stamped_by(signer(ROOT), AT + 2 * YEAR), "certificate has expired", False),
    ],
    ids=["removed", "swapped", "link", "signature", "content", "empty", "huge", "stranger", "usage", "expired"],
)
def test_verify_refuses_a_bad_time_stamp(two, tmp_path, act, words, shared):
    newest, other, root = two
    shutil.copytree(newest.parent, tmp_path / "tiny")
    folder = tmp_path / "tiny" / newest.name
    act(folder, tmp_path / "tiny" / other.name)
    lines, problem = audit.bundle(folder, [KEY.public_key()], roots_at=[root])
    assert problem and words in "\n".join(lines) and lines[-1].endswith("not as it was sealed")
    problems, _ = verify_bundle.verify(folder, [KEY.public_key().public_bytes_raw()])
    assert bool(problems) == shared, problems


def test_a_later_time_stamp_shows_how_much_later_it_is(two, tmp_path):
    shutil.copytree(two[0], tmp_path / "tiny" / two[0].name)
    folder = tmp_path / "tiny" / two[0].name
    stamped_by(CLOCK, AT + timedelta(days=1))(folder, None)
    assert "86402 s after its end by its own clock" in verify(folder, [KEY.public_key()], roots=ROOTS).looked_at


@pytest.fixture
def away():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    return time_stamp.Authority(f"http://127.0.0.1:{port}/", ROOTS)


def test_a_run_whose_authority_is_away_keeps_its_result_and_says_so(tmp_path, away):
    folder, run = sealed(tmp_path, authority=away)
    reason = f"{away.url} gave no time stamp: refused."
    assert (run["verdict"], run["time_stamp"]) == ("pass", {"authority": away.url, "missing": reason})
    assert json.loads((folder / "run.json").read_text()) == run and not (folder / FILE).exists()
    assert reason in (folder / "index.html").read_text()
    found = verify(folder, [KEY.public_key()], roots=ROOTS)
    assert found.problems == [] and "the time by an authority: " + reason[:-1] in found.notes
    lines, problem = audit.environment(folder.parent, [KEY.public_key()])
    assert lines[0] == f"{folder.name}: verifies, without a time stamp" and not problem
    problems, notes = verify_bundle.verify(folder, [KEY.public_key().public_bytes_raw()])
    assert problems == [] and "the time by an authority: " + reason[:-1] in notes


@pytest.mark.parametrize("asked", [True, False])
def test_a_time_stamp_that_comes_later_was_added(tmp_path, away, asked):
    folder, _ = sealed(tmp_path, authority=away if asked else None)
    stamped_by(CLOCK)(folder, None)
    found = verify(folder, [KEY.public_key()], roots=ROOTS).problems
    assert [f"{ADDED}."] == found == verify_bundle.verify(folder, [KEY.public_key().public_bytes_raw()])[0]


def test_the_command_takes_a_root(two, tmp_path, capsys):
    folder, _, root = two
    command = ["verify", str(folder), "--key", str(folder / "signer.pem"), "--time-stamp-ca"]
    assert main([*command, str(root)]) == 0 and "time-stamped 2026" in capsys.readouterr().out
    (tmp_path / "other.pem").write_text(certificates.pem(authority("another root").certificate))
    assert main([*command, str(tmp_path / "other.pem")]) == 1
    assert main([*command, str(folder / "signer.pem")]) == 2 and "There is no certificate in" in capsys.readouterr().err


def test_the_params_name_an_authority_and_its_root(tmp_path):
    root = tmp_path / "root.pem"
    root.write_text(certificates.pem(ROOT.certificate))
    write_params(tmp_path, more=f"time_stamp_url: http://tsa.example/tsr\ntime_stamp_ca_file: {root}\n")
    assert time_stamp.authority(load("tiny", folder=tmp_path)) == time_stamp.Authority("http://tsa.example/tsr", ROOTS)
    root.unlink()
    with pytest.raises(BundleError, match="There is no certificate in"):
        time_stamp.authority(load("tiny", folder=tmp_path))
