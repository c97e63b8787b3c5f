"""A check is one row of the record: name, expected, actual, verdict, seconds, tries, reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from lib.record import verdicts


@dataclass(frozen=True)
class Check:
    """One row of the record: the expected and the actual value, the verdict, and the seconds and tries it took."""

    name: str
    expected: str
    actual: str
    verdict: str
    seconds: float = 0.0
    tries: int = 1
    reason: str = ""

    def row(self) -> dict[str, Any]:
        """Return the check as a flat dict, seconds rounded to hundredths; `passed` is None if it was skipped."""
        return {**asdict(self), "passed": verdicts.held(self.verdict), "seconds": round(self.seconds, 2)}

    @property
    def red(self) -> bool:
        """Whether the check turns its step red."""
        return self.verdict in verdicts.RED


def passed(checks: Iterable[Check]) -> str:
    """Return the checks in words: 12 checks passed, 1 waived."""
    counts = Counter(check.verdict for check in checks)
    words = {verdicts.WAIVED: "waived", verdicts.SKIPPED: "skipped"}
    more = [f"{counts[verdict]} {word}" for verdict, word in words.items() if counts[verdict]]
    return ", ".join([f"{counts[verdicts.PASS]} checks passed", *more])


def failure(checks: Sequence[Check]) -> str:
    """Return the first red check in words, and how many checks did not pass if there are more."""
    red = [check for check in checks if check.red]
    more = f" ({len(red)} of {len(checks)} checks did not pass)" if len(red) > 1 else ""
    hint = f"; {red[0].reason}" if red[0].reason else ""
    return f"{red[0].name}: expected {red[0].expected}, got {red[0].actual}{hint}{more}"


def actions(changes: Iterable[dict[str, str]]) -> str:
    """Return the changes of objects in words: objects: 2 created, 1 unchanged."""
    counts = Counter(row["action"] for row in changes)
    words = [
        f"{counts[action]} {action}" for action in ("created", "changed", "unchanged", "deleted") if counts[action]
    ]
    return f"objects: {', '.join(words) or 'none'}"
