"""The pages of a fleet and of a watch with a row of each state, for the tests of pages."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from lib.fleet import gather, reports
from lib.watch import reports as watch
from lib.watch.proofs import KEPT, Proof, Proofs
from tests.support.stub_fleet import ALL, a_round, recorded, with_hole

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
NOTES = {
    gather.UNTRUSTED: f"The bundle is signed by {'0' * 64}, which is not a trusted key <b>.",
    gather.RED: "its clock and S3's differ by 24.0 hours",
    gather.LATE: "There is no EKS cluster shop in eu-west-1. Correct the fleet's clusters if it is gone.",
    gather.MISSING: "OOMKilled",
    gather.PROVED: "",
}


def write(folder: Path) -> dict[str, Path]:
    """Write both pages; return their paths by name."""
    fleet, _ = reports.write(folder / "fleet", *_round())
    page = folder / "watch.html"
    page.write_text(watch.page(_watched(), "dev", NOW, 3 * HOUR), encoding="utf-8")
    return {"fleet": fleet, "watch": page}


def _round():
    good, hole = recorded(ALL), with_hole(recorded(ALL))
    red = [one if number % 3 else _failed(one) for number, one in enumerate(hole)]
    answers = {gather.RED: red, gather.PROVED: good}
    rows = [
        gather.Row(
            name=f"{state.replace(' ', '-')}-cluster{'-of-a-team-with-a-long-name' * (state == gather.RED)}",
            region="eu-west-1",
            state=state,
            at=None if state == gather.MISSING else NOW - HOUR,
            note=NOTES[state],
            proofs=Proofs().after(answers[state], NOW) if state in answers else Proofs(),
        )
        for state in gather.STATES
    ]
    before = [row.model_copy(update={"state": gather.PROVED, "proofs": Proofs().after(good, NOW)}) for row in rows]
    one = a_round("s3://proofs/x", *(row.name for row in rows))
    return one, rows, "2026-01-01", reports.changes(before, rows), NOW


def _failed(one):
    return type(one)(**{**vars(one), "got": "200 app", "verdict": "fail"}) if one.got else one


def _watched():
    """Runs of 30 hours: red at the end, a control that is stale, and another that was never proved."""
    kept = Proofs()
    for number in range(KEPT - 2):
        kept = kept.after(recorded(ALL), NOW - (KEPT - number) * HOUR)
    kept = kept.after_error(f"No answer from the gateway at https://{'x' * 60}/headers.", NOW - 2 * HOUR)
    kept = kept.after(with_hole(recorded(ALL)), NOW)
    old = {"sc-13": Proof(at=NOW - 5 * HOUR, lines=2), "au-10": Proof(lines=1)}
    return kept.model_copy(update={"controls": {**kept.controls, **old}})
