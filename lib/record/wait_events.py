"""Shows long waits while they last, in the notebook and in the record; a terminal reads the record."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from lib.record.events import Record

SHOWN = 100  # characters of the last answer


class Waiting:
    """Reports each wait of this thread that takes longer than a moment; ignores waits of other threads.

    Args:
        record: gets the events waiting and waited.
        show: puts a text into the cell's output and returns a function that replaces it; None writes the record only.
    """

    def __init__(self, record: Record, show: Callable[[str], Callable[[str], None]] | None = None) -> None:
        self._record, self._show = record, show
        self._replace: Callable[[str], None] | None = None
        self._thread, self._what = threading.get_ident(), ""

    def during(self, what: str, seconds: float, deadline: float, seen: object) -> None:
        """Show the seconds that the wait for `what` has taken, its deadline and the last value seen."""
        if threading.get_ident() != self._thread:
            return
        text = f"⏳ {what}: {seconds:.0f} s, at most {deadline:.0f} s; now: {' '.join(str(seen).split())[:SHOWN]}"
        if what != self._what:
            self._what = what
            self._record.write("waiting", what=what, deadline=deadline)
            self._replace = self._show(text) if self._show else None
        elif self._replace:
            self._replace(text)

    def after(self, what: str, seconds: float, held: bool) -> None:
        """Show how the wait ended, if `during` showed it."""
        if what != self._what or threading.get_ident() != self._thread:
            return
        self._record.write("waited", what=what, seconds=round(seconds, 1), held=held)
        if self._replace:
            self._replace(f"{'✓' if held else '✗'} {what}: {'after' if held else 'not within'} {seconds:.0f} s")
        self._what, self._replace = "", None


def in_notebook() -> Callable[[str], Callable[[str], None]] | None:
    """Return a function that shows a replaceable line in the running cell; None outside of a notebook."""
    from IPython import get_ipython
    from IPython.display import Pretty, display

    class Line(Pretty):
        def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
            printer.text(self.data)

    if getattr(get_ipython(), "kernel", None) is None:
        return None

    def show(text: str) -> Callable[[str], None]:
        handle = display(Line(text), display_id=True)
        return lambda later: handle.update(Line(later))

    return show
