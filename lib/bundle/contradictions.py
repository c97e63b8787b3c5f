"""What the files, the events and run.json of a bundle say against each other."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import datetime
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

from lib import strict
from lib.bundle import derived, oscal, provenance
from lib.bundle.derived import INDEX, JUNIT, PARAMS, RUN, TABLES, Events
from lib.istio import answers
from lib.record.event_shape import is_time

SCHEMA = Path(__file__).parent / "schemas" / "run.schema.json"
SHOWN = 5  # sentences about one file
NOTEBOOK = re.compile(r"\d\d-")  # the names of steps that are notebooks; the probes of a fleet are a step without one
CLOCK = 10  # seconds that the clock and the counted seconds may differ, and 5 %
WIDE = 200  # characters of a value in a sentence
EVIDENCE = ("objects/", "mesh/")
FIXED = (RUN, PARAMS, JUNIT, *oscal.FILES, INDEX, provenance.KEY_FILE, *TABLES)


def shape_problems(run: Any) -> list[str]:
    """Return up to three sentences on where run.json does not follow its schema."""
    errors = sorted(_validator().iter_errors(run), key=lambda error: list(map(str, error.path)))
    places = [(".".join(map(str, error.path)) or "at its top", error.message[:WIDE]) for error in errors[:3]]
    problems = [f"{RUN} does not follow its schema: {place}: {message}." for place, message in places]
    if problems:
        return problems
    steps = [row["step"] for row in run["steps"]]
    times = [run["started"], run["finished"], *(row["started"] for row in run["steps"] if row["started"])]
    if wrong := [time for time in times if not is_time(time)]:
        return [f"{RUN} does not follow its schema: {wrong[0]!r} is no time."]
    if len(set(steps)) < len(steps):
        return [f"{RUN} lists a step twice: {next(step for step in steps if steps.count(step) > 1)}."]
    return []


def problems(folder: Path, run: dict, names: list[str], events: Events) -> list[str]:
    """Return a sentence for each contradiction.

    Args:
        folder: the bundle.
        run: the content of run.json, which follows its schema.
        names: the files that SHA256SUMS lists and that are there.
        events: the events of each step.
    """
    return [
        *(f"{name} is no file that a run leaves." for name in names if not _belongs(name, run)),
        *_evidence(folder, names, events),
        *_steps(folder, run, names, events),
        *_times(run, events),
    ]


def clock_notes(run: dict) -> Iterator[str]:
    """Yield a note if the clock and the counted seconds disagree: the clock was set, or a time is not true."""
    times = [datetime.fromisoformat(run[name]) for name in ("started", "finished")]
    span, seconds = (times[1] - times[0]).total_seconds(), run["seconds"]
    if abs(span - seconds) > CLOCK + seconds / 20:
        yield f"the run counted {seconds} s, but its clock went {span:.0f} s from start to end"


@cache
def _validator() -> Any:
    from jsonschema import Draft202012Validator

    return Draft202012Validator(json.loads(SCHEMA.read_text(encoding="utf-8")))


def _belongs(name: str, run: dict) -> bool:
    if name in FIXED or name.startswith(EVIDENCE):
        return True
    kinds = (("notebooks", "ipynb"), ("html", "html"), ("events", "jsonl"))
    return any(name == f"{place}/{row['step']}.{end}" for row in run["steps"] for place, end in kinds)


def _evidence(folder: Path, names: list[str], events: Events) -> Iterator[str]:
    """Yield a sentence for each file of evidence that is not as the events name it."""
    named = {
        event["file"]: (step, event["sha256"])
        for step, recorded in events.items()
        for event in recorded
        if event["event"] == "evidence"
    }
    for file, (step, sha256) in named.items():
        if file not in names:
            yield f"{file} is missing, though an event of {step} names it."
        elif strict.digest(folder / file) != sha256:
            yield f"{file} is not the file that an event of {step} names by its SHA-256."
    for file in names:
        if file.startswith(EVIDENCE) and file not in named:
            yield f"{file} is named by no event."


def _steps(folder: Path, run: dict, names: list[str], events: Events) -> Iterator[str]:
    for row in run["steps"]:
        step, verdict, recorded = row["step"], row["verdict"], events[row["step"]]
        made = derived.judged(recorded)
        ran = verdict in ("pass", "fail")
        if ran and verdict != made:
            yield f"run.json has the verdict {verdict} for {step}, but its checks make it {made}."
        if ran and row["error"] and verdict == "pass":
            yield f"run.json has an error for {step}, which passed."
        if ran and any(event["event"] == "unreadable" for event in recorded):
            yield f"{step} has events that were not readable, so its verdict cannot be {verdict}."
        if (verdict == "not run") != (not row["started"]) or (verdict == "not run" and recorded):
            yield f"run.json has {step} as {verdict}, which its events or its time contradict."
        yield from islice(_misjudged(step, recorded), SHOWN)
        yield from _notebook(folder, step, names, ran)


def _misjudged(step: str, events: list[dict]) -> Iterator[str]:
    """Yield a sentence for each response that passed though another answer came than the expected one."""
    for event in events:
        if event["event"] == "response" and event["verdict"] == "pass":
            wanted, got = str(event["expected"]), str(event["got"])
            if not (answers.fits(got, wanted) if event.get("probe") else got == wanted):
                asked = event.get("probe") or event["request"]
                yield f"events/{step}.jsonl: {asked} passed, but it expected {wanted} and got {got}."


def _notebook(folder: Path, step: str, names: list[str], ran: bool) -> Iterator[str]:
    """Yield a sentence if a step that ran lacks its notebook or its page."""
    name, page = f"notebooks/{step}.ipynb", f"html/{step}.html"
    if name not in names:
        if ran and NOTEBOOK.match(step):
            yield f"{step} ran, but {name} is missing."
        if page in names:
            yield f"{page} has no notebook that it was made from."
        return
    try:
        whole = isinstance(strict.json_value(strict.text(folder / name))["cells"], list)
    except (ValueError, KeyError, TypeError):
        whole = False
    if ran and not whole:
        yield f"{step} ran, but {name} is no notebook."
    if whole and page not in names:
        yield f"{page}, the page of {name}, is missing."


def _times(run: dict, events: Events) -> Iterator[str]:
    """Yield a sentence for each step with events outside of the run's time."""
    for row in run["steps"]:
        times = [event["at"] for event in events[row["step"]]] + [row["started"]] * bool(row["started"])
        if times and not run["started"] <= min(times) <= max(times) <= run["finished"]:
            yield (
                f"The events of {row['step']} ({min(times)} to {max(times)}) are not within the run "
                f"({run['started']} to {run['finished']})."
            )
