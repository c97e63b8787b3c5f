"""A long wait is shown while it lasts and when it ends; a short wait is not shown."""

import threading

import pytest

from lib import polling
from lib.errors import TimedOut
from lib.polling import until, wait, watch
from lib.record.events import Record
from lib.record.wait_events import Waiting


class Clock:
    """A clock that moves on when somebody sleeps."""

    now = 0.0

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


@pytest.fixture
def watched():
    """Return the record, and the texts that stood in the cell, each list those of one line."""
    record, lines = Record(), []

    def show(text):
        lines.append([text])
        return lines[-1].append

    before = list(polling._watchers)
    watch(Waiting(record, show))
    yield record, lines
    polling._watchers[:] = before


def ask(clock, seconds):
    return lambda: "there" if clock.now >= seconds else "not yet"


def options(seconds, deadline=60):
    clock = Clock()
    good = lambda seen: seen == "there"  # noqa: E731
    return dict(ask=ask(clock, seconds), good=good, deadline=deadline, clock=clock, sleep=clock.sleep)


def test_a_long_wait_is_one_line_that_ends_with_how_it_went(watched):
    record, lines = watched
    wait("the pods", **options(10))
    (line,) = lines
    assert line[0] == "⏳ the pods: 3 s, at most 60 s; now: not yet" and line[-1] == "✓ the pods: after 10 s"
    assert 6 <= len(line) <= 10
    told = [(one["event"], one["what"]) for one in record.events]
    assert told == [("waiting", "the pods"), ("waited", "the pods")]
    assert record.events[1]["held"] and record.events[1]["seconds"] == pytest.approx(10, abs=0.3)


def test_a_short_wait_is_not_shown(watched):
    record, lines = watched
    wait("the pods", **options(1))
    until(**options(30))  # this wait has no name
    assert not lines and not record.events


def test_a_wait_in_vain_says_so(watched):
    record, lines = watched
    with pytest.raises(TimedOut):
        wait("the pods", **options(99, deadline=20))
    assert lines[0][-1] == "✗ the pods: not within 20 s" and not record.events[-1]["held"]


def test_other_threads_do_not_write_into_the_cell(watched):
    record, lines = watched
    other = threading.Thread(target=lambda: wait("the pods", **options(10)))
    other.start()
    other.join()
    assert not lines and not record.events
