"""The hostile probes of the login: the table reads well, and each answer of the gateway gets its name."""

import re
from dataclasses import replace

import pytest

from lib.login import hostile, stage, visitor
from lib.login.engines import ENGINES, ENVOY, flipped
from lib.names import LOGIN
from lib.probes import model
from lib.probes.reporting import results
from lib.probes.runner import RetryPolicy
from lib.probes.transport.messages import Reply
from tests.support.little_cluster import Served, new_run, no_file_is_left  # noqa: F401

PROBES = model.load(model.LOGIN)
RESULT = results.judge(PROBES[0], LOGIN, "302 login")
HOST, ISSUER = "app.example", "https://sso.example/realms/istio"
TAIL = ";path=/;Max-Age=600;secure;HttpOnly;SameSite=Lax"


def test_there_are_enough_rows_and_each_has_an_id_and_a_way_of_its_own():
    assert len(PROBES) == len({probe.id for probe in PROBES}) == 75
    assert {probe.world for probe in PROBES} == {LOGIN} and {probe.family for probe in PROBES} == {"L"}
    assert {probe.how for probe in PROBES} - {"http"} == set(hostile.SCENARIOS)
    assert not {probe.id for probe in PROBES} & {probe.id for probe in model.load()}


@pytest.mark.parametrize(
    ("location", "answer"),
    [
        (f"{ISSUER}/protocol/openid-connect/auth?state=x", "302 login"),
        (f"{ISSUER}/protocol/openid-connect/logout?client_id=x", "302 logout"),
        ("https://app.example//evil.example/", "302 page"),
        ("https:/" + "/app.example@evil.example/", "302 elsewhere"),
        ("https://app.example.evil.example/", "302 elsewhere"),
        ("http://app.example/", "302 elsewhere"),
        ("//evil.example/", "302 elsewhere"),
    ],
)
def test_a_redirect_is_named_by_where_it_leads(location, answer):
    assert stage.short_answer(Reply(302, headers={"location": location}), HOST, ISSUER) == answer


def test_a_refusal_is_named_by_who_refused():
    through = {"x-envoy-upstream-service-time": "1"}
    assert stage.short_answer(Reply(401, body="OAuth flow failed."), HOST, ISSUER) == "401 oauth"
    assert stage.short_answer(Reply(401, body="Jwt is expired", headers=through), HOST, ISSUER) == "401 J15"
    assert stage.short_answer(Reply(200, body="{}", headers=through), HOST, ISSUER) == "200 app"


@pytest.mark.parametrize("missing", ["", "path=/;", ";secure", ";HttpOnly", ";SameSite=Lax"])
def test_a_cookie_that_lacks_one_attribute_is_weak(missing):
    tail = TAIL.replace(missing, "") if missing else TAIL
    both = f"__Host-nonce=a=={TAIL}, __Host-verifier=b{tail}"
    assert hostile.cookies_answer(Reply(302, headers={"set-cookie": both})) == f"302 {'weak' if missing else 'secure'}"
    assert hostile.cookies_answer(Reply(302)) == "302 weak"


def browser(*replies):
    sent, answers = [], list(replies)

    def transport(requests):
        sent.extend(requests)
        return [answers.pop(0) for _ in requests]

    return visitor.Visitor(ENGINES[ENVOY], transport, HOST, ISSUER, "alice", "password"), sent


def test_a_visitor_keeps_cookies_and_forgets_those_that_are_deleted():
    state = ENGINES[ENVOY].encoded({"url": "https://app.example/", "csrf_token": "t", "flow_id": "f1"})
    first = Reply(
        302,
        headers={
            "set-cookie": f"__Host-nonce.f1=t{TAIL}, __Host-hmac=x=={TAIL}",
            "location": f"{ISSUER}/a?state={state}",
        },
    )
    person, sent = browser(first, Reply(200, headers={"set-cookie": "__Host-nonce.f1=deleted; path=/; Secure"}))
    flow = person.begin("/page")
    assert person.flow_cookies(flow, "nonce")[0] == "__Host-nonce.f1"
    assert person.jar == {"__Host-nonce.f1": "t", "__Host-hmac": "x=="}
    person.ask("/page")
    assert person.jar == {"__Host-hmac": "x=="}
    assert not [line for line in sent[0].headers if line.startswith("Cookie")]
    assert "Cookie: __Host-nonce.f1=t; __Host-hmac=x==" in sent[1].headers
    assert person.twin().jar == {}


def test_a_changed_value_is_another_of_the_same_length():
    text = "gcm." + "A" * 40
    assert flipped(text) != text and len(flipped(text)) == len(text)
    assert re.fullmatch(r"gcm\.[AB]+", flipped(text))


@pytest.mark.parametrize(
    ("answers", "deadline", "verdict", "tries"),
    [
        (["pass"], 9, "pass", 1),
        (["fail", "pass", "fail", "pass", "pass"], 9, "pass", 5),
        (["fail", "pass"], 0, "fail", 2),
    ],
)
def test_a_red_probe_is_asked_again_until_it_is_right_twice_in_a_row(answers, deadline, verdict, tries):
    given = iter(answers)
    once = lambda: replace(RESULT, verdict=next(given))  # noqa: E731
    found = hostile.settled(once, RetryPolicy(streak=2, deadline=deadline, pause=0.01))
    assert (found.verdict, found.tries) == (verdict, tries)


def test_without_a_login_each_probe_is_skipped_with_the_reason():
    run = new_run(Served(), login_engine="none")
    found = hostile.ask(run)
    assert {(one.verdict, one.note) for one in found} == {("skipped", "login_engine: none")} and len(run.checks) == 75
