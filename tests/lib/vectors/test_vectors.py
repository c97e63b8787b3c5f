"""The test vectors without an Envoy: how they are read and remade, and which answers count as a difference."""

import json

import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import JWKRegistry, RSAKey

from lib.crypto.base64url import canonical, decoded, encoded, with_unused_bits
from lib.errors import RunbookError
from lib.probes.transport.messages import Reply
from lib.vectors import __main__ as vectors
from lib.vectors import envoy, model, resign, signatures
from lib.vectors.deviations import AGREES, LAXER, STRICTER, UNSENDABLE, Judged, explained
from lib.vectors.model import Vector
from lib.vectors.resign import Derived

ALGORITHMS = ["HS256", "RS256", "ES256", "ES512", "PS256"]
KEY = rsa.generate_private_key(65537, 2048)
JWK = {**RSAKey.import_key(KEY).as_dict(private=True), "alg": "RS256", "kid": "one"}
HEADER = encoded(b'{"alg":"RS256","kid":"one"}')
TEXT = f"{HEADER}.{encoded(b'foo')}"


def made(signature, result="invalid", text=TEXT, **more):
    given = {"group": "jws-0", "number": "1", "comment": "", "keys": (JWK,), "private": (JWK,), **more}
    return Vector(jws=f"{text}.{encoded(signature)}", result=result, **given)


def signed(text):
    return KEY.sign(text.encode(), padding.PKCS1v15(), SHA256())


def passes(token, key=JWK):
    try:
        jws.deserialize_compact(token, JWKRegistry.import_key(key), algorithms=ALGORITHMS)
    except (JoseError, ValueError):
        return False
    return True


def always(status, body=""):
    return lambda requests: [Reply(status, body=body) for _ in requests]


@pytest.mark.parametrize("one", [one for one in model.examples() if one.result == "valid"], ids=lambda one: one.number)
def test_an_rfc_example_is_signed_by_its_key(one):
    assert passes(one.jws, one.keys[0])


def test_all_rfc_examples_are_present_and_their_public_keys_have_no_private_part():
    found = {one.number: one.result for one in model.examples()}
    assert set(found) == {*(f"RFC 7515 A.{number}" for number in range(1, 8)), "RFC 7519 3.1", "RFC 7519 6.1"}
    assert [name for name in found if found[name] == "invalid"] == [
        *(f"RFC 7515 A.{number}" for number in (5, 6, 7)),
        "RFC 7519 6.1",
    ]
    assert not [one for one in model.examples() if "d" in one.keys[0]]
    same = {one.number: one.jws for one in model.examples()}
    assert same["RFC 7519 3.1"] == same["RFC 7515 A.1"] and same["RFC 7519 6.1"] == same["RFC 7515 A.5"]
    assert len(yaml.safe_load(model.EXAMPLES.read_text())["examples"]) == 9


def test_missing_vectors_are_an_error_that_names_the_command(tmp_path):
    with pytest.raises(
        RunbookError, match="has no vectors json_web_signature_test.json. Run `python -m sandbox vectors`"
    ):
        model.load(tmp_path)


def test_vectors_are_read_with_their_keys(tmp_path):
    public = {name: JWK[name] for name in ("kty", "n", "e", "alg", "kid")}
    test = {"tcId": 7, "comment": "c", "flags": ["F"], "jws": "a.b.c", "result": "valid"}
    group = {"private": JWK, "public": public, "tests": [test]}
    (tmp_path / model.FILES["jws"]).write_text(json.dumps({"testGroups": [group]}))
    group = {"private": {"keys": [JWK, JWK]}, "tests": [test]}
    (tmp_path / model.FILES["jwk"]).write_text(json.dumps({"testGroups": [group]}))
    one, other = model.load(tmp_path)
    assert (one.group, one.number, one.flags, one.keys) == ("jws-0", "7", ("F",), (public,))
    assert (other.group, len(other.keys), other.private) == ("jwk-0", 2, (JWK, JWK))


def test_a_valid_vector_is_valid_on_claims():
    (new,) = resign.derive([made(signed(TEXT), "valid")])
    assert passes(new.jws) and new.how == "signed again, RS256"
    assert json.loads(decoded(new.jws.split(".")[1]))["was"] == encoded(b"foo")


def test_a_flaw_in_the_padding_is_carried_over():
    """The new text's hash replaces the old one, behind the wrong bytes of the old encoding."""
    right = int.from_bytes(signed(TEXT))
    numbers = KEY.private_numbers()
    n, e, d = numbers.public_numbers.n, numbers.public_numbers.e, numbers.d
    block = pow(right, e, n).to_bytes(256)
    flawed = block[:40] + b"\xfe" + block[41:]
    (new,) = resign.derive([made(pow(int.from_bytes(flawed), d, n).to_bytes(256))])
    text, _, signature = new.jws.rpartition(".")
    opened = pow(int.from_bytes(decoded(signature)), e, n).to_bytes(256)
    wanted = pow(int.from_bytes(signed(text)), e, n).to_bytes(256)
    assert opened == wanted[:40] + b"\xfe" + wanted[41:]
    assert not passes(new.jws) and new.how.startswith("flaw carried over")


@pytest.mark.parametrize("place", [60, 230, 255])  # in the block, the hash, the last byte
def test_a_flaw_in_pss_is_carried_over(place):
    jwk = {**JWK, "alg": "PS256"}
    text = ".".join(map(encoded, (b'{"alg":"PS256"}', b"foo")))
    pss = padding.PSS(padding.MGF1(SHA256()), 32)
    numbers = KEY.private_numbers()
    n, d = numbers.public_numbers.n, numbers.d
    block = pow(int.from_bytes(KEY.sign(text.encode(), pss, SHA256())), numbers.public_numbers.e, n).to_bytes(256)
    flawed = block[:place] + bytes([block[place] ^ 1]) + block[place + 1 :]
    one = made(pow(int.from_bytes(flawed), d, n).to_bytes(256), text=text, keys=(jwk,), private=(jwk,))
    (new,) = resign.derive([one])
    mended, _ = signatures.flawed(jwk, "PS256", text, KEY.sign(text.encode(), pss, SHA256()))
    sent = new.jws.rpartition(".")[0]
    assert passes(f"{sent}.{encoded(mended(sent))}", jwk) and not passes(new.jws, jwk)


def test_edits_of_the_text_are_repeated_on_the_new_one():
    right = made(signed(TEXT), "valid")
    spaced = Vector(**{**vars(right), "jws": right.jws.replace(".", ".  ", 1), "result": "invalid"})
    cut = Vector(**{**vars(right), "jws": right.jws.rpartition(".")[0], "result": "invalid"})
    dotted = Vector(**{**vars(right), "jws": right.jws + ".", "result": "invalid"})
    gone = Vector(**{**vars(right), "jws": f"{HEADER}..{right.jws.split('.')[2]}", "result": "invalid"})
    new, *others = (one.jws for one in resign.derive([right, spaced, cut, dotted, gone]))
    assert others[1:] == [new.rpartition(".")[0], new + ".", f"{HEADER}..{new.split('.')[2]}"]
    assert others[0].split(".")[1] == "  " + new.split(".")[1]


def test_unused_bits_are_carried_over():
    odd = with_unused_bits(encoded(b"a"))
    text = f"{HEADER}.{odd}"
    (new,) = resign.derive([made(signed(text), text=text)])
    head, payload, signature = new.jws.split(".")
    assert payload != canonical(payload)
    assert signature == encoded(signed(f"{head}.{payload}"))


def test_an_embedded_key_becomes_ours():
    header = {"alg": "ES256", "jwk": {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}}
    text = f"{encoded(json.dumps(header).encode())}.{encoded(b'foo')}"
    (new,) = resign.derive([made(b"x" * 64, text=text)])
    brought = json.loads(decoded(new.jws.split(".")[0]))["jwk"]
    assert passes(new.jws, brought) and "attacker" in new.how


def test_a_verifier_that_accepts_everything_is_detected():
    """A rule explains only the token with a right signature."""
    wrong, dotted = made(b"x" * 256), made(signed(TEXT))
    dotted = Vector(**{**vars(dotted), "jws": dotted.jws + "."})
    forms = [(one, vectors.PLAIN, Derived(one.jws, "")) for one in (wrong, dotted)]
    rows = vectors.compare(forms, always(200), {})
    assert [(row.verdict, row.rule) for row in rows] == [(LAXER, ""), (LAXER, "empty part")]
    assert [row.unexplained for row in rows] == [True, False]


def test_a_verifier_that_refuses_everything_is_detected():
    one = made(signed(TEXT), "valid")
    (row,) = vectors.compare([(one, vectors.CLAIMS, Derived(one.jws, ""))], always(401, "Jwt verification fails"), {})
    assert (row.verdict, row.got, row.unexplained) == (STRICTER, "401 J18", True)


def test_an_unsendable_vector_is_not_sent():
    unsendable = [one for one in model.examples() if one.unsendable]
    right = made(signed(TEXT), group="jwk-3")
    forms = [(one, vectors.PLAIN, Derived(one.jws, "")) for one in [*unsendable, right]]
    rows = vectors.compare(forms, always(200), {"jwk-3": "bad key"})
    assert [row.verdict for row in rows] == [UNSENDABLE, UNSENDABLE, AGREES]
    assert rows[0].reason and rows[2].got == "not loaded: bad key"


def test_an_excuse_needs_a_right_signature():
    keys = ({**JWK, "use": "enc"},)
    right, wrong = made(signed(TEXT), keys=keys), made(b"x" * 256, keys=keys)
    assert explained(LAXER, Judged(right, right.jws, "200 app")).name == "use"
    assert explained(LAXER, Judged(wrong, wrong.jws, "200 app")) is None


def test_the_stand_alone_envoy_listens_only_on_loopback_and_has_no_admin_port():
    made = envoy.configuration([envoy.KeySet("a", "{}"), envoy.KeySet("b", "{}", 5)], 7)
    (listener,) = made["static_resources"]["listeners"]
    assert listener["address"]["socket_address"] == {"address": "127.0.0.1", "port_value": 7}
    assert "admin" not in made
    (manager,) = listener["filter_chains"][0]["filters"]
    providers = manager["typed_config"]["http_filters"][0]["typed_config"]["providers"]
    assert [providers[name]["clock_skew_seconds"] for name in "ab"] == [60, 5]
