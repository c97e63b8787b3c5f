"""Where the params ask for a challenge, the probes of users without a token expect it, and no other probe does."""

import pytest

from lib.probes import challenge, model

EVERY = model.load()
CHANGED = {one.id for one in challenge.of_probes(EVERY) if one not in EVERY}


def made(**more):
    return model.Probe(id="X01", title="x", source="x", **{"expect": "403 R", **more})


def test_only_rbacs_403_becomes_401_and_only_where_the_request_has_no_token():
    for before, after in zip(EVERY, challenge.of_probes(EVERY), strict=True):
        for profile in model.PROFILES:
            was, now = before.expected(profile), after.expected(profile)
            wanted = was.replace("403 R", "401 R").replace("7 R", "16 R")
            assert now == was or (now == wanted and challenge.expects(before))
    assert {"A01", "B07", "B14a", "A12", "F20c", "F32a", "F33a"} <= CHANGED


def test_tokens_without_the_right_services_preflights_and_worlds_keep_their_403():
    kept = {"D23a", "D32a", "A05", "A05b", "A06b", "F18a", "F18c", "G06", "G08a", "E01"}
    assert not kept & CHANGED
    assert [one.id for one in EVERY if one.world and one.id in CHANGED] == ["G24c"]  # it goes to the hardened gateway


@pytest.mark.parametrize(
    ("probe", "expected"),
    [
        (made(), "401 R"),
        (made(token="no sub"), "403 R"),
        (made(caller="visitor"), "403 R"),
        (made(world="open"), "403 R"),
        (made(world="hardened"), "401 R"),
        (made(token="good", headers=["Connection: close, Authorization"]), "401 R"),
        (made(method="OPTIONS"), "401 R"),
        (made(method="OPTIONS", headers=["Access-Control-Request-Method: GET"]), "403 R"),
        (made(expect=["200 app", "403 R"], how="keep-alive"), "200 app, 401 R"),
        (made(expect=["7 R", "16 J15"], how="grpc"), "16 R, 16 J15"),
        (made(method="CONNECT", token="good"), "401 R"),
        (made(how="other namespace"), "403 R"),
        (made(expect="403 J16"), "403 J16"),
    ],
)
def test_who_expects_a_challenge(probe, expected):
    assert challenge.of_probes([probe])[0].expected(model.FIGURE_2) == expected


def test_the_baseline_of_measured_probes_follows():
    known = {"A01": {"figure-2": "403 R", "open": "403 R"}, "A05": {"figure-2": "403 R"}}
    assert challenge.of_baseline(known, EVERY) == {
        "A01": {"figure-2": "401 R", "open": "403 R"},
        "A05": {"figure-2": "403 R"},
    }
