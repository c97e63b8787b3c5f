"""No state of a login is a redirect loop: a browser that follows every redirect ends at a page, or at a refusal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from urllib.parse import urlsplit

import pytest

from lib import params
from lib.keycloak import admin
from lib.keycloak.oidc import send
from lib.labs import callback, login
from lib.labs.lab import Lab
from lib.login import application
from lib.login.engines import flipped
from lib.login.visitor import Visitor
from lib.polling import wait
from lib.probes.scenarios.rotation import stopped
from lib.record.events import Record
from lib.run import Run
from lib.steps import endpoints

pytestmark = pytest.mark.sandbox
MANY = 10  # redirects: a browser gives up after 20


@pytest.fixture(scope="module")
def lab(first):
    return Lab(Run("login-loops", params.load("dev"), Record()))


def journey(lab: Lab, browser: Visitor, keeps_cookies: bool) -> list[str]:
    """Open a page and follow the redirects, logged in at Keycloak; return each answer by its short name."""
    stage, at, answers = lab.log_outs.stage, "/headers", list[str]()
    while at and len(answers) < MANY:
        parts = urlsplit(at)
        if parts.netloc in ("", stage.host):
            path = f"{parts.path}?{parts.query}" if parts.query else parts.path
            reply = browser.ask(path, "Accept: text/html", cookies=None if keeps_cookies else {})
            at = reply.headers.get("location", "")
            answers.append(stage.answer(reply))
        else:
            got = send(browser.keycloak, "GET", at, allow_redirects=False)
            at = got.headers.get("Location", "")
            answers.append(f"{got.status_code} keycloak")
    return answers


def no_session(lab: Lab) -> Visitor:
    return lab.log_outs.stage.visitor()


def logged_in(lab: Lab) -> Visitor:
    browser = lab.log_outs.stage.visitor()
    browser.log_in()
    return browser


def changed_cookie(lab: Lab) -> Visitor:
    browser = logged_in(lab)
    del browser.jar[browser.engine.whole]  # with the refresh token, the filter would renew the session
    browser.jar[callback.SEAL] = flipped(browser.jar[callback.SEAL])
    return browser


def expired(lab: Lab) -> Visitor:
    """The session has ended at Keycloak, and the browser has dropped the cookies that live as long as the token."""
    browser = logged_in(lab)
    _, claims = lab.log_outs.token_of(browser)
    endpoints.keycloak_admin(lab.run).call("DELETE", admin.path(lab.run.params.realm, "sessions", claims["sid"]))
    browser.jar = {browser.engine.whole: browser.jar[browser.engine.whole]}
    return browser


@contextmanager
def another_issuer(lab: Lab) -> Iterator[None]:
    """Let the application's RequestAuthentication name another issuer."""
    good = application.policies(lab.run)[0]
    (rule,) = good["spec"]["jwtRules"]
    browser = logged_in(lab)
    ask = lambda: lab.log_outs.stage.answer(browser.ask("/headers"))  # noqa: E731
    try:
        other = {**rule, "issuer": "https://elsewhere.example/realms/istio"}
        lab.run.apply([{**good, "spec": {**good["spec"], "jwtRules": [other]}}])
        # Each thread of the gateway keeps connections of its own, and the next request goes to any thread
        wait("the other issuer", ask, lambda got: got == "401 J13", streak=16, pause=0.1)
        yield
    finally:
        lab.run.apply([good])
        application.wait_admitted(lab.run)


@dataclass(frozen=True)
class State:
    """What the login is like, and how the journey of a browser ends."""

    ends: str
    browser: Callable[[Lab], Visitor] = no_session
    within: Callable[[Lab], AbstractContextManager[None]] = lambda lab: nullcontext()
    keeps_cookies: bool = True


STATES = {
    "all is well": State("200 app"),
    "cookies blocked": State("401 oauth", keeps_cookies=False),
    "a wrong audience": State("403 J16", within=login.no_audience),
    "a wrong issuer": State("401 J13", within=another_issuer),
    "a session with a changed cookie": State("200 app", changed_cookie),
    "an expired session": State("200 keycloak", expired),  # the login page
    "Keycloak is down": State("503 keycloak", within=lambda lab: stopped(lab.run, "keycloak")),
}


@pytest.mark.parametrize("name", STATES)
def test_the_journey_ends(lab, name):
    state = STATES[name]
    browser = state.browser(lab)
    with state.within(lab):
        answers = journey(lab, browser, state.keeps_cookies)
    assert answers[-1] == state.ends and answers.count("302 login") <= 1, answers
