"""What the commands print: a line for each step of a headless run, live on a terminal, and tables."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from lib.bundle.index_page import MARKS
from lib.bundle.seal import count
from lib.printable import printable
from lib.record import verdicts
from lib.record.events import Followed

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console
    from rich.text import Text

LONG = 10_000  # characters of a line or of a value in a table
LOOK = 0.5  # seconds between two looks at what a step has recorded


class Progress:
    """Prints to `out` the progress of a run with `total` steps; the lines of running steps are live on a terminal."""

    def __init__(self, total: int, out: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._total, self._out, self._clock = total, out or sys.stdout, clock
        self._start = clock()
        self._running: dict[int, tuple[str, Followed, float]] = {}  # by their numbers: name, events, start
        self._console: Console | None = None  # above the live lines

    @contextmanager
    def live(self) -> Iterator[None]:
        """On a terminal, show each running step's seconds, checks and current wait until the block ends."""
        if not self._out.isatty():
            yield
            return
        from rich.console import Console
        from rich.live import Live

        console = Console(file=self._out)
        with Live(get_renderable=self._lines, console=console, refresh_per_second=4, transient=True):
            self._console = console
            try:
                yield
            finally:
                self._console = None

    @contextmanager
    def running(self, number: int, step: str, events: Path) -> Iterator[None]:
        """Print the step's first red check at once, and give it a live line."""
        ended = threading.Event()
        watcher = threading.Thread(target=self._watch_for_red, args=(step, events, ended), daemon=True)
        watcher.start()
        self._running[number] = step, Followed(events), self._clock()
        try:
            yield
        finally:
            del self._running[number]
            ended.set()
            watcher.join()

    def _watch_for_red(self, step: str, events: Path, ended: threading.Event) -> None:
        followed = Followed(events)
        while not ended.wait(LOOK):
            if red := next(filter(_is_red, followed.events()), None):
                name, actual = (red["name"], red["actual"]) if red["event"] == "check" else (red["request"], red["got"])
                self.say(f"{MARKS[red['verdict']]} {step}: {name}: expected {red['expected']}, got {actual}")
                return

    def _lines(self) -> Text:
        from rich.text import Text

        return Text("\n".join(self._line(number, *about) for number, about in sorted(self._running.copy().items())))

    def _line(self, number: int, step: str, followed: Followed, start: float) -> str:
        recorded = followed.events()
        counts, last = count(recorded), recorded[-1] if recorded else {}
        checks = f"{counts['passed']} of {counts['checks']} checks"
        waiting = f"  waiting for: {last['what']}" if last.get("event") == "waiting" else ""
        seconds = self._clock() - start
        return f"{self._place(number)} {step:<20} … {checks}  {seconds:.0f} s{self._elapsed()}{waiting}"

    def done(self, number: int, row: dict, counts: dict) -> None:
        """Print how a step ended: `row` is its row of run.json, `counts` are those of seal.count."""
        some = "" if row["verdict"] == "pass" else f"{counts['passed']} of "
        checks = f"{some}{counts['checks']} checks"
        text = f"{self._place(number)} {row['step']:<20} {MARKS[row['verdict']]} {checks:<15} {row['seconds']:6.1f} s"
        self.say(text + self._elapsed())

    def say(self, text: str) -> None:
        """Print one line at once."""
        text = printable(text, LONG)
        if self._console:
            self._console.print(text, markup=False, highlight=False, emoji=False, soft_wrap=True)
        else:
            print(text, file=self._out, flush=True)

    def seconds(self) -> float:
        """Return the seconds since the run began."""
        return self._clock() - self._start

    def _place(self, number: int) -> str:
        return f"[{number:>2}/{self._total}]"

    def _elapsed(self) -> str:
        return f"  (elapsed {self.seconds():.0f} s)"


def _is_red(event: dict) -> bool:
    return event["event"] in ("check", "response") and event["verdict"] in verdicts.RED


def show_table(table: pd.DataFrame, title: str = "", optional: Sequence[str] = ()) -> None:
    """Print a table, as wide as the terminal.

    If it is too wide, its long values are wrapped. With `optional`, these columns are left out instead, and no value
    of the other columns is ever cut or wrapped: a run's name must be whole to be copied.
    """
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    def grid(names: Sequence[str]) -> Table:
        made = Table(title=title or None, title_justify="left", box=SIMPLE_HEAD)
        for name in names:
            made.add_column(name, overflow="fold", no_wrap=bool(optional))
        for row in table[list(names)].itertuples(index=False):
            made.add_row(*(escape(printable(value, LONG)) for value in row))
        return made

    def width(names: Sequence[str]) -> int:
        return console.measure(grid(names), options=console.options.update(width=1000)).maximum

    console, names = Console(), [str(name) for name in table.columns]
    if optional and width(names) > console.width:
        names = [name for name in names if name not in optional]
        console.width = max(width(names), console.width)
    console.print(grid(names))
