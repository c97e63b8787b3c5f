"""One run of a watch: what it keeps in the cluster, and when it writes an Event."""

import pytest

from lib.errors import ParamsError
from lib.watch import prove
from tests.lib.watch.test_proofs import GOOD, result
from tests.support.little_cluster import Cluster


class Watched(Cluster):
    """A cluster with the ConfigMap that make watch leaves, which keeps the Events that are created."""

    def __init__(self):
        super().__init__()
        self.events = []
        self.apply(prove.config_map())

    def create(self, thing):
        self.events.append(thing)


def once(cluster, found):
    def ask(mesh):
        if isinstance(found, Exception):
            raise found
        return found

    return prove.prove(cluster, "mesh.yml", 3, ask)


def test_a_run_keeps_its_proofs_and_their_metrics():
    cluster = Watched()
    assert once(cluster, GOOD) == 0
    assert prove.read(cluster).runs[0].passed == 2
    assert (
        "istio_keycloak_proof_run_timestamp_seconds"
        in cluster.kept["ConfigMap", "runbook", "proofs"]["data"][prove.METRICS]
    )
    assert cluster.events == [], "the first run has nothing to compare with"


def test_a_changed_answer_is_an_event_once(capsys):
    cluster = Watched()
    hole = [result("A01", "200 app", "fail"), *GOOD[1:]]
    assert [once(cluster, found) for found in (GOOD, hole, hole)] == [0, 1, 1]
    (event,) = cluster.events
    assert (event["type"], event["message"]) == ("Warning", "A01 probe A01: 403 R is now 200 app, expected 403 R")
    assert "A01 probe A01: expected 403 R, got 200 app" in capsys.readouterr().out
    assert once(cluster, GOOD) == 0
    assert [event["type"] for event in cluster.events] == ["Warning", "Normal"]


def test_a_run_that_cannot_send_says_so_once_and_proves_nothing():
    cluster = Watched()
    assert once(cluster, GOOD) == 0
    proved = prove.read(cluster).controls
    assert [once(cluster, ParamsError("expected a token, got none")) for _ in range(2)] == [2, 2]
    (event,) = cluster.events
    assert event["message"] == "The probes could not be sent: expected a token, got none"
    kept = prove.read(cluster)
    assert kept.controls == proved and [run.verdict for run in kept.runs] == ["pass", "error", "error"]


def test_an_event_is_never_longer_than_the_api_takes():
    cluster = Watched()
    ids = [f"A{number:02}" for number in range(60)]
    once(cluster, [result(id) for id in ids])
    once(cluster, [result(id, "200 app", "fail") for id in ids])
    assert len(cluster.events[0]["message"]) == prove.MESSAGE


def test_an_error_that_is_no_refusal_is_not_hidden():
    with pytest.raises(ZeroDivisionError):
        once(Watched(), ZeroDivisionError())
