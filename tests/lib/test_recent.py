"""A value is read once in `age` seconds, and again after `forget`."""

from __future__ import annotations

import pytest

from lib.recent import Recent


def test_a_value_is_kept_for_its_age():
    now, reads = [0.0], []
    recent = Recent(age=2, clock=lambda: now[0])

    def ask(key: str) -> int:
        return recent.get(key, lambda: reads.append(key) or len(reads))

    assert [ask("a"), ask("a"), ask("b"), ask("a")] == [1, 1, 2, 1]
    now[0] = 2.0
    assert ask("a") == 3


def test_what_is_read_during_a_forget_is_not_kept():
    recent = Recent(clock=lambda: 0.0)

    def changed_meanwhile() -> str:
        recent.forget()
        return "old"

    assert recent.get("a", changed_meanwhile) == "old"
    assert recent.get("a", lambda: "new") == "new"


def test_no_value_outlives_an_error():
    recent = Recent(clock=lambda: 0.0)
    with pytest.raises(ZeroDivisionError):
        recent.get("a", lambda: 1 / 0)
    assert recent.get("a", lambda: "read") == "read"
