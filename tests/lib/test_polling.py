"""The one polling loop: a streak, a deadline, the last thing seen."""

import pytest

from lib.errors import TimedOut
from lib.polling import until, wait
from lib.record.check import Check


class Clock:
    """Time that passes by sleeping."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


def asked(answers, **options):
    """Return the Polled of asking through these answers; the last one lasts."""
    clock, left = Clock(), list(answers)

    def ask():
        value = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(value, Exception):
            raise value
        return value

    return until(ask, lambda value: value == "ok", clock=clock, sleep=clock.sleep, pause=1, **options)


def test_first_answer_may_do():
    assert (asked(["ok"]).tries, asked(["ok"]).seconds) == (1, 0)


def test_a_wait_that_is_hopeless_ends_before_its_deadline():
    doubts = iter([False, True])
    answer = asked(["no"], deadline=60, hopeless=lambda: next(doubts))
    assert (answer.held, answer.seconds) == (False, 10)  # asked after 5 s, and after 10
    assert asked(["no"] * 7 + ["ok"], hopeless=lambda: False).held
    assert asked(["ok", *["no"] * 3, "ok"], deadline=60, hopeless=lambda: pytest.fail("too early")).held


def test_a_bad_answer_breaks_the_streak():
    answer = asked(["ok", "ok", "no", "ok", "ok", "ok"], streak=3)
    assert (answer.held, answer.tries, answer.seconds) == (True, 6, 5)


def test_an_exception_is_a_bad_answer_and_is_kept():
    answer = asked(["ok", ValueError("broken")], streak=2, deadline=3)
    assert not answer.held and answer.error == "ValueError: broken" and answer.seconds <= 3


@pytest.mark.parametrize("mistake", [TypeError, NameError, AttributeError, ImportError, SyntaxError])
def test_a_mistake_of_the_program_is_raised_at_once(mistake):
    with pytest.raises(mistake, match="wrong"):
        asked([mistake("wrong"), "ok"])
    with pytest.raises(TypeError):
        until(lambda: None, lambda value: value["missing"], sleep=lambda _: pytest.fail("it tried again"))
    assert asked([mistake("wrong"), "ok"], reraise=()).held


def test_an_old_exception_is_not_kept():
    assert asked([ValueError("broken"), "no"], deadline=3).error == ""


def test_at_least_one_try():
    assert asked(["ok"], deadline=0).held and asked(["no"], deadline=0).tries == 1


def test_tells_what_did_not_settle_it():
    told = []
    asked(["no", "ok"], tell=lambda seconds, value: told.append((seconds, value)))
    assert told == [(0, "no")]


def test_wait_says_what_was_seen():
    clock = Clock()
    with pytest.raises(TimedOut, match="expected a node within 4 s, got 'none' after 5 tries; look at the kubelet."):
        wait(
            "a node",
            lambda: "none",
            lambda _: False,
            fix="look at the kubelet",
            deadline=5,
            pause=1,
            clock=clock,
            sleep=clock.sleep,
        )
    assert wait("a node", lambda: "n1") == "n1"


def test_row_is_flat():
    row = Check("a", "1", "2", "fail", 0.12345).row()
    assert row["seconds"] == 0.12 and list(row)[:4] == ["name", "expected", "actual", "verdict"]
    assert row["passed"] is False
