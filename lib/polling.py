"""`until` is the one polling loop; `wait` is `until` that raises."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from lib.errors import TimedOut

PAUSE = 0.2  # seconds between two tries
SLOW = 3.0  # seconds after which the watcher is notified of a wait, and
AGAIN = 1.0  # seconds between further notifications
DOUBT = 5.0  # seconds of bad answers after which `hopeless` is asked, and then each time after twice as many


# Mistakes of the program: another try cannot help. A missing key or index is not among them: answers grow with time.
PROGRAMMING_ERRORS = (TypeError, NameError, AttributeError, ImportError, SyntaxError)


class Watcher(Protocol):
    """Gets a notification of each wait that takes long."""

    def during(self, what: str, seconds: float, deadline: float, seen: object) -> None:
        """Note the seconds that the wait for `what` has taken so far, and the last value."""

    def after(self, what: str, seconds: float, held: bool) -> None:
        """Note how the wait ended."""


_watchers: list[Watcher] = []


def watch(by: Watcher) -> None:
    """Make `by` the only watcher of all waits from now on."""
    _watchers[:] = [by]


@dataclass(frozen=True)
class Polled:
    """What `until` ended with: the last value, whether it held, after how many seconds and tries."""

    value: Any
    held: bool
    seconds: float
    tries: int
    error: str = ""


def until(
    ask: Callable[[], Any],
    good: Callable[[Any], bool] = bool,
    *,
    streak: int = 1,
    deadline: float = 60,
    pause: float = PAUSE,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
    tell: Callable[[float, Any], None] | None = None,
    what: str = "",
    reraise: tuple[type[Exception], ...] = PROGRAMMING_ERRORS,
    hopeless: Callable[[], bool] | None = None,
) -> Polled:
    """Ask until `good` held `streak` times in a row, or `deadline` seconds are over; ask at least once.

    Args:
        ask: returns a value; an exception counts as a bad answer, and `Polled.error` keeps the last one.
        good: whether a value is the answer.
        streak: good answers in a row that settle it.
        deadline: seconds.
        pause: seconds between two tries.
        clock: returns seconds.
        sleep: waits for seconds.
        tell: called with (seconds, value) after each try that did not settle it.
        what: names the wait for the watchers, which are notified after SLOW seconds.
        reraise: exceptions of `ask` and `good` that end the wait at once.
        hopeless: whether no further try can help, asked after DOUBT seconds; True ends the wait.

    Raises:
        TypeError, NameError, AttributeError, ImportError, SyntaxError: see `reraise`.
    """
    start, row, tries, due, doubt = clock(), 0, 0, SLOW, DOUBT
    while True:
        tries += 1
        value, error = None, ""
        try:
            value = ask()
            row = row + 1 if good(value) else 0
        except reraise:
            raise
        except Exception as problem:
            row, error = 0, f"{type(problem).__name__}: {problem}"
        seconds = clock() - start
        over = seconds + pause >= deadline
        if hopeless and not row and seconds >= doubt and not over:
            over, doubt = hopeless(), 2 * doubt
        if row >= streak or over:
            _ended(what, seconds, row >= streak)
            return Polled(value, row >= streak, seconds, tries, error)
        if tell:
            tell(seconds, error or value)
        if what and seconds >= due:
            due = seconds + AGAIN
            for one in _watchers:
                one.during(what, seconds, deadline, error or value)
        sleep(pause)


def wait(
    what: str, ask: Callable[[], Any], good: Callable[[Any], bool] = bool, *, fix: str = "", **options: Any
) -> Any:
    """Return the value for which `good` held; raise TimedOut with the last thing seen. Options as for `until`."""
    answer = until(ask, good, what=what, **options)
    if answer.held:
        return answer.value
    seen = answer.error or repr(answer.value)
    advice = f"; {fix}" if fix else ""
    raise TimedOut(
        f"expected {what} within {answer.seconds:.0f} s, got {seen[:300]} after {answer.tries} tries{advice}."
    )


def _ended(what: str, seconds: float, held: bool) -> None:
    for one in _watchers if what else ():
        one.after(what, seconds, held)
