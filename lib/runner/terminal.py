"""What a headless run tells while it works: a line for each step, and on a terminal the step that is running."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lib.bundle.index_page import MARKS
from lib.bundle.seal import count
from lib.record.events import read


class Progress:
    """Tells of `total` steps to `out`; live where that is a terminal."""

    def __init__(self, total: int, out=None, clock: Callable[[], float] = time.monotonic):
        self._total, self._out, self._clock = total, out or sys.stdout, clock
        self._begin = clock()

    @contextmanager
    def running(self, number: int, step: str, events: Path) -> Iterator[None]:
        """Show, on a terminal, the seconds, the checks passed and what is waited for, until the block ends."""
        if not self._out.isatty():
            yield
            return
        from rich.console import Console
        from rich.live import Live
        from rich.text import Text

        begin = self._clock()

        def line() -> Text:
            found = read(events)
            counts, last = count(found), found[-1] if found else {}
            seconds = self._clock() - begin
            checks = f"{counts['passed']} of {counts['checks']} checks"
            waiting = f"  waiting for: {last['what']}" if last.get("event") == "waiting" else ""
            return Text(f"{self._place(number)} {step:<20} … {checks}  {seconds:.0f} s{self._elapsed()}{waiting}")

        with Live(get_renderable=line, console=Console(file=self._out), refresh_per_second=4, transient=True):
            yield

    def done(self, number: int, row: dict, counts: dict) -> None:
        """Tell how a step ended."""
        some = "" if row["verdict"] == "pass" else f"{counts['passed']} of "
        checks = f"{some}{counts['checks']} checks"
        text = f"{self._place(number)} {row['step']:<20} {MARKS[row['verdict']]} {checks:<15} {row['seconds']:6.1f} s"
        self.say(text + self._elapsed())

    def say(self, text: str) -> None:
        """Tell one line, at once."""
        print(text, file=self._out, flush=True)

    def seconds(self) -> float:
        """Return the seconds since the beginning."""
        return self._clock() - self._begin

    def _place(self, number: int) -> str:
        return f"[{number:>2}/{self._total}]"

    def _elapsed(self) -> str:
        return f"  (elapsed {self.seconds():.0f} s)"
