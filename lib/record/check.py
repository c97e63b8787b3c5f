"""A check is one row of the record: name, expected, actual, verdict, seconds, tries, reason."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from lib.record import verdicts


@dataclass(frozen=True)
class Check:
    """One row of the record: what was expected, what was found, and what it took to find it."""

    name: str
    expected: str
    actual: str
    verdict: str
    seconds: float = 0.0
    tries: int = 1
    reason: str = ""

    def row(self) -> dict[str, Any]:
        """Return the check as a flat dict, seconds rounded to hundredths; `passed` is None where it was skipped."""
        return {**asdict(self), "passed": verdicts.held(self.verdict), "seconds": round(self.seconds, 2)}

    @property
    def red(self) -> bool:
        """Whether it turns its step red."""
        return self.verdict in verdicts.RED
