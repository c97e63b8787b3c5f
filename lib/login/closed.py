"""The findings of step 12 about ended sessions (D35), closed row by row in the hardened profile (notebook 90).

The hardened workload asks two external authorizers in turn, each for a moment: the deny-list, to which Keycloak then
reports the sessions of that profile's client, and OPA with a policy that asks Keycloak about each token (RFC 7662).
"""

from __future__ import annotations

import base64
import json
import statistics
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial

import pandas as pd
from IPython.display import Markdown

from lib.istio.extension_providers import DENY_LIST, INTROSPECTION
from lib.login import log_out
from lib.login.log_out import REQUESTS
from lib.names import HARDENED, LOGIN
from lib.parallel import at_once
from lib.polling import wait
from lib.probes import model, workloads
from lib.probes.model import Probe
from lib.probes.scenarios import fixtures, sessions
from lib.probes.scenarios.rotation import stopped
from lib.probes.transport.messages import Reply, Request
from lib.probes.transport.sockets import over_sockets
from lib.render import fenced
from lib.roles import engines
from lib.run import MANIFESTS, Run
from lib.steps import authority, endpoints, tokens

POLICY = "login/introspection.rego"
NOBODY = "nobody"
REFUSALS = {DENY_LIST: 401, INTROSPECTION: 403}
REPORTED = ("logged-out", "session-revoked", "logged-out-everywhere")  # the ends that Keycloak 26.7 reports
STREAK = 5  # answers in a row: an old listener still closes for a while

Ask = Callable[[str], Reply]  # the answer to a token at the hardened workload, on a connection of its own
Turn = Callable[[Run], AbstractContextManager[None]]  # while it lasts, the hardened workload asks somebody


def why_off(run: Run) -> str:
    """Return why this environment cannot close the findings; "" if it can."""
    if HARDENED not in run.params.profiles:
        return "the params leave the profile hardened out"
    return log_out.why_off(run) or ("" if run.params.authorizer_image else "authorizer_image is empty")


def findings() -> list[Probe]:
    """Return the probes whose token the issuer calls inactive, and the mesh takes."""
    return [one for one in model.load() if one.how in sessions.SCENARIOS and "inactive" in one.expected(HARDENED)]


def expected(probe: Probe, asked: str) -> int:
    """Return the status that the token of an ended session gets, by who is asked about it."""
    closed = asked == INTROSPECTION or (asked == DENY_LIST and probe.how in REPORTED)
    return REFUSALS[asked] if closed else 200


def close(run: Run) -> pd.DataFrame:
    """End sessions, users and their rights in every way of the table; return what their tokens get then.

    The hardened workload asks nobody, then the deny-list, then Keycloak's introspection. It ends as it was.
    """
    rows, reason = findings(), why_off(run)
    if reason:
        for one in rows:
            run.skip(f"{one.id} is closed in the hardened profile", True, reason)
        return pd.DataFrame()
    made, ask = fixtures.sessions(run, endpoints.keycloak_admin(run)), _asker(run)
    got: dict[str, list[int]] = {}
    costs: dict[str, float] = {}
    turns: dict[str, Turn] = {NOBODY: lambda run: nullcontext(), DENY_LIST: deny_list, INTROSPECTION: introspection}
    for asked, within in turns.items():
        with within(run):
            if asked != NOBODY:
                _wait_asked(run, made, ask)
            got[asked] = at_once([partial(_answer, made, one, ask) for one in rows], workers=len(rows))
            good = tokens.user_token(run)
            run.check(f"asks {asked}: a session that goes on", 200, ask(good).status)
            costs[f"asks {asked}"] = round(statistics.median(ask(good).latency_ms for _ in range(REQUESTS)), 1)
        for one, status in zip(rows, got[asked], strict=True):
            run.check(f"{one.id}, {one.title}; asks {asked}", expected(one, asked), status)
    named = {f"asks {asked}": statuses for asked, statuses in got.items()}
    table = pd.DataFrame({"id": [one.id for one in rows], "what happened": [one.title for one in rows], **named})
    cost = {"id": "", "what happened": "a session that goes on: median of a request, ms", **costs}
    return pd.concat([table.astype(object), pd.DataFrame([cost])], ignore_index=True)


def without_keycloak(run: Run) -> None:
    """Stop Keycloak while the hardened workload asks it, and record that nobody gets in; a minute on two cores."""
    name = "asks introspection, and Keycloak is down"
    if reason := why_off(run):
        run.skip(name, REFUSALS[INTROSPECTION], reason)
        return
    made, ask = fixtures.sessions(run, endpoints.keycloak_admin(run)), _asker(run)
    token = tokens.user_token(run)
    with introspection(run):
        _wait_asked(run, made, ask)
        run.check("asks introspection: a session that goes on", 200, ask(token).status)
        with stopped(run, "keycloak"):
            run.check(name, REFUSALS[INTROSPECTION], ask(token).status)


def policy() -> Markdown:
    """Return the policy that asks Keycloak, for display."""
    return Markdown(fenced("rego", (MANIFESTS / POLICY).read_text()))


@contextmanager
def deny_list(run: Run) -> Iterator[None]:
    """Lend the deny-list to the hardened profile: it gets the reports of that profile's client, and its questions."""
    workload = workloads.PROFILES[HARDENED]
    *lent, _ = log_out.deny_list(run, run.params.client_id, endpoints.principal(run, HARDENED, workload))
    try:
        log_out.set_attributes(run, run.params.client_id, log_out.reported(log_out.REPORTS))
        _apply(run, lent)
        log_out.wait(run)
        with _asked(run, DENY_LIST):
            yield
    finally:
        log_out.set_attributes(run, run.params.client_id, log_out.reported(""))
        _apply(run, log_out.objects(run))
        log_out.wait(run)


@contextmanager
def introspection(run: Run) -> Iterator[None]:
    """Start an authorizer that asks Keycloak about each token, and let the hardened workload ask it."""
    workload, client = workloads.PROFILES[HARDENED], run.params.client_id
    data = {
        "url": f"{endpoints.inside_url(run)}/realms/{run.params.realm}/protocol/openid-connect/token/introspect",
        "client": client,
        "secret": tokens.client_secret(run, client),
        "authority": authority.trusted_certificates(run),
    }
    files = {"data.json": json.dumps(data), f"{workload}.rego": (MANIFESTS / POLICY).read_text()}
    encoded = {name: base64.b64encode(text.encode()).decode() for name, text in files.items()}
    metadata = {"name": INTROSPECTION, "namespace": LOGIN}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": encoded}
    objects = engines.authorizer_of(run, secret, HARDENED)
    try:
        _apply(run, objects)
        run.cluster.wait_rolled_out("Deployment", INTROSPECTION, LOGIN, run.params.deadline)
        with _asked(run, INTROSPECTION):
            yield
    finally:
        for one in reversed(objects):
            run.cluster.delete(one["apiVersion"], one["kind"], one["metadata"]["name"], LOGIN)
        wait(
            "the authorizer gone",
            lambda: run.cluster.find("apps/v1", "Deployment", INTROSPECTION, LOGIN),
            lambda found: not found,
            deadline=run.params.deadline,
        )


@contextmanager
def _asked(run: Run, provider: str) -> Iterator[None]:
    """Let the sidecar of the hardened workload ask a provider about each token while the context lasts."""
    workload = workloads.PROFILES[HARDENED]
    policy = log_out.objects(run)[-1]
    metadata = {**policy["metadata"], "namespace": HARDENED}
    spec = {**policy["spec"], "selector": {"matchLabels": {"app": workload}}, "provider": {"name": provider}}
    try:
        run.cluster.apply({**policy, "metadata": metadata, "spec": spec})
        yield
    finally:
        run.cluster.delete(policy["apiVersion"], policy["kind"], metadata["name"], HARDENED)


def _apply(run: Run, objects: list[dict]) -> None:
    """Apply objects for a while; the record lists no change, because none stays."""
    for one in objects:
        run.cluster.apply(one)


def _asker(run: Run) -> Ask:
    there = workloads.location(run, HARDENED)
    send = over_sockets(there.address)

    def ask(token: str) -> Reply:
        lines = (f"Host: {there.host}", f"Authorization: Bearer {token}")
        return send([Request("GET", "/headers", lines)])[0]

    return ask


def _wait_asked(run: Run, made: sessions.Sessions, ask: Ask) -> None:
    """Wait until the workload refuses the token of an ended session, and takes that of another."""
    gone = sessions.ended(made, *sessions.SCENARIOS["session-revoked"]).token
    good = tokens.user_token(run)
    wait(
        "the hardened workload to ask",
        lambda: (ask(good).status, ask(gone).status),
        lambda got: got[0] == 200 and got[1] in REFUSALS.values(),
        streak=STREAK,
        deadline=run.params.deadline,
    )


def _answer(made: sessions.Sessions, probe: Probe, ask: Ask) -> int:
    """Return what the token gets while what ended it holds: the scenario then restores the realm and the client."""
    end, restore = sessions.SCENARIOS[probe.how]
    got: list[int] = []

    def end_and_ask(made: sessions.Sessions, user: sessions.TemporaryUser) -> None:
        end(made, user)
        got.append(ask(user.access_token).status)

    sessions.ended(made, end_and_ask, restore)
    return got[0]
