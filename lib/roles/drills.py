"""Drills: the authorizer is down, slow, restarting, overloaded, or somebody else. What gets in, what does not?"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import pandas as pd

from lib.istio.extension_providers import AUTHORIZER, FAIL_OPEN
from lib.names import ROLES
from lib.polling import until
from lib.probes import workloads
from lib.probes.scenarios import rotation
from lib.probes.transport.sockets import over_sockets
from lib.roles import application, engines, people, proof
from lib.roles.matrix import Cell, Matrix
from lib.run import Run

WORKLOAD = engines.WORKLOADS["opa"]
EACH = 20  # requests of a drill that the matrix allows, and as many that it refuses
AT_ONCE = 16  # of these
MAY, MAY_NOT = ("GET", "/anything/articles/7"), ("DELETE", "/anything/articles/7")  # for a reader
BRIEF = 15  # seconds that the effect of a drill may take to be seen
DRAIN = 45  # seconds that connections of a changed listener keep its old policy, by Istio's default (--drainDuration)
SLOWER, SLOW = "3", "0.5"  # seconds that a slow policy waits: more and less than the provider's timeout
RULE = "networking.istio.io/v1", "DestinationRule"

Ask = Callable[[tuple[str, str], int], "Counts"]  # sends a reader's request so many times
Change = Callable[[Run, Matrix], AbstractContextManager[None]]


@dataclass(frozen=True)
class Counts:
    """The answers to equal requests: how many were let in, and the median time of all."""

    let_in: int
    latency_ms: float


@dataclass(frozen=True)
class Drill:
    """One fault. `opens` says that it lets everything in, `partly` that some of what may pass does."""

    name: str
    change: Change
    opens: bool = False
    partly: bool = False


def run_drills(run: Run, found: Matrix, *names: str) -> pd.DataFrame:
    """Make each fault, send requests, repair it; record what got in. Takes about 8 s each.

    Args:
        run: The step's run.
        found: The matrix that step 15 applied.
        names: The drills; all if empty.

    Returns:
        One row for each drill: requests let in, their median time, seconds until the fault was seen and was mended.
    """
    if not engines.authorizers(run):
        return pd.DataFrame()
    run.need("apps/v1", "Deployment", AUTHORIZER, ROLES, step="15-roles")
    ask = _asker(run)
    chosen = [one for one in DRILLS if not names or one.name in names]
    return pd.DataFrame([drill(run, found, one, ask, BRIEF + DRAIN * one.opens) for one in chosen])


def drill(run: Run, found: Matrix, one: Drill, ask: Ask, patience: float) -> dict:
    """Make one fault, count what gets in, repair it, and record the counts; return them as a row.

    The gateway keeps connections to the workload, and those of a changed listener keep its old policy while they
    drain. So a policy has changed, and a fault is mended, when EACH requests at once say so, and not one alone.
    `patience` is the time in seconds that the fault may take to be seen.
    """
    with one.change(run, found):
        if one.opens:
            begun = until(lambda: ask(MAY_NOT, EACH).let_in, EACH.__eq__, streak=2, deadline=patience)
        else:
            begun = until(lambda: ask(MAY, 1).let_in == 0, deadline=patience)
        may, may_not = ask(MAY, EACH), ask(MAY_NOT, EACH)
    mended = until(
        lambda: (ask(MAY, EACH).let_in, ask(MAY_NOT, EACH).let_in), (EACH, 0).__eq__, streak=2,
        deadline=run.params.deadline,
    )  # fmt: skip
    kind = "the hole: " if one.opens else ""
    run.check(f"{kind}{one.name}: requests let in that the matrix refuses", EACH if one.opens else 0, may_not.let_in)
    if not one.partly:
        run.check(f"{one.name}: requests let in that the matrix allows", EACH if one.opens else 0, may.let_in)
    run.check(f"{one.name}: it is over", True, mended.held)
    return {
        "the authorizer": one.name,
        f"let in, of {EACH} that may": may.let_in,
        f"let in, of {EACH} that may not": may_not.let_in,
        "median ms": may.latency_ms,
        "seen after s": round(begun.seconds, 1) if begun.held else None,
        "mended after s": round(mended.seconds, 1),
    }


def _asker(run: Run) -> Ask:
    """Return a function that sends a reader's request several times and counts what got in."""
    there, token = workloads.location(run, WORKLOAD), people.token(run, "reader")
    send = over_sockets(there.address, workers=AT_ONCE)

    def ask(request: tuple[str, str], times: int) -> Counts:
        cells = [Cell(f"{number}", *request, may=True) for number in range(times)]
        outcomes = proof.ask(send, cells, lambda _: token, there.host)
        taken = statistics.median(one.latency_ms for one in outcomes)
        return Counts(sum(one.actual == proof.ALLOWED for one in outcomes), taken)

    return ask


@contextmanager
def down(run: Run, found: Matrix) -> Iterator[None]:
    """Scale the authorizer to 0."""
    with rotation.stopped(run, AUTHORIZER):
        yield


@contextmanager
def fail_open(run: Run, found: Matrix) -> Iterator[None]:
    """Scale the authorizer to 0, and let the policy name the provider that fails open."""
    with _applied(run, engines.custom(run, WORKLOAD, FAIL_OPEN), engines.custom(run, WORKLOAD)), down(run, found):
        yield


@contextmanager
def restarting(run: Run, found: Matrix) -> Iterator[None]:
    """Delete the authorizer's pod."""
    pod = run.cluster.pod(f"app={AUTHORIZER}", ROLES)
    run.cluster.delete("v1", "Pod", pod["metadata"]["name"], ROLES)
    yield


def waiting(policy: str, url: str) -> str:
    """Return a Rego policy that asks `url` before it decides."""
    asks = f'waited := http.send({{"method": "GET", "url": "{url}"}}).status_code\n'
    return policy.replace("decision := {", 'decision := {"waited": waited, ') + f"\n{asks}"


def slow(seconds: str) -> Change:
    """Return a change that lets the policy first ask another service, which takes so many seconds."""

    @contextmanager
    def change(run: Run, found: Matrix) -> Iterator[None]:
        files, name = engines.files(run, found), f"{WORKLOAD}.rego"
        changed = {**files, name: waiting(files[name], f"{workloads.location(run, 'open').url}/delay/{seconds}")}
        with _applied(run, engines.authorizer(run, changed), engines.authorizer(run, files)):
            application.wait(run, AUTHORIZER)
            yield

    return change


@contextmanager
def another_program(run: Run, found: Matrix) -> Iterator[None]:
    """Let the authorizer's Service lead to httpbin, which is no authorizer."""
    right = next(one for one in engines.authorizer(run, {}) if one["kind"] == "Service")
    port = {**right["spec"]["ports"][0], "targetPort": 8080}
    wrong = {**right, "spec": {"selector": {"app": application.NAME}, "ports": [port]}}
    with _applied(run, [wrong], [right]):
        yield


def rule(**policy: dict) -> Change:
    """Return a change that gives the authorizer's callers this trafficPolicy."""

    @contextmanager
    def change(run: Run, found: Matrix) -> Iterator[None]:
        spec = {"host": f"{AUTHORIZER}.{ROLES}.svc.cluster.local", "trafficPolicy": policy}
        metadata = {"name": AUTHORIZER, "namespace": ROLES}
        try:
            run.cluster.apply({"apiVersion": RULE[0], "kind": RULE[1], "metadata": metadata, "spec": spec})
            yield
        finally:
            run.cluster.delete(*RULE, AUTHORIZER, ROLES)

    return change


@contextmanager
def overloaded(run: Run, found: Matrix) -> Iterator[None]:
    """Let each decision take SLOW seconds, and each caller send only two at once."""
    with slow(SLOW)(run, found), rule(connectionPool={"http": {"http2MaxRequests": 2}})(run, found):
        yield


@contextmanager
def _applied(run: Run, wrong: list[dict], right: list[dict]) -> Iterator[None]:
    """Apply objects for a while; the record lists no change, because none stays."""
    try:
        for one in wrong:
            run.cluster.apply(one)
        yield
    finally:
        for one in right:
            run.cluster.apply(one)


SOMEBODY = [f"spiffe://cluster.local/ns/{ROLES}/sa/somebody-else"]
DRILLS = (
    Drill("down", down),
    Drill("restarting", restarting, partly=True),
    Drill("slow", slow(SLOWER)),
    Drill("overloaded", overloaded, partly=True),
    Drill("another program", another_program),
    Drill("another certificate", rule(tls={"mode": "ISTIO_MUTUAL", "subjectAltNames": SOMEBODY})),
    Drill("down, with failOpen", fail_open, opens=True),
)
