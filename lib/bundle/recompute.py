"""Makes everything again that follows from a bundle's events and notebooks, and names the file and row that differ."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice, zip_longest
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from lib import spreadsheet, strict
from lib.bundle import contradictions, derived, index_page
from lib.bundle.derived import DRAWN, JUNIT, PARAMS, RUN, TABLES, Events
from lib.record.event_shape import fault

OTHER_VERSION = "{} made by another version of the templates, so {} not made again"
SHOWN = 5  # sentences about one file
EVENTS = 100_000  # of a run, at most; a run has about 2,000
WIDE = 200  # characters of a value in a sentence
PAGES = "html/"
WORKERS, FEW = 2, 3  # processes that make pages, if there are more pages than FEW


@dataclass(frozen=True)
class Recomputed:
    """The problems, the notes on what could not be made again, and the files that were made again and are equal."""

    problems: list[str]
    notes: list[str]
    equal: list[str]

    def summary(self) -> str:
        """Return the files that are equal in words, the pages of notebooks by their number."""
        pages = sum(name.startswith(PAGES) for name in self.equal)
        others = [name for name in self.equal if not name.startswith(PAGES)]
        return ", ".join([*others, *([f"{pages} pages of notebooks"] if pages else [])])


def check(folder: Path, run: dict, names: list[str], workers: Executor, *, pages: bool = True) -> Recomputed:
    """Compare a bundle with what follows from it.

    Args:
        folder: the bundle.
        run: the content of run.json, which follows its schema.
        names: the files that SHA256SUMS lists and that are there.
        workers: makes the pages of the notebooks while this process makes the rest.
        pages: whether to make the pages of the notebooks too.
    """
    events, problems = _events(folder, run)
    problems += contradictions.problems(folder, run, names, events)
    same = run.get("renderer") == derived.renderer()
    notes = list(contradictions.clock_notes(run))
    drawn = [f"html/{row['step']}.html" for row in run["steps"] if f"html/{row['step']}.html" in names]
    redacted = [name for name in drawn if name in run.get("redacted_pages", [])]
    if drawn and not same:
        notes.append(OTHER_VERSION.format("the pages of the notebooks were", "they were"))
    notes += [f"{name} was redacted after it was made, so it was not made again" for name in redacted]
    wanted = [name for name in drawn if pages and same and name not in redacted]
    sentences = workers.map(partial(_page_problem, folder), wanted)
    texts = _texts(folder, run, names, events, same)
    wrong = {name: sentence for name, sentence in zip(wanted, sentences, strict=True) if sentence}
    equal = [*texts.equal, *(name for name in wanted if name not in wrong)]
    return Recomputed([*problems, *texts.problems, *wrong.values()], [*notes, *texts.notes], equal)


def _texts(folder: Path, run: dict, names: list[str], events: Events, same: bool) -> Recomputed:
    """Compare every file but the pages of notebooks; `same`: the bundle was made by these templates."""
    problems: list[str] = []
    notes: list[str] = []
    try:
        complete = derived.complete(derived.given(run), events) | {"run": run["run"], "previous": run["previous"]}
        made = derived.files(complete, events, names)
    except Exception as error:  # events that no run writes, in a template that does not expect them
        problems.append(f"The tables and pages cannot be made from the events ({type(error).__name__}: {error}).")
        return Recomputed(problems, notes, [])
    equal = []
    for name, text in made.items():
        if differing := list(islice(_differences(folder, name, text, complete, run, same), SHOWN)):
            if same or name not in DRAWN:
                problems += differing
            else:
                notes.append(OTHER_VERSION.format(f"{name} was", "it was"))
        else:
            equal.append(name)
    return Recomputed(problems, notes, equal)


def follows(name: str) -> bool:
    """Return whether a file is made from the events, run.json and the notebooks."""
    return name in (PARAMS, JUNIT, *DRAWN, *TABLES) or name.startswith(PAGES)


def workers(pages: int) -> Executor:
    """Return what makes pages and reads files while this process does the rest: a thread, processes for many pages."""
    if pages <= FEW:
        return ThreadPoolExecutor(1)
    index_page.prepare()  # once, for all the processes
    return ProcessPoolExecutor(WORKERS, get_context("fork"))


def _events(folder: Path, run: dict) -> tuple[Events, list[str]]:
    """Return the events of each step and a sentence for each line that is none, the first of each file."""
    events: Events = {row["step"]: [] for row in run["steps"]}
    problems: list[str] = []
    total = 0
    for step, recorded in events.items():
        path = folder / "events" / f"{step}.jsonl"
        if not path.exists():
            continue
        try:
            lines = strict.text(path).split("\n")
        except ValueError as error:
            problems.append(f"events/{step}.jsonl is not readable: {error}.")
            continue
        wrong = list(islice(_misread(lines, recorded, EVENTS - total), 1))
        problems += [f"events/{step}.jsonl, {sentence}" for sentence in wrong]
        total += len(recorded)
    return events, problems


def _misread(lines: list[str], events: list[dict], most: int) -> Iterator[str]:
    """Add the events of the lines to `events`; yield a sentence for a line that is no event."""
    for number, line in enumerate(lines[:-1], 1):
        if number > most:
            yield f"line {number}: the run has more than {EVENTS} events."
            return
        try:
            event = strict.json_value(line)
        except ValueError as error:
            yield f"line {number} is no event: {error}."
            continue
        if wrong := fault(event):
            yield f"line {number} is no event: {wrong}."
        else:
            events.append(event)
    if lines[-1]:
        yield f"line {len(lines)} does not end."


def _differences(folder: Path, name: str, text: str, complete: dict, run: dict, same: bool) -> Iterator[str]:
    """Yield where a file differs from the text that follows: the values of run.json, the lines of any other file.

    Of a table that another version made (not `same`), the cells count: it has no apostrophes before formulas.
    """
    try:
        found = strict.content(folder / name)
    except ValueError as error:
        yield f"{name}: {error}."
        return
    if found == text.encode() or not same and name in TABLES and _same_cells(found, text):
        return
    if name == RUN:
        values = list(_unequal(complete, run, ""))
        yield from values
        if not values:
            yield f"{name} is not written as the runbook writes it."
        return
    pairs = zip_longest(text.split("\n"), found.decode("utf-8", "replace").split("\n"), fillvalue="(no line)")
    for number, (wanted, got) in enumerate(pairs, 1):
        if wanted != got:
            yield f"{name}, line {number}: the events make it {_cut(wanted)}, the file has {_cut(got)}."
            return
    yield f"{name} is not written as the runbook writes it."


def _same_cells(found: bytes, text: str) -> bool:
    try:
        return len(found) <= len(text.encode()) and spreadsheet.rows(found.decode()) == spreadsheet.rows(text)
    except ValueError:
        return False


def _unequal(wanted: Any, got: Any, place: str) -> Iterator[str]:
    """Yield a sentence for each value of run.json that differs from what follows."""
    if isinstance(wanted, dict) and isinstance(got, dict):
        for key in dict.fromkeys([*wanted, *got]):
            yield from _unequal(wanted.get(key), got.get(key), f"{place}.{key}" if place else str(key))
    elif place == "steps" and isinstance(wanted, list) and isinstance(got, list):
        for one, other in zip(wanted, got, strict=True):
            yield from _unequal(one, other, f"steps.{one['step']}")
    elif wanted != got or type(wanted) is not type(got):
        yield f"{RUN}, {place}: the events make it {_cut(wanted)}, the file has {_cut(got)}."


def _page_problem(folder: Path, name: str) -> str:
    """Return a sentence if a page is not what its notebook makes."""
    notebook = folder / "notebooks" / f"{Path(name).stem}.ipynb"
    try:
        found, _ = strict.content(folder / name), strict.content(notebook)  # neither is too large
        same = found == index_page.notebook(notebook).encode()
    except Exception as error:
        return f"{name} cannot be compared with what its notebook makes ({type(error).__name__}: {error})."
    return "" if same else f"{name} is not the page that its notebook makes."


def _cut(value: Any) -> str:
    return repr(value if not isinstance(value, str) or len(value) <= WIDE else f"{value[:WIDE]}…")
