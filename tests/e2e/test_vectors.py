"""A real Envoy judges public test vectors, and good tokens with one change."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey

from lib.crypto.base64url import decoded, encoded, with_unused_bits
from lib.errors import RunbookError
from lib.polling import until
from lib.probes.transport.messages import Reply, Request
from lib.probes.transport.sockets import Connection
from lib.vectors import __main__ as vectors
from lib.vectors import envoy, model, resign, signatures
from lib.vectors.deviations import AGREES, LAXER, STRICTER

ROOT = Path(__file__).resolve().parents[2]
ATTACKED = "jws-1"  # the group with a token that brings its attacker's key
CASES = 300
SENDABLE = [chr(code) for code in range(32, 127)] + ["\t"]  # what a header line can hold
SKIPPED = re.compile(r"^[^A-Za-z0-9_-]*")  # before the token, Envoy passes over what is not of base64url

pytestmark = pytest.mark.sandbox


@pytest.fixture(scope="module")
def known(places) -> list[model.Vector]:
    return [*model.load(places["vectors"]), *model.examples()]


@pytest.fixture(scope="module")
def rows(places, known) -> list[vectors.Row]:
    return vectors.judge(places["envoy"], known)


def test_every_difference_has_its_reason(rows):
    assert not [row for row in rows if row.unexplained]


def test_every_vector_is_there_in_both_forms(rows):
    for form in (vectors.PLAIN, vectors.CLAIMS):
        assert Counter(row.group[:3] for row in rows if row.form == form) == {"jws": 401, "jwk": 26, "rfc": 9}


def test_valid_vectors_pass_on_claims_and_the_signature_is_what_refuses_the_forged(rows):
    made = [row for row in rows if row.form == vectors.CLAIMS and row.group[:3] == "jws"]
    every = Counter((row.expected, row.verdict) for row in made)
    assert every["valid", AGREES] >= 40 and every["invalid", AGREES] >= 340
    padded = {row.got for row in made if row.flags in ("ModifiedPadding", "ModifiedSignature")}
    assert padded == {"401 J18"}


def test_the_rfc_examples_pass_once_their_age_does_not_count(rows):
    found = {(row.number, row.form): row.got for row in rows if row.group.startswith("rfc")}
    for number in ("RFC 7515 A.1", "RFC 7515 A.2", "RFC 7515 A.3", "RFC 7519 3.1"):
        assert found[number, vectors.PLAIN] == "401 J15" and found[number, vectors.CLAIMS] == "200 app"
    assert found["RFC 7515 A.5", vectors.CLAIMS].startswith("401")


def test_a_vector_that_is_signed_again_keeps_its_verdict(known):
    """By the arithmetic, not by Envoy: the valid are signed by their key, and no padding with a flaw is."""
    plain = [one for one in known if one.group.startswith("jws") and one.jws.count(".") == 2]
    right = {True: 0, False: 0}
    for one, new in zip(plain, resign.derive(plain), strict=True):
        text, _, signature = new.jws.rpartition(".")
        header = json.loads(decoded(text.partition(".")[0]) or "{}")
        found = [signatures.recognised(key, str(header.get("alg")), text, decoded(signature)) for key in one.private]
        holds = any(made and made[1] == f"signed again, {header.get('alg')}" for made in found)
        right[holds] += 1
        if one.result == "valid" and one.number not in ("372", "373"):  # signed over other characters than they have
            assert holds, one
        if set(one.flags) & {"ModifiedPadding", "ModifiedSignature", "AlgIsNone"}:
            assert not holds, one
    assert right[True] > 40 and right[False] > 300


def test_an_envoy_with_the_attackers_key_is_found_out(places, known):
    """The invented hole: the group's keys are the attacker's, so his token passes and the owner's does not."""
    x, y = map(encoded, signatures.ec_public(resign.ATTACKER))
    key = {"kty": "EC", "crv": "P-256", "kid": "kid-ec-sign", "alg": "ES256", "x": x, "y": y}
    found = vectors.judge(places["envoy"], [replace(one, keys=(key,)) for one in known if one.group == ATTACKED])
    left = [row for row in found if row.unexplained and row.form == vectors.CLAIMS]
    assert {row.verdict for row in left} == {LAXER, STRICTER}
    assert [row.comment for row in left if row.verdict == LAXER] == ["rejectsAttackerProvidedEmbeddedJwk"]


def test_the_command_prints_the_table_in_time(places, tmp_path):
    command = [sys.executable, "-m", "lib.vectors", "--csv", str(tmp_path / "rows.csv")]
    command += ["--envoy", str(places["envoy"]), "--vectors", str(places["vectors"])]
    start = time.monotonic()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and time.monotonic() - start < 30
    assert "laxer" in done.stdout and "no reason known" not in done.stdout
    with (tmp_path / "rows.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 2 * (401 + 26 + 9)
    assert "eyJ" not in (tmp_path / "rows.csv").read_text()


def test_an_envoy_that_does_not_start_says_why(places):
    with (
        pytest.raises(RunbookError, match="invalid local jwks"),
        envoy.running(places["envoy"], [envoy.KeySet("a", "{}")]),
    ):
        raise AssertionError("it must not come so far")


@pytest.mark.skipif(not shutil.which("setpriv"), reason="without setpriv Envoy outlives a killed Python")
def test_a_killed_python_takes_its_envoy_along(places, tmp_path):
    code = (
        "import pathlib, sys, signal; from lib.vectors import envoy\n"
        'key = \'{"keys":[{"kty":"oct","k":"c2VjcmV0"}]}\'\n'
        "with envoy.running(pathlib.Path(sys.argv[1]), [envoy.KeySet('a', key)]) as address:\n"
        "    print(address, flush=True); signal.pause()"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", code, str(places["envoy"])]
    started = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    address = started.stdout.readline().strip()
    assert asked(address).answer == "401 J19"
    started.kill()
    started.communicate()
    assert until(lambda: asked(address).reason == "refused", deadline=5).held


def asked(address: str, path: str = "/a", *headers: str) -> Reply:
    with Connection(address) as line:
        return line.ask(Request("GET", path, ("Host: bare.example", *headers)))


class Target:
    """An Envoy that trusts two keys, and a good token of each."""

    def __init__(self, address: str, rsa: RSAKey, ec: ECKey):
        claims = {"iss": "https://vectors.example", "sub": "somebody"}
        self.address = address
        self.good = {
            "RS256": jwt.encode({"alg": "RS256", "kid": "rsa"}, claims, rsa),
            "ES256": jwt.encode({"alg": "ES256", "kid": "ec"}, claims, ec),
        }

    def ask(self, token: str) -> int:
        """The status of one request; 0 where the connection ended without one."""
        return asked(self.address, "/two", f"Authorization: Bearer {token}").status


@pytest.fixture(scope="module")
def target(places) -> Target:
    rsa = RSAKey.generate_key(2048, {"kid": "rsa", "alg": "RS256"})
    ec = ECKey.generate_key("P-256", {"kid": "ec", "alg": "ES256"})
    keys = json.dumps({"keys": [rsa.as_dict(private=False), ec.as_dict(private=False)]})
    with envoy.running(places["envoy"], [envoy.KeySet("two", keys)]) as address:
        yield Target(address, rsa, ec)


def meant(token: str, alg: str) -> tuple[str, str, tuple[int, ...]] | None:
    """What a token says, however it is spelt: header and payload as they stand, and the signature's numbers.

    The signed bytes are the characters of the header, the dot, and the characters of the payload: no other spelling of
    them is signed. The signature itself is not signed; its characters encode its number (RS256) or its two (ES256).
    These edits change no signed byte and no number of the signature, and may pass: characters outside of base64url
    before the token, extra dots, spaces and tabs in or around the signature, padding behind it, the bits of
    its last character that stand for nothing (four of six), and with ES256 a byte behind the two halves.
    """
    parts = [part for part in SKIPPED.sub("", token, count=1).split(".") if part.strip()]
    if len(parts) != 3:
        return None
    text = re.sub(r"[ \t]", "", parts[2]).rstrip("=")
    return parts[0], parts[1], numbers(decoded(text), alg) if re.fullmatch(r"[A-Za-z0-9_-]*", text) else ()


def numbers(signature: bytes, alg: str) -> tuple[int, ...]:
    if alg == "RS256":
        return len(signature), int.from_bytes(signature)
    half = len(signature) // 2
    return int.from_bytes(signature[:half]), int.from_bytes(signature[half : 2 * half])


@st.composite
def mutations(draw) -> tuple[str, str, int, float, str]:
    """Draw an algorithm, an edit, the part, the position in the part (1 is its end), and the character."""
    act = draw(st.sampled_from(["flip", "insert", "delete", "replace"]))
    near = st.one_of(st.floats(0, 1), st.sampled_from([0.0, 1.0]))
    return (
        draw(st.sampled_from(["RS256", "ES256"])),
        act,
        draw(st.integers(0, 2)),
        draw(near),
        draw(st.sampled_from(SENDABLE)),
    )


def mutated(token: str, act: str, part: int, place: float, character: str) -> str:
    parts = token.split(".")
    text = parts[part]
    at = round(place * (len(text) - (act != "insert")))
    flipped = chr(ord(text[min(at, len(text) - 1)]) ^ 1)
    put = {"flip": flipped, "insert": character, "delete": "", "replace": character}[act]
    parts[part] = text[:at] + put + text[at + (act != "insert") :]
    return ".".join(parts)


@settings(max_examples=CASES, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(("RS256", "insert", 1, 0.5, "."))
@example(("ES256", "replace", 2, 1.0, "A"))
@given(mutations())
def test_no_mutation_of_a_signed_byte_passes(target, mutation):
    alg, *how = mutation
    token = mutated(target.good[alg], *how)
    if meant(token, alg) != meant(target.good[alg], alg):
        assert target.ask(token) in (400, 401, 403), how


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(["RS256", "ES256"]), st.data())
def test_no_two_mutations_pass_either(target, alg, data):
    """Two changes, in any two places: a swap, or one that would mend the other."""
    token = target.good[alg]
    for _ in range(2):
        token = mutated(token, *data.draw(mutations())[1:]) if token.count(".") == 2 else token
        token = token if all(token.split(".")) else target.good[alg]
    if meant(token, alg) != meant(target.good[alg], alg):
        assert target.ask(token) in (400, 401, 403)


@pytest.mark.parametrize("alg", ["RS256", "ES256"])
def test_other_spellings_of_the_same_bytes_pass(target, alg):
    """A baseline, not a wish: a token that passed once can be spelt so that it looks new, to a list of used ones."""
    good = target.good[alg]
    head, load, made = good.split(".")
    spelt = [good, f"{good}.", f".{good}", f"{head}..{load}.{made}", f"={good}", f"{good}=="]
    spelt += [f"{good[:-9]} {good[-9:]}", f"{head}.{load}.{with_unused_bits(made)}"]
    assert [target.ask(one) for one in spelt] == [200] * len(spelt)
    assert {meant(one, alg) for one in spelt} == {meant(good, alg)}


def test_an_es256_signature_may_be_longer_than_it_should(target):
    """Zeros before both numbers, and one byte behind them: RFC 7518 3.4 wants 64 bytes; Envoy takes two halves."""
    head, load, made = target.good["ES256"].split(".")
    r, s = decoded(made)[:32], decoded(made)[32:]
    longer = [bytes(9) + r + bytes(9) + s, r + s + b"x"]
    assert [target.ask(f"{head}.{load}.{encoded(one)}") for one in longer] == [200, 200]
    assert target.ask(f"{head}.{load}.{encoded(r + s + b'xx')}") == 401


def test_an_es256_signature_has_a_twin(target):
    """ECDSA itself: where (r, s) holds, (r, order - s) does too. Neither needs the key to be made from the other."""
    head, load, made = target.good["ES256"].split(".")
    r, s = decoded(made)[:32], int.from_bytes(decoded(made)[32:])
    twin = encoded(r + (signatures.ORDER - s).to_bytes(32))
    assert twin != made and target.ask(f"{head}.{load}.{twin}") == 200
