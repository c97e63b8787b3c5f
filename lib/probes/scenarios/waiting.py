"""Scenarios that need minutes: key rotation, outages of istiod and Keycloak, policy propagation, token expiry.

They share a temporary workload and realm (lib.probes.scenarios.rotation). Each scenario restores what it changes.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from typing import Protocol

from lib.crypto import jwt
from lib.errors import RunbookError
from lib.polling import Polled, until
from lib.probes.model import TABLES, Probe
from lib.probes.reporting import results
from lib.probes.reporting.baselines import Answers
from lib.probes.reporting.results import Result

FOLDER = TABLES / "slow"
WORLD = "rotation"
LIMIT = 120  # seconds until an answer must change
STREAK = 3  # equal answers in a row, each on a new connection: answers alternate while old listeners drain
BACK = 30  # seconds to wait until istiod gives up on keys, and again once Keycloak is back
ROUNDS = 5  # times that a policy is closed and opened again
GRACE = 60  # seconds that Envoy's JWT filter grants (kClockSkewInSecond)
REFRESH = 10  # seconds between istiod's key fetches during the scenarios; its default is 20 minutes
GOOD, BAD, NONE = "200 app", "not-a-token", ""
KEYS = ("rsa-generated", "rotated")  # the realm's key, and the key that replaces it


class World(Protocol):
    """A workload, the realm that it trusts, and the changes that scenarios make to both.

    `pause` is the time between two questions, in seconds.
    """

    pause: float

    def ask(self, token: str) -> str:
        """Return the workload's answer to this token, or to none if it is empty, on a new connection."""

    def token(self, client: str = "") -> str:
        """Return a new token of the realm; through the client `short` it lives for one second."""

    def signed(self, exp: int) -> str:
        """Return a token with this exp, in seconds since 1970, signed by a key that the realm publishes."""

    def ensure_key(self, name: str, priority: int = 100, active: bool = True, enabled: bool = True) -> None:
        """Create or update a generated key of the realm."""

    def delete_key(self, name: str) -> None:
        """Delete a key of the realm."""

    def take_keys_from(self, where: str) -> None:
        """Let the policy fetch keys from Keycloak's address ("realm") or from a separate Service ("late")."""

    def set_reachable(self, reachable: bool) -> None:
        """Give the separate Service an endpoint, or none."""

    def set_allowed(self, allowed: bool) -> None:
        """Let the policy allow every user with a token, or no one."""

    def stopped(self, part: str) -> AbstractContextManager[None]:
        """Stop istiod or Keycloak during the context."""


@dataclass(frozen=True)
class Outcome:
    """A scenario's answers in order, and named durations in seconds."""

    answers: list[str]
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def note(self) -> str:
        """The durations as one line."""
        return "; ".join(f"{what}: {seconds:.1f} s" for what, seconds in self.seconds.items())


def rotated(world: World) -> Outcome:
    """A new key signs: ask with its token at once, and again until istiod has fetched the new keys."""
    with _new_key(world):
        token = world.token()
        first = world.ask(token)
        answer = wait_for_answer(world, token, GOOD)
        return Outcome([first, answer.value], {"until a new key's token passed": answer.seconds})


def passive(world: World) -> Outcome:
    """The old key stays published but no longer signs: ask with its token once the new key's tokens pass."""
    old = world.token()
    with _new_key(world):
        world.ensure_key(KEYS[0], active=False)
        answer = wait_for_answer(world, world.token(), GOOD)
        return Outcome([answer.value, world.ask(old)], {"until a new key's token passed": answer.seconds})


def disabled(world: World) -> Outcome:
    """The old key is disabled, as after a theft: ask with its token at once, and until it is refused."""
    old = world.token()
    with _new_key(world):
        world.ensure_key(KEYS[0], enabled=False)
        first = world.ask(old)
        answer = _settled(world, old, lambda got: got != GOOD)
        return Outcome([first, answer.value], {"that a disabled key's token still passed": answer.seconds})


def unreachable(world: World) -> Outcome:
    """The address of a new policy's keys is down: ask with a good token and without; then the address comes up."""
    token = world.token()
    with _late_keys(world):
        refused = _settled(world, token, lambda got: got != GOOD)
        none = world.ask(NONE)
        world.set_reachable(True)
        answer = wait_for_answer(world, token, GOOD)
        return Outcome([refused.value, none, answer.value], {"until istiod had the keys": answer.seconds})


def no_istiod(world: World) -> Outcome:
    """Stop istiod: ask with a good token, without one, and with a bad one."""
    token = world.token()
    with world.stopped("istiod"):
        return Outcome([world.ask(one) for one in (token, NONE, BAD)])


def no_keycloak(world: World) -> Outcome:
    """Stop Keycloak for two of istiod's fetch intervals: ask with a good token, without, and the good one again."""
    token = world.token()
    with world.stopped("keycloak"):
        before, none = world.ask(token), world.ask(NONE)
        start = time.monotonic()
        last = _settled(world, token, lambda got: got != GOOD, 2 * REFRESH)
        return Outcome([before, none, last.value], {"that it passed without Keycloak": time.monotonic() - start})


def new_istiod_no_keycloak(world: World, patience: float = BACK) -> Outcome:
    """Restart istiod while Keycloak is stopped: ask before, during, and after a policy change with Keycloak back.

    The time before that policy change is a race, so it is measured and not judged. istiod asks for keys when Keycloak's
    pod appears, and gives up after eight tries. A slow Keycloak does not answer by then.
    """
    token = world.token()
    with world.stopped("keycloak"):
        with world.stopped("istiod"):
            before = world.ask(token)
        refused = _settled(world, token, lambda got: got != GOOD)
        # istiod tries eight times, a second apart; if Keycloak came back before, istiod would get the keys
        _settled(world, token, lambda got: got == GOOD, patience)
    back = _settled(world, token, lambda got: got == GOOD, patience)
    world.set_allowed(False)
    world.set_allowed(True)
    pushed = wait_for_answer(world, token, GOOD)
    took = {
        "with Keycloak back, refused for": back.seconds,
        "until it passed, once a policy had changed": pushed.seconds,
    }
    return Outcome([before, refused.value, pushed.value], took)


def converges(world: World) -> Outcome:
    """Close and open a policy ROUNDS times: the last answers, and the seconds until each change held."""
    token, took = world.token(), []
    try:
        for _ in range(ROUNDS):
            for allowed, wanted in ((False, "403 R"), (True, GOOD)):
                world.set_allowed(allowed)
                took.append((wanted, wait_for_answer(world, token, wanted, pause=world.pause / 4)))
    finally:
        world.set_allowed(True)
    last = {wanted: answer.value for wanted, answer in took}
    return Outcome([last["403 R"], last[GOOD]], _percentiles([answer.seconds for _, answer in took]))


def really_expired(world: World) -> Outcome:
    """A real token that lives for one second: ask at once, and until it is refused; seconds since its exp."""
    token = world.token("short")
    first, end = world.ask(token), jwt.claims(token)["exp"]
    answer = _settled(world, token, lambda got: got != GOOD, GRACE + 15)
    return Outcome([first, answer.value], {"that it passed after its exp": time.time() - end})


def boundary(world: World) -> Outcome:
    """Ask with a token 59, 60 and 61 seconds after its exp, each in the middle of that second."""
    end = int(time.time()) - GRACE + 3
    token = world.signed(end)
    return Outcome([_at(end + age + 0.5, lambda: world.ask(token)) for age in (GRACE - 1, GRACE, GRACE + 1)])


# The order matters: a restarted istiod has no keys yet, and the last scenario may leave it without.
SCENARIOS: dict[str, Callable[[World], Outcome]] = {
    "boundary": boundary,
    "converges": converges,
    "rotated": rotated,
    "passive": passive,
    "disabled": disabled,
    "unreachable": unreachable,
    "really-expired": really_expired,
    "no-keycloak": no_keycloak,
    "no-istiod": no_istiod,
    "new-istiod-no-keycloak": new_istiod_no_keycloak,
}


def run_scenarios(
    probes: Iterable[Probe], world: World, report: Callable[[str], None] | None = None, baseline: Answers | None = None
) -> list[Result]:
    """Run each probe's scenario, in the order of SCENARIOS; return the results, with durations in their notes.

    Args:
        probes: Rows whose `how` is a key of SCENARIOS.
        world: The workload and its realm.
        report: Gets each scenario's name as it begins.
        baseline: Answers that measured probes are compared with, by id and world.

    A scenario that raises RunbookError becomes a red result with the reason.
    """
    order: list[str] = list(SCENARIOS)
    found: list[Result] = []
    for probe in sorted(probes, key=lambda probe: order.index(probe.how)):
        if report:
            report(probe.how)
        found.append(_result(probe, world, (baseline or {}).get(probe.id, {}).get(WORLD, "")))
    return found


def wait_for_answer(world: World, token: str, wanted: str, pause: float | None = None) -> Polled:
    """Ask until the answer is `wanted` STREAK times in a row, for LIMIT seconds at most; return the last answer."""
    return _settled(world, token, lambda got: got == wanted, pause=pause)


def _settled(
    world: World, token: str, good: Callable[[str], bool], deadline: float = LIMIT, pause: float | None = None
) -> Polled:
    return until(lambda: world.ask(token), good, streak=STREAK, deadline=deadline, pause=pause or world.pause)


def _result(probe: Probe, world: World, baseline: str) -> Result:
    try:
        outcome = SCENARIOS[probe.how](world)
    except RunbookError as error:
        return results.failed(probe, WORLD, str(error))
    result = results.judge(probe, WORLD, outcome.answers, baseline=baseline)
    return replace(result, note="; ".join(part for part in (result.note, outcome.note) if part))


@contextmanager
def _new_key(world: World) -> Iterator[None]:
    world.ensure_key(KEYS[1], priority=200)
    try:
        yield
    finally:
        world.ensure_key(KEYS[0])
        world.delete_key(KEYS[1])
        wait_for_answer(world, world.token(), GOOD)


@contextmanager
def _late_keys(world: World) -> Iterator[None]:
    world.set_reachable(False)
    world.take_keys_from("late")
    try:
        yield
    finally:
        world.take_keys_from("realm")
        wait_for_answer(world, world.token(), GOOD)


def _percentiles(seconds: list[float]) -> dict[str, float]:
    parts = statistics.quantiles(seconds, n=20, method="inclusive")
    return {"from apply to enforcement, p50": parts[9], "p95": parts[18], "worst": max(seconds)}


def _at(moment: float, ask: Callable[[], str]) -> str:
    until(lambda: time.time() >= moment, deadline=GRACE, pause=0.01)
    return ask()
