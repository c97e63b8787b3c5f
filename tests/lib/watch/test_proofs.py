"""What a run of a watch proves, when a proof is red or stale, and what counts as a change."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from lib.probes.reporting.results import Result
from lib.watch import proofs
from lib.watch.proofs import KEPT, NEVER, PROVED, RED_NOW, STALE, Proof, Proofs

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def result(id="A01", got="403 R", verdict="pass", expected="403 R"):
    about = {"title": f"probe {id}", "profile": "figure-1", "caller": "user", "request": "GET /headers", "token": ""}
    return Result(id=id, family=id[0], got=got, verdict=verdict, expected=expected, **about)


GOOD = [result("A01"), result("D12", "403 J16", expected="403 J16"), result("H01", "", "skipped")]

UNKNOWN = result("B25a", "400 codec", "unmeasured", "400 codec")  # the only probe of SC-8


def states(kept, at, stale_after=HOUR):
    return {row["control"]: row["state"] for row in kept.rows(at, stale_after)}


def test_a_run_proves_the_controls_that_its_probes_are_evidence_of():
    kept = Proofs().after(GOOD, NOON)
    assert {"IA-2", "IA-8"} <= states(kept, NOON).keys()
    assert set(states(kept, NOON).values()) == {PROVED}
    assert (kept.runs[0].passed, kept.runs[0].red, kept.runs[0].skipped) == (2, 0, 1)
    assert "IA-9" not in states(kept, NOON), "a control whose probes cannot be sent is no row"


def test_an_answer_without_a_baseline_proves_nothing_and_its_change_is_news():
    kept = Proofs().after([*GOOD, UNKNOWN], NOON)
    assert states(kept, NOON) == states(Proofs().after(GOOD, NOON), NOON) and "SC-8" not in states(kept, NOON)
    assert (kept.runs[0].passed, kept.runs[0].unmeasured) == (2, 1)
    assert "SC-8" in states(Proofs().after([replace(UNKNOWN, verdict="pass")], NOON), NOON)
    assert proofs.changes(kept, [replace(UNKNOWN, got="200 app")])


def test_a_red_probe_keeps_the_last_proof_and_names_itself():
    kept = Proofs().after(GOOD, NOON).after([result("A01", "200 app", "fail"), *GOOD[1:]], NOON + HOUR)
    (row,) = [row for row in kept.rows(NOON + HOUR, 3 * HOUR) if row["control"] == "IA-2"]
    assert (row["state"], row["last proof"], row["minutes"], row["red"]) == (RED_NOW, "2026-01-02 12:00 UTC", 60, "A01")
    assert states(kept, NOON + HOUR, 3 * HOUR)["IA-8"] == PROVED
    healed = kept.after(GOOD, NOON + 2 * HOUR)
    assert states(healed, NOON + 2 * HOUR)["IA-2"] == PROVED


def test_a_proof_is_stale_when_no_newer_run_proves_it():
    kept = Proofs().after(GOOD, NOON).after_error("the gateway is away", NOON + HOUR)
    assert set(states(kept, NOON + HOUR).values()) == {PROVED}
    assert set(states(kept, NOON + HOUR + timedelta(seconds=1)).values()) == {STALE}
    assert kept.runs[-1].note == "the gateway is away"


def test_a_control_that_was_red_from_the_start_was_never_proved():
    kept = Proofs().after([result("A01", "200 app", "fail")], NOON)
    assert states(kept, NOON)["IA-2"] == RED_NOW
    assert proofs.state(Proof(), NOON, HOUR) == NEVER


def test_the_last_runs_are_kept():
    kept = Proofs()
    for minute in range(KEPT + 5):
        kept = kept.after(GOOD, NOON + timedelta(minutes=minute))
    assert [kept.runs[0].at, len(kept.runs)] == [NOON + timedelta(minutes=5), KEPT]


@pytest.mark.parametrize(
    ("got", "told"),
    [("403 R", []), ("200 app", ["A01 probe A01: 403 R is now 200 app, expected 403 R"]), ("", [])],
)
def test_another_answer_is_a_change(got, told):
    assert proofs.changes(Proofs().after(GOOD, NOON), [result(got=got)]) == told


def test_the_first_answer_is_no_change():
    assert proofs.changes(Proofs(), GOOD) == []


def test_the_proofs_survive_their_way_through_the_config_map():
    kept = Proofs().after(GOOD, NOON)
    assert Proofs.model_validate_json(kept.model_dump_json()) == kept
