"""Tokens are minted once each, when they are asked for, and known as secrets before anybody has them."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from lib.probes.tokens import issued


def test_only_what_is_asked_for_is_minted_and_once():
    made, secrets = [], []
    makers = {name: lambda name=name: made.append(name) or f"token-{name}" for name in ("good", "id")}
    token = issued.by_name(makers, secrets.append)
    assert [token("good"), token("good")] == ["token-good"] * 2
    assert (made, secrets) == (["good"], ["token-good"])


def test_threads_that_ask_at_once_get_the_same():
    made, gate = [], Barrier(4)
    token = issued.by_name({"good": lambda: made.append(1) or f"token-{len(made)}"}, lambda _: None)

    def ask(_):
        gate.wait()
        return token("good")

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(ask, range(4))) == {"token-1"}


def test_what_failed_is_tried_again():
    answers = iter([RuntimeError("away"), "token"])

    def make():
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    token = issued.by_name({"good": make}, lambda _: None)
    with pytest.raises(RuntimeError):
        token("good")
    assert token("good") == "token"


def test_an_unknown_name_is_told_with_the_known():
    with pytest.raises(KeyError, match="expected a token among good, id, got 'gold'"):
        issued.by_name({"good": str, "id": str}, lambda _: None)("gold")
