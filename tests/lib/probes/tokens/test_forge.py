"""Forgers do what they say, and what they change in signed bytes no verifier lets pass."""

import hmac
import json
import time
from base64 import b64decode

import pytest
from cryptography import x509
from hypothesis import given, settings
from hypothesis import strategies as some
from joserfc import jws
from joserfc.errors import JoseError

from lib.crypto import base64url, jwt
from lib.errors import ParamsError
from lib.istio.answers import RBAC
from lib.keycloak import realm_keys
from lib.probes.scenarios import requests as scenarios_requests
from lib.probes.scenarios.requests import EDGES, Context
from lib.probes.tokens import forge
from lib.probes.tokens.catalogue import ISSUED, TOKENS
from lib.probes.tokens.keys import KINDS, SigningKey
from lib.probes.tokens.kit import NEEDS, OWN, Kit, Missing
from lib.probes.transport.messages import Reply

ISSUER = "https://sso.example/realms/istio"
REALMS, OURS, NOBODYS = (SigningKey.generate() for _ in range(3))
CLAIMS = {
    "iss": ISSUER,
    "aud": ["istio", "account"],
    "sub": "alice",
    "exp": 2_000_000_000,
    "iat": 1_999_999_700,
    "jti": "1",
    "typ": "Bearer",
    "azp": "istio",
    "realm_access": {"roles": ["reader"]},
}
GOOD = forge.signed(REALMS, CLAIMS)
PUBLISHED = [
    {**REALMS.public, "x5c": [REALMS.certificate()]},
    {**NOBODYS.public, "kid": "for encryption", "use": "enc", "alg": "RSA-OAEP"},
    OURS.public,
]
FEW = settings(max_examples=60)
texts = some.text('ab"\\{}.\0\u00e9\u2028\U0001f511', max_size=8)
values = some.one_of(some.none(), some.booleans(), some.integers(), texts, some.lists(texts, max_size=3))
objects = some.dictionaries(texts, values, max_size=5)


def issued(name):
    claims = {**CLAIMS, "iss": "https://sso.example/realms/other"} if name == "other realm" else CLAIMS
    return forge.signed(REALMS, {**claims, "name": name})


def kit(**more):
    asked = {
        "good": GOOD,
        "catalogue": TOKENS,
        "issued": issued,
        "jwks": PUBLISHED,
        "own": OURS,
        "attacker": NOBODYS,
        "issuer": ISSUER,
    }
    return Kit(**{**asked, "audience": "istio", "now": time.time, "canary": "http://canary.example/n", **more})


def passes(token, key=REALMS):
    """Whether joserfc, as a verifier that wants this key and RS256, lets the token pass."""
    try:
        jws.deserialize_compact(token, key.jwk, algorithms=["RS256"])
    except (JoseError, ValueError):
        return False
    return True


def test_the_good_token_passes_the_check_that_the_forged_ones_are_put_to():
    assert passes(GOOD)
    assert not passes(GOOD, OURS)


@FEW
@given(some.sampled_from([forge.HEADER, forge.PAYLOAD, forge.SIGNATURE]), some.integers(0, 1 << 16))
def test_no_bit_of_a_good_token_can_change(where, bit):
    changed = forge.flipped(GOOD, where, bit)
    before, after = (base64url.decoded(token.split(".")[where]) for token in (GOOD, changed))
    assert sum((one ^ two).bit_count() for one, two in zip(before, after, strict=True)) == 1
    assert not passes(changed)


@FEW
@given(some.integers(0, GOOD.rindex(".") - 1), some.sampled_from(base64url.ALPHABET + "."))
def test_no_character_of_what_is_signed_can_change(place, character):
    changed = GOOD[:place] + character + GOOD[place + 1 :]
    assert changed == GOOD or not passes(changed)


@FEW
@given(some.integers(1, len(GOOD) - 1))
def test_a_cut_token_does_not_pass(count):
    cut = forge.cut(GOOD, count)
    assert GOOD.startswith(cut) and len(cut) == len(GOOD) - count
    assert not passes(cut)


@FEW
@given(objects)
def test_a_header_is_changed_and_nothing_else(header):
    changed = forge.with_header(GOOD, header)
    assert jwt.header(changed) == header
    assert changed.split(".")[1:] == GOOD.split(".")[1:]
    assert not passes(changed)


@FEW
@given(objects)
def test_claims_are_changed_and_nothing_else(claims):
    changed = forge.with_claims(GOOD, claims)
    assert jwt.claims(changed) == claims
    assert changed.split(".")[::2] == GOOD.split(".")[::2]
    assert not passes(changed)


@settings(max_examples=20)
@given(objects)
def test_what_is_signed_passes_under_its_own_key_alone(claims):
    token = forge.signed(OURS, claims)
    assert jwt.claims(token) == claims
    assert jwt.header(token) == {"alg": "RS256", "typ": "JWT", "kid": OURS.kid}
    assert passes(token, OURS) and not passes(token)


@FEW
@given(objects, texts, some.lists(values, min_size=2, max_size=4))
def test_a_repeated_member_stands_as_often_as_it_is_given(said, name, repeats):
    pairs = json.loads(forge.repeated(said, name, repeats), object_pairs_hook=list)
    assert [value for member, value in pairs if member == name] == repeats
    assert {member for member, _ in pairs} == {*said, name}


@FEW
@given(objects, texts, values)
def test_a_raw_member_stands_as_it_is(said, name, value):
    raw = forge.raw_member(said, name, json.dumps(value).encode())
    assert json.loads(raw) == {**said, name: value}


@FEW
@given(some.binary(max_size=40))
def test_base64url_is_read_back(data):
    text = base64url.encoded(data)
    assert base64url.decoded(text) == data and "=" not in text


@pytest.mark.parametrize("name", ["PEM", "DER", "JWK", "modulus", "certificate"])
def test_confusion_is_a_right_hmac_over_a_text_of_the_public_key(name):
    secret = forge.public_texts(PUBLISHED[0])[name]
    token = forge.hmac_signed(GOOD, secret)
    assert jwt.header(token) == {**jwt.header(GOOD), "alg": "HS256"}
    text, _, signature = token.rpartition(".")
    assert base64url.decoded(signature) == hmac.digest(
        secret, text.encode(), "sha256"
    )  # joserfc knows better than to check it
    assert jwt.claims(token) == CLAIMS


def test_the_texts_of_a_public_key_are_that_keys():
    texts = forge.public_texts(PUBLISHED[0])
    assert texts["PEM"].startswith(b"-----BEGIN PUBLIC KEY")
    assert base64url.encoded(texts["modulus"]) == REALMS.public["n"]
    assert forge.public_texts(REALMS.public)["certificate"] == b""


def test_another_spelling_of_the_same_signature():
    other = forge.malleable(GOOD)
    assert other != GOOD and base64url.decoded(other.split(".")[2]) == base64url.decoded(GOOD.split(".")[2])
    with pytest.raises(ValueError, match="unused bits"):
        forge.malleable("e30.e30.AAAA")


def test_a_long_token_passes():
    for length in (2000, 8191, 8192):
        token = forge.long(OURS, CLAIMS, length)
        assert length - 3 <= len(token) <= length and passes(token, OURS)


def test_forms():
    assert forge.with_claims(GOOD, b"\xff").split(".")[1] == "_w"
    assert json.loads(forge.nested(3)) == [[[]]]
    assert len(forge.five_parts(GOOD).split(".")) == 5
    assert forge.without({"a": 1, "b": 2}, "a", "c") == {"b": 2}
    assert forge.with_signature(GOOD, b"").endswith(".")


@pytest.mark.parametrize("kind", KINDS)
def test_a_key_signs_by_its_algorithm_and_shows_no_private_half(kind):
    key = SigningKey.generate(kind, "mine")
    assert key.public["kid"] == "mine" and key.public["alg"] == key.alg == KINDS[kind]
    assert not {"d", "p", "q"} & key.public.keys()
    assert repr(key) == "SigningKey(kid='mine')"
    name = "Ed25519" if kind == "OKP" else key.alg
    jws.JWSRegistry(algorithms=[name]).get_alg(name).verify(b"data", key.sign(b"data"), key.jwk)


def test_a_key_is_kept_as_pem_and_named_as_keycloak_names_it():
    kept = SigningKey.from_pem(OURS.pem())
    assert kept.public == OURS.public and kept.kid == realm_keys.key_id(OURS.pem())
    with pytest.raises(ParamsError, match="RSA key as PEM"):
        SigningKey.from_pem("-----BEGIN")
    with pytest.raises(ParamsError, match="RSA, EC, OKP"):
        SigningKey.generate("DSA")


def test_a_certificate_is_of_the_key():
    numbers = x509.load_der_x509_certificate(b64decode(OURS.certificate())).public_key().public_numbers()
    assert numbers.n == int.from_bytes(base64url.decoded(OURS.public["n"]))


@pytest.mark.parametrize("name", TOKENS)
def test_every_token_can_be_made_and_sent(name):
    token = FULL.token(name)
    assert token.isascii() and token.isprintable() and token.strip() == token
    assert (FULL.token(name) == token) == TOKENS[name].kept
    assert name == "good" or token != GOOD
    assert not set(name) & set("{}[]:!"), "a name stands in braces"
    assert TOKENS[name].about and TOKENS[name].needs in ("", *NEEDS)


FULL = kit()


@pytest.mark.parametrize("name", [name for name, token in TOKENS.items() if token.needs != OWN and name not in ISSUED])
def test_what_needs_no_key_of_the_realm_is_refused_unless_it_spells_the_same_bytes(name):
    token = FULL.token(name)
    same = {"good", "signature malleable", "signature padded", "signature with a space", "empty section"}
    assert name in same or not passes(token) and not passes(token, OURS)


def test_an_own_token_is_good_but_for_its_one_flaw():
    said = {name: jwt.claims(FULL.token(name)) for name in ("wrong aud", "no sub", "expired 65 s ago", "no typ")}
    fresh = {"iat", "exp", "jti"}
    differs = {
        name: {key for key in {*CLAIMS, *claims} - fresh if claims.get(key) != CLAIMS.get(key)}
        for name, claims in said.items()
    }
    assert differs == {"wrong aud": {"aud"}, "no sub": {"sub"}, "expired 65 s ago": set(), "no typ": {"typ"}}
    assert said["wrong aud"]["exp"] > time.time() > said["expired 65 s ago"]["exp"] + 60
    assert len({claims["jti"] for claims in said.values()}) == len(said)
    assert all(passes(FULL.token(name), OURS) for name in said)


def test_what_the_kit_lacks_is_told():
    bare = kit(own=None, jwks=[], canary="")
    for name, needs in (("no exp", "own"), ("HS256 keyed with the PEM", "jwks"), ("jku", "canary")):
        with pytest.raises(Missing, match=NEEDS[needs]):
            bare.token(name)
    with pytest.raises(Missing, match="certificates"):
        kit(jwks=[REALMS.public]).token("HS256 keyed with the certificate")
    with pytest.raises(Missing, match="encryption"):
        kit(jwks=[REALMS.public]).token("kid for encryption")
    with pytest.raises(KeyError, match="correct the table"):
        bare.token("no such thing")


def test_what_cannot_be_minted_is_told_at_every_asking():
    def none(name):
        raise Missing(f"no {name} here")

    without = kit(issued=none)
    for _ in range(2):
        with pytest.raises(Missing, match="no id here"):
            without.token("id")


def test_a_token_whose_seconds_count_is_new_at_each_call():
    assert not any(TOKENS[name].kept for name in (*EDGES, "ending", "expired 10 s ago"))


def test_edges_are_asked_early_in_a_second_each_made_anew():
    asked = {}

    def ask(requests):
        claims = jwt.claims(requests[0].headers[1].removeprefix("Authorization: Bearer "))
        asked[requests[0].label] = int(time.time()), claims["exp"], claims.get("nbf")
        return [Reply(403, body=RBAC)]

    assert scenarios_requests.edges(Context("", "a.example", ask, FULL.token, "D03")) == ["403 R"] * 5
    assert [asked[f"D03-{number}"][1] - asked[f"D03-{number}"][0] for number in (1, 2, 3)] == [-60, -59, -61]
    assert [asked[f"D03-{number}"][2] - asked[f"D03-{number}"][0] for number in (4, 5)] == [60, 62]


def test_an_edge_that_was_answered_in_the_next_second_is_asked_again():
    asked = []

    def ask(requests):
        asked.append(requests[0].label)
        if requests[0].label != "D03-2" or asked.count("D03-2") > 1:
            return [Reply(403, body=RBAC)]
        time.sleep(1)
        return [Reply(401, body="Jwt is expired")]

    assert scenarios_requests.edges(Context("", "a.example", ask, FULL.token, "D03")) == ["403 R"] * 5
    assert asked.count("D03-2") >= 2


def test_servers_that_must_not_be_called_are_the_canary():
    for name in ("jku", "x5u"):
        assert jwt.header(FULL.token(name))[name] == f"http://canary.example/n/{name}"


def test_a_kit_shows_no_token():
    assert "eyJ" not in repr(FULL)
