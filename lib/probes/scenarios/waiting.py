"""What can only be waited for: keys that rotate, parts that stop, policies that arrive, tokens that end.

Each drill asks a workload of its own, under a realm of its own (lib.probes.rotation), and puts back what it changed.
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
from lib.polling import Answer, until
from lib.probes.model import TABLES, Probe
from lib.probes.reporting import results
from lib.probes.reporting.results import Result

FOLDER = TABLES / "slow"
WORLD = "rotation"
LIMIT = 120  # seconds for one thing to become true
STREAK = 3  # equal answers in a row, each on a fresh connection: answers flap while old listeners drain
BACK = 30  # seconds that istiod has to ask for keys by itself: until it gives up, and once somebody answers again
ROUNDS = 5  # times that a policy is closed and opened again
GRACE = 60  # seconds that Envoy's JWT filter grants (kClockSkewInSecond)
REFRESH = 10  # seconds after which istiod asks for keys again while the drills are held; 20 minutes otherwise
GOOD, BAD, NONE = "200 app", "not-a-token", ""
KEYS = ("rsa-generated", "rotated")  # the key that the realm has, and the one that takes its place


class Slow(Protocol):
    """A workload, the realm that it trusts, and what can be done to both. Seconds are floats."""

    def ask(self, token: str) -> str:
        """Return the workload's answer on a fresh connection; the empty token is none."""

    def token(self, client: str = "") -> str:
        """Return a new token of the realm, through the client `short` one that lives for a second."""

    def signed(self, exp: int) -> str:
        """Return a token that ends at `exp`, seconds since 1970, signed with a key that the realm publishes."""

    def key(self, name: str, priority: int = 100, active: bool = True, enabled: bool = True) -> None:
        """Let the realm have this key of its own making."""

    def drop_key(self, name: str) -> None:
        """Take a key from the realm."""

    def keys_from(self, where: str) -> None:
        """Let the policy take its keys from Keycloak's address ("realm") or from one of its own ("late")."""

    def reach(self, reachable: bool) -> None:
        """Let somebody answer at the policy's own address, or nobody."""

    def allow(self, allowed: bool) -> None:
        """Let the policy allow whoever has a token, or nobody."""

    def stopped(self, part: str) -> AbstractContextManager[None]:
        """Stop istiod or keycloak while the context lasts."""


@dataclass(frozen=True)
class Outcome:
    """What a drill got: its answers in their order, and what took how many seconds."""

    answers: list[str]
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def note(self) -> str:
        """The seconds as a sentence."""
        return "; ".join(f"{what}: {seconds:.1f} s" for what, seconds in self.seconds.items())


def rotated(world: Slow) -> Outcome:
    """A new key signs: its token at once, and once istiod has fetched the keys again."""
    with _new_key(world):
        token = world.token()
        first = world.ask(token)
        answer = settled(world, token, GOOD)
        return Outcome([first, answer.value], {"until a new key's token passed": answer.seconds})


def passive(world: Slow) -> Outcome:
    """The old key signs no more but is published: a token of it, when the new one's pass."""
    old = world.token()
    with _new_key(world):
        world.key(KEYS[0], active=False)
        answer = settled(world, world.token(), GOOD)
        return Outcome([answer.value, world.ask(old)], {"until a new key's token passed": answer.seconds})


def disabled(world: Slow) -> Outcome:
    """The old key is disabled, as after a theft: a token of it at once, and until it is refused."""
    old = world.token()
    with _new_key(world):
        world.key(KEYS[0], enabled=False)
        first = world.ask(old)
        answer = until(lambda: world.ask(old), lambda got: got != GOOD, streak=STREAK, deadline=LIMIT)
        return Outcome([first, answer.value], {"that a disabled key's token still passed": answer.seconds})


def unreachable(world: Slow) -> Outcome:
    """Nobody answers where a new policy takes its keys from: a good token and none; then somebody does."""
    token = world.token()
    with _late_keys(world):
        refused = until(lambda: world.ask(token), lambda got: got != GOOD, streak=STREAK, deadline=LIMIT)
        none = world.ask(NONE)
        world.reach(True)
        answer = settled(world, token, GOOD)
        return Outcome([refused.value, none, answer.value], {"until istiod had the keys": answer.seconds})


def no_istiod(world: Slow) -> Outcome:
    """istiod is stopped: a good token, none, and a bad one."""
    token = world.token()
    with world.stopped("istiod"):
        return Outcome([world.ask(one) for one in (token, NONE, BAD)])


def no_keycloak(world: Slow) -> Outcome:
    """Keycloak is stopped, for longer than istiod keeps keys without asking: a good token, none, the good one again."""
    token = world.token()
    with world.stopped("keycloak"):
        before, none = world.ask(token), world.ask(NONE)
        start = time.monotonic()
        last = until(lambda: world.ask(token), lambda got: got != GOOD, streak=STREAK, deadline=2 * REFRESH)
        return Outcome([before, none, last.value], {"that it passed without Keycloak": time.monotonic() - start})


def new_istiod_no_keycloak(world: Slow, patience: float = BACK) -> Outcome:
    """istiod starts anew while Keycloak is stopped: a good token before, then, and with Keycloak back after a push.

    Before that push it is a race, which is measured and not judged: istiod asks once more when Keycloak's pod appears,
    and gives up again after eight tries, before a Keycloak that starts slowly can answer.
    """
    token = world.token()
    with world.stopped("keycloak"):
        with world.stopped("istiod"):
            before = world.ask(token)
        refused = until(lambda: world.ask(token), lambda got: got != GOOD, streak=STREAK, deadline=LIMIT)
        # istiod asks eight times, a second apart, before it gives up; with Keycloak back by then it would have its keys
        until(lambda: world.ask(token), lambda got: got == GOOD, streak=STREAK, deadline=patience)
    back = until(lambda: world.ask(token), lambda got: got == GOOD, streak=STREAK, deadline=patience)
    world.allow(False)
    world.allow(True)
    pushed = settled(world, token, GOOD)
    took = {
        "with Keycloak back, refused for": back.seconds,
        "until it passed, once a policy had changed": pushed.seconds,
    }
    return Outcome([before, refused.value, pushed.value], took)


def converges(world: Slow) -> Outcome:
    """A policy is closed and opened again, some times: the last answers, and how long they took to be the only ones."""
    token, took = world.token(), []
    try:
        for _ in range(ROUNDS):
            for allowed, wanted in ((False, "403 R"), (True, GOOD)):
                world.allow(allowed)
                took.append((wanted, settled(world, token, wanted, pause=0.05)))
    finally:
        world.allow(True)
    last = {wanted: answer.value for wanted, answer in took}
    return Outcome([last["403 R"], last[GOOD]], _percentiles([answer.seconds for _, answer in took]))


def really_expired(world: Slow) -> Outcome:
    """A token whose life of one second Keycloak let end: at once, and until it is refused; seconds since its exp."""
    token = world.token("short")
    first, end = world.ask(token), jwt.claims(token)["exp"]
    answer = until(lambda: world.ask(token), lambda got: got != GOOD, streak=STREAK, deadline=GRACE + 15)
    return Outcome([first, answer.value], {"that it passed after its exp": time.time() - end})


def boundary(world: Slow) -> Outcome:
    """A token 59, 60 and 61 whole seconds after its exp, each asked in the middle of that second."""
    end = int(time.time()) - GRACE + 3
    token = world.signed(end)
    return Outcome([_at(end + age + 0.5, lambda: world.ask(token)) for age in (GRACE - 1, GRACE, GRACE + 1)])


# In an order in which none is in another's way: a new istiod has no keys yet, and the last one may leave it so.
DRILLS: dict[str, Callable[[Slow], Outcome]] = {
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


def hold(
    probes: Iterable[Probe], world: Slow, tell: Callable[[str], None] | None = None, baseline: dict | None = None
) -> list[Result]:
    """Hold each probe's drill, one after another in the order of DRILLS; return the results, seconds in their notes.

    `tell` gets each drill's name as it begins. A drill that broke off is a red result with the reason.
    """
    order, found = list(DRILLS), []
    for probe in sorted(probes, key=lambda probe: order.index(probe.how)):
        if tell:
            tell(probe.how)
        found.append(_held(probe, world, (baseline or {}).get(probe.id, {}).get(WORLD, "")))
    return found


def settled(world: Slow, token: str, wanted: str, pause: float = 0.2) -> Answer:
    """Return the answer that stood at last: `wanted` some times in a row, or the one at the end of LIMIT seconds."""
    return until(lambda: world.ask(token), lambda got: got == wanted, streak=STREAK, deadline=LIMIT, pause=pause)


def _held(probe: Probe, world: Slow, baseline: str) -> Result:
    try:
        outcome = DRILLS[probe.how](world)
    except RunbookError as error:
        return results.failed(probe, WORLD, str(error))
    result = results.judge(probe, WORLD, outcome.answers, baseline=baseline)
    return replace(result, note="; ".join(part for part in (result.note, outcome.note) if part))


@contextmanager
def _new_key(world: Slow) -> Iterator[None]:
    world.key(KEYS[1], priority=200)
    try:
        yield
    finally:
        world.key(KEYS[0])
        world.drop_key(KEYS[1])
        settled(world, world.token(), GOOD)


@contextmanager
def _late_keys(world: Slow) -> Iterator[None]:
    world.reach(False)
    world.keys_from("late")
    try:
        yield
    finally:
        world.keys_from("realm")
        settled(world, world.token(), GOOD)


def _percentiles(seconds: list[float]) -> dict[str, float]:
    parts = statistics.quantiles(seconds, n=20, method="inclusive")
    return {"from apply to enforcement, p50": parts[9], "p95": parts[18], "worst": max(seconds)}


def _at(moment: float, ask: Callable[[], str]) -> str:
    until(lambda: time.time() >= moment, deadline=GRACE, pause=0.01)
    return ask()
