"""A value is read once in `age` seconds, and again after `forget`."""

from __future__ import annotations

import pytest

from lib import params
from lib.names import KEYCLOAK
from lib.recent import Recent
from lib.record.events import Record
from lib.run import Run
from lib.steps import tokens
from tests.support.little_cluster import IMAGES, Cluster


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


def test_a_step_reads_a_password_once_and_again_after_it_changed_it():
    cluster = Counting()
    run = Run("11-testing", params.Params(env="recent", cluster_source="existing", **IMAGES), Record())
    run.cluster = cluster
    run.put_secret("user-alice", KEYCLOAK, password="first-of-two")
    assert [tokens.password(run, "alice") for _ in range(3)] == ["first-of-two"] * 3
    assert cluster.reads == 1
    run.put_secret("user-alice", KEYCLOAK, password="second-of-two")
    assert tokens.password(run, "alice") == "second-of-two"


class Counting(Cluster):
    reads = 0

    def find(self, *key):
        self.reads += 1
        return super().find(*key)
