"""The designs of a login without a list (notebook 90): the seconds until they notice that a session has ended."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pandas as pd

from lib.login import application, log_out
from lib.login.log_out import LogOuts
from lib.parallel import at_once
from lib.polling import until
from lib.run import Run
from lib.steps.tokens import SKEW

LIFE = 20  # seconds that an access token lives meanwhile: longer than oauth2-proxy waits with a refresh
MARGIN = 5  # seconds: Envoy counts whole ones, and each answer takes a moment


@contextmanager
def short_life(run: Run) -> Iterator[None]:
    """Let the access tokens of the login's client live for LIFE seconds while the context lasts."""
    try:
        log_out.set_attributes(run, application.CLIENT, {"access.token.lifespan": str(LIFE)})
        yield
    finally:
        log_out.set_attributes(run, application.CLIENT, {"access.token.lifespan": ""})


def measure(run: Run) -> pd.DataFrame:
    """Log in, end the session in Keycloak, and ask with its token and with its cookies until both are refused.

    Takes LIFE and a minute. The token goes to step 12's application, which has no list. The cookies go to step 13's
    gateway: the answer that counts is its own, a redirect to Keycloak.
    """
    log_outs = LogOuts(run)
    proxy = f"login proxy: {run.params.login_engine}"
    if log_outs.reason:
        for name in ("short JWT", proxy):
            run.skip(f"{name}: notices the end in time", True, log_outs.reason)
        return pd.DataFrame()
    with short_life(run):
        browser = log_outs.stage.visitor()
        browser.log_in()
        token, claims = log_outs.token_of(browser)
        jar = dict(browser.jar)
        log_out.end_session(log_outs, browser, claims)
        left = claims["exp"] - time.time()
        patience = float(application.REFRESH.rstrip("s")) if application.uses_proxy(run) else left
        designs = {
            "short JWT": (lambda: log_outs.token_at_step_12(token).status_code == 401, left + SKEW),
            proxy: (lambda: log_outs.stage.answer(browser.ask("/headers", cookies=jar)) == "302 login", patience),
        }
        asked = [partial(until, ask, deadline=2 * (LIFE + SKEW)) for ask, _ in designs.values()]
        found = at_once(asked)
    rows = []
    for (name, (_, latest)), answer in zip(designs.items(), found, strict=True):
        run.check(f"{name}: notices the end in time", True, answer.held and answer.seconds <= latest + MARGIN)
        seconds = round(answer.seconds, 1)
        rows.append({"design": name, "its tokens live, s": LIFE, "refused after, s": seconds, "at the latest": latest})
    return pd.DataFrame(rows).round(1)
