"""Pages about several runs: the differences of two runs, and the runs of an environment. They load nothing."""

from __future__ import annotations

import math
import os
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from urllib.parse import quote

import pandas as pd
from markupsafe import Markup

from lib.bundle import compare, seal
from lib.bundle.index_page import MARKS
from lib.files import write_atomic, writing
from lib.render import rendered

NEWEST = 60  # runs in the picture; the table has all runs
FEW = 25  # a part with more differences is folded
LEFT, SLOT, BAR, HEIGHT, HEAD, FOOT = 56, 24, 18, 240, 24, 96  # sizes of the picture, in its own units
TICKS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600)  # seconds between two lines of the picture
LINES = 5  # at most, in the picture
WORDS = {
    "pass": "passed",
    "fail": "failed",
    "error": "ended by an error",
    "incomplete": "never sealed",
    "unreadable": "not readable",
}


def write_comparison(one: Path, other: Path, tables: dict[str, pd.DataFrame]) -> Path:
    """Write the tables of `compare.compare` as compare-<A>--<B>.html beside the first bundle; return the path."""
    path = one.absolute().parent / f"compare-{one.absolute().name}--{other.absolute().name}.html"
    sides = [_side(letter, folder, path.parent) for letter, folder in (("A", one), ("B", other))]
    parts = {part: table.to_dict("records") for part, table in tables.items()}
    with writing(path):
        write_atomic(path, rendered("compare.html.j2", sides=sides, parts=parts, few=FEW, marks=MARKS))
    return path


def write_history(folder: Path, table: pd.DataFrame | None = None) -> Path:
    """Write history.html into an environment's folder of bundles; return the path.

    `table` is what `compare.runs` returns, if the caller has it already.
    """
    table = compare.runs(folder) if table is None else table
    rows = [{**row, **_page_and_steps(folder / row["run"])} for row in table.fillna("").to_dict("records")]
    svg = Markup(picture(rows)) if rows else ""
    path = folder / "history.html"
    text = rendered("history.html.j2", env=folder.name, rows=rows[::-1], picture=svg, words=WORDS)
    with writing(path):
        write_atomic(path, text)
    return path


def picture(rows: list[dict]) -> str:
    """Return the newest runs as an SVG: a bar for each, its height the run's duration, a segment for each step.

    `rows` are rows of `compare.runs` with two more columns: `parts`, the steps as (name, verdict, seconds, share), and
    `link`, the run's page, "" if it has none. A share is the step's part of the run's seconds: steps that run at once
    share their time.
    """
    newest = rows[-NEWEST:]
    top = max([float(row["seconds"] or 0) for row in newest] + [1.0])
    tick = next((seconds for seconds in TICKS if top / seconds <= LINES), math.ceil(top / LINES))
    return rendered(
        "history.svg.j2",
        alt=alt(newest),
        bars=[_bar(number, row, HEIGHT / top) for number, row in enumerate(newest)],
        lines=[(f"{value} s", HEAD + HEIGHT - value * HEIGHT / top) for value in range(0, int(top) + 1, tick)],
        width=LEFT + max(len(newest), 12) * SLOT,
        height=HEAD + HEIGHT + FOOT,
        foot=HEAD + HEIGHT,
        left=LEFT,
        bar=BAR,
        signs={**MARKS, "incomplete": "?", "unreadable": "?"},
    )


def alt(rows: list[dict]) -> str:
    """Return the picture in words, for readers who cannot see it."""
    verdicts = [row["verdict"] for row in rows]
    counted = ", ".join(f"{verdicts.count(verdict)} {words}" for verdict, words in WORDS.items() if verdict in verdicts)
    times = [float(row["seconds"]) for row in rows if row["seconds"] != ""]
    took = f" They took {min(times):.0f} to {max(times):.0f} s, the newest {times[-1]:.0f} s." if times else ""
    return f"Bar chart of {len(rows)} runs, oldest first: {counted}.{took} The table below lists the runs."


def _bar(number: int, row: dict, scale: float) -> dict:
    x, y, segments = LEFT + number * SLOT, HEAD + HEIGHT, []
    for name, verdict, seconds, share in row["parts"]:
        tall = round(share * scale, 2)
        y = round(y - tall, 2)
        segments.append({"words": f"{name}: {seconds:.1f} s", "verdict": verdict, "y": y, "height": tall})
    words = f"{row['run']}: {WORDS[row['verdict']]}" + (f", {row['seconds']} s" if row["seconds"] != "" else "")
    top = min(y, HEAD + HEIGHT - float(row["seconds"] or 0) * scale)
    about = {"run": row["run"], "verdict": row["verdict"], "link": row["link"], "words": words}
    return {**about, "x": x, "top": round(top, 2), "height": round(HEAD + HEIGHT - top, 2), "segments": segments}


def _page_and_steps(folder: Path) -> dict:
    """Return `link` and `parts` of a bundle, both empty if it was never sealed or is not readable."""
    run = compare.sealed_run(folder) if (folder / seal.SUMS).is_file() else None
    if run is None:
        return {"link": "", "parts": []}
    steps = [step for step in run["steps"] if step["verdict"] != "not run"]
    each = zip(steps, shares(steps), strict=True)
    parts = [(step["step"], step["verdict"], step["seconds"], share) for step, share in each]
    return {"link": _link(folder, folder.parent), "parts": parts}


def shares(steps: list[dict]) -> list[float]:
    """Return each step's share of the time in seconds: where several ran at once, each has an equal part."""
    starts = [datetime.fromisoformat(step["started"]).timestamp() for step in steps]
    spans = [(start, start + step["seconds"]) for start, step in zip(starts, steps, strict=True)]
    parts = [0.0] * len(steps)
    for begin, end in pairwise(sorted({time for span in spans for time in span})):
        running = [place for place, span in enumerate(spans) if span[0] <= begin and end <= span[1]]
        for place in running:
            parts[place] += (end - begin) / len(running)
    return parts


def _side(letter: str, folder: Path, place: Path) -> dict:
    run = seal.read_run(folder)
    kept = {key: run[key] for key in ("verdict", "started", "seconds", "commit", "dirty", "totals")}
    return {**kept, "letter": letter, "name": folder.absolute().name, "link": _link(folder.absolute(), place)}


def _link(folder: Path, place: Path) -> str:
    return quote(os.path.relpath(folder / "index.html", place))
