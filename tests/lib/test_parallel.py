"""Jobs run beside each other, and their results keep the jobs' order."""

from threading import Barrier

import pytest

from lib.parallel import at_once


def test_jobs_run_beside_each_other_and_results_keep_their_order():
    both = Barrier(2, timeout=10)  # breaks unless two jobs wait at once
    assert at_once([lambda: (both.wait(), "a")[1], lambda: (both.wait(), "b")[1]]) == ["a", "b"]
    assert at_once([]) == []


def test_an_error_is_raised_after_the_other_jobs_have_ended():
    done = []
    with pytest.raises(ValueError, match="no"):
        at_once([lambda: int("no"), lambda: done.append(1), lambda: done.append(2)], workers=2)
    assert sorted(done) == [1, 2]
