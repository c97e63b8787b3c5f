"""What is waited for, as it is waited for: in the notebook, and in the record, from which a terminal tells it."""

from __future__ import annotations

import threading
from collections.abc import Callable

from lib.record.events import Record

SHOWN = 100  # characters of the last answer that are told


class Waiting:
    """Tells of each wait that takes longer than a moment; of waits in other threads nothing is told.

    `show` puts a text into the cell's output and returns what replaces it; without one, only the record is written.
    """

    def __init__(self, record: Record, show: Callable[[str], Callable[[str], None]] | None = None):
        self._record, self._show = record, show
        self._replace: Callable[[str], None] | None = None
        self._thread, self._what = threading.get_ident(), ""

    def during(self, what: str, seconds: float, deadline: float, seen) -> None:
        """Tell that `what` has been waited for so long, of at most `deadline` seconds, and what was seen last."""
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
        """Tell how it ended, where it was told of at all."""
        if what != self._what or threading.get_ident() != self._thread:
            return
        self._record.write("waited", what=what, seconds=round(seconds, 1), held=held)
        if self._replace:
            self._replace(f"{'✓' if held else '✗'} {what}: {'after' if held else 'not within'} {seconds:.0f} s")
        self._what, self._replace = "", None


def in_notebook() -> Callable[[str], Callable[[str], None]] | None:
    """Return what shows a line in the running cell and lets it be replaced; None outside of a notebook."""
    from IPython import get_ipython
    from IPython.display import Pretty, display

    class Line(Pretty):
        def _repr_pretty_(self, printer, cycle):
            printer.text(self.data)

    if getattr(get_ipython(), "kernel", None) is None:
        return None

    def show(text: str) -> Callable[[str], None]:
        handle = display(Line(text), display_id=True)
        return lambda later: handle.update(Line(later))

    return show
