"""The engines: each can make every state and session that the table of probes names, and no change is none."""

from string import Formatter

import pytest

from lib.login.engines import ENGINES, ENVOY, OAUTH2_PROXY, SESSION
from lib.probes import model

TOKENS = {"good", "no_audience", "expired", "id_token"}  # the other names in braces
JARS = {
    ENVOY: [{**dict.fromkeys(ENGINES[ENVOY].session, f"gcm.{who * 40}"), "__Host-expires": "1000"} for who in "AB"],
    OAUTH2_PROXY: [{SESSION: f"{who * 40}|1000|{who.lower() * 40}="} for who in "AB"],
}
STATES = {
    ENVOY: {"url": "/page", "csrf_token": "f1.x=", "flow_id": "f1"},
    OAUTH2_PROXY: {"csrf_token": "x", "url": "/a:b"},
}


@pytest.mark.parametrize("name", ENGINES)
def test_each_session_of_the_table_can_be_made_and_differs_from_the_whole_one(name):
    lines = [line for probe in model.load(model.LOGIN) for line in probe.headers]
    named = {part for line in lines for _, part, _, _ in Formatter().parse(line) if part} - TOKENS
    made = ENGINES[name].sessions(*JARS[name], "a.b.c")
    assert named <= set(made)
    same = {one for one in made if all(made[one].get(key) == value for key, value in JARS[name][0].items())}
    assert same == ({"session"} if name == ENVOY else {"session", "tokens", "whole"})


@pytest.mark.parametrize("name", ENGINES)
def test_a_state_is_read_and_made_again(name):
    engine = ENGINES[name]
    assert engine.decoded(engine.encoded(STATES[name])) == STATES[name]
    assert engine.flow_cookies(engine.encoded(STATES[name]), "nonce")[0].startswith("__Host-")
    without = {key: value for key, value in STATES[name].items() if key != "csrf_token"}
    assert not engine.decoded(engine.encoded(without)).get("csrf_token")


def test_a_value_without_its_seal_is_shorter():
    assert ENGINES[ENVOY].unsealed("gcm.abc") == ENGINES[OAUTH2_PROXY].unsealed("abc|1|s") == "abc"
