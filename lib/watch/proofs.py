"""The proofs that a watch keeps: its last runs, each control's last proof, and what changed since the run before."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from pydantic import BaseModel, ConfigDict

from lib.bundle import controls
from lib.probes.reporting.results import UNMEASURED, Result
from lib.record.verdicts import ERROR, FAIL, PASS, RED

KEPT = 30  # runs
PROVED, RED_NOW, STALE, NEVER = "proved", "red", "stale", "never proved"


class Run(BaseModel):
    """One run of the probes: when it ended, its verdict, its counts. `note` says why probes could not be sent.

    `unmeasured` probes have an answer that no source states: without a baseline it is neither passed nor red.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    at: datetime
    verdict: str
    passed: int = 0
    red: int = 0
    skipped: int = 0
    unmeasured: int = 0
    note: str = ""


class Proof(BaseModel):
    """When a run last passed all probes of a control, by the run's end; and the probes that are red now.

    `lines` counts the control's lines of evidence that the last run's probes are.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    at: datetime | None = None
    red: tuple[str, ...] = ()
    lines: int = 0


class Proofs(BaseModel):
    """What a watch keeps from run to run. `answers` has the last answer of each probe, by its id."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    runs: tuple[Run, ...] = ()
    controls: dict[str, Proof] = {}
    answers: dict[str, str] = {}

    def after(self, found: Sequence[Result], at: datetime) -> Proofs:
        """Return the proofs after a run that ended at `at` with these results."""
        asked = [one for one in found if one.got]
        red = [one for one in asked if one.verdict in RED]
        run = Run(
            at=at,
            verdict=FAIL if red else PASS,
            passed=sum(one.verdict == PASS for one in asked),
            red=len(red),
            skipped=len(found) - len(asked),
            unmeasured=sum(one.verdict == UNMEASURED for one in asked),
        )
        return Proofs(
            runs=(*self.runs, run)[-KEPT:],
            controls={**self.controls, **_proofs(asked, self.controls, at)},
            answers={**self.answers, **{one.id: one.got for one in asked}},
        )

    def after_error(self, reason: str, at: datetime) -> Proofs:
        """Return the proofs after a run that could not send its probes: no control has a newer proof."""
        return self.model_copy(update={"runs": (*self.runs, Run(at=at, verdict=ERROR, note=reason))[-KEPT:]})

    def rows(self, now: datetime, stale_after: timedelta) -> list[dict[str, object]]:
        """Return each control with its state, last proof, age in whole minutes, red probes, and lines of evidence."""
        return [
            {
                "control": control.name,
                "title": control.title,
                "state": state(proof, now, stale_after),
                "last proof": minute(proof.at),
                "minutes": _age(proof.at, now),
                "red": " ".join(proof.red),
                "evidence": f"{proof.lines} of {len(control.evidence)}",
            }
            for control in controls.load()
            if (proof := self.controls.get(control.id))
        ]


def changes(before: Proofs, found: Iterable[Result]) -> list[str]:
    """Return a line for each probe whose answer differs from its answer in `before`."""
    known = before.answers
    return [
        f"{one.id} {one.title}: {known[one.id]} is now {one.got}, expected {one.expected}"
        for one in found
        if one.got and known.get(one.id, one.got) != one.got
    ]


def state(proof: Proof, now: datetime, stale_after: timedelta) -> str:
    """Return the state of a control. Red counts before stale: a red probe is news, an old proof may be a pause."""
    if proof.red:
        return RED_NOW
    if proof.at is None:
        return NEVER
    return STALE if now - proof.at > stale_after else PROVED


def minute(at: datetime | None) -> str:
    """Return a UTC time for a reader, to the minute; "" without a time."""
    return f"{at:%Y-%m-%d %H:%M} UTC" if at else ""


def _proofs(asked: Sequence[Result], known: Mapping[str, Proof], at: datetime) -> dict[str, Proof]:
    """Return the proofs of the controls that the probes of a run are evidence of: those that passed or are red."""
    judged, made = [one for one in asked if one.verdict != UNMEASURED], {}
    for control in controls.load():
        of_it = [one for one in judged if control.covered([one.id])]
        red = tuple(one.id for one in of_it if one.verdict in RED)
        if of_it:
            lines = control.covered([one.id for one in of_it])
            made[control.id] = Proof(at=known.get(control.id, Proof()).at if red else at, red=red, lines=lines)
    return made


def _age(at: datetime | None, now: datetime) -> int | str:
    return int((now - at).total_seconds() // 60) if at else ""
