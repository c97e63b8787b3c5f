"""The five verdicts of a check, the verdict of a run, and the waivers that excuse a failed check."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime

from lib.params.waiver import Waiver

PASS, FAIL, ERROR, SKIPPED, WAIVED = "pass", "fail", "error", "skipped", "waived"
VERDICTS = (PASS, FAIL, ERROR, SKIPPED, WAIVED)
RED = (FAIL, ERROR)
EXIT_CODES = {PASS: 0, FAIL: 1, ERROR: 2}
MARKS = {PASS: "✓", FAIL: "✗", ERROR: "!", SKIPPED: "–", WAIVED: "~"}


def of(held: bool, broke: bool = False) -> str:
    """Return the verdict of a check that was made; `broke`: it ended with an exception, without an answer."""
    return PASS if held else ERROR if broke else FAIL


def held(verdict: str) -> bool | None:
    """Return whether the check passed; None if it was skipped."""
    return None if verdict == SKIPPED else verdict == PASS


def waived(
    verdict: str, step: str, check: str, waivers: Iterable[Waiver], today: date | None = None
) -> tuple[str, str]:
    """Return the verdict after the waivers, and a note on the waiver: a fail is waived, an error never is.

    A waiver whose last day is over changes nothing; the note says that it ended.
    """
    one = next((one for one in waivers if one.covers(step, check)), None)
    if one is None or verdict != FAIL:
        return verdict, ""
    if (today or datetime.now(UTC).date()) > date.fromisoformat(one.expires):
        return FAIL, f"{one.owner}'s waiver ended on {one.expires}"
    return WAIVED, str(one)


def worst(verdicts: Iterable[str]) -> str:
    """Return the verdict of several steps: error outweighs fail, fail outweighs pass; nothing run is an error."""
    found = set(verdicts)
    return next((one for one in (ERROR, FAIL, PASS) if one in found), ERROR)
