"""Pages about several runs: what differs between two, and an environment's runs over time; no network, no script."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote

import pandas as pd
from markupsafe import Markup

from lib.bundle import compare, seal
from lib.bundle.index_page import MARKS
from lib.render import rendered

NEWEST = 60  # runs that the picture shows; the table has them all
FEW = 25  # rows of a difference that are shown without unfolding
LEFT, SLOT, BAR, HEIGHT, HEAD, FOOT = 56, 24, 18, 240, 24, 96  # what the picture measures, in its own units
TICKS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600)  # seconds between the picture's lines
LINES = 5  # of the picture, at most
WORDS = {"pass": "passed", "fail": "failed", "error": "ended by an error", "incomplete": "never sealed"}


def write_comparison(one: Path, other: Path, found: dict[str, pd.DataFrame]) -> Path:
    """Write what `history.compare` found beside the first bundle; return compare-<A>--<B>.html."""
    path = one.absolute().parent / f"compare-{one.absolute().name}--{other.absolute().name}.html"
    sides = [_side(letter, folder, path.parent) for letter, folder in (("A", one), ("B", other))]
    parts = {part: table.to_dict("records") for part, table in found.items()}
    path.write_text(rendered("compare.html.j2", sides=sides, parts=parts, few=FEW, marks=MARKS), encoding="utf-8")
    return path


def write_history(folder: Path) -> Path:
    """Write history.html into an environment's folder of bundles; return its path."""
    table = compare.runs(folder).fillna("").to_dict("records")
    rows = [{**row, **_ended(folder / row["run"])} for row in table]
    drawn = Markup(picture(rows)) if rows else ""
    path = folder / "history.html"
    text = rendered("history.html.j2", env=folder.name, rows=rows[::-1], picture=drawn, words=WORDS)
    path.write_text(text, encoding="utf-8")
    return path


def picture(rows: list[dict]) -> str:
    """Return an SVG of the newest runs: a bar each, as high as it took long, a segment a step, a sign for its verdict.

    `rows` are those of `history.runs`, with the steps as `parts` and the run's page as `link`, "" where it has none.
    """
    shown = rows[-NEWEST:]
    top = max([float(row["seconds"] or 0) for row in shown] + [1.0])
    tick = next((one for one in TICKS if top / one <= LINES), TICKS[-1])
    return rendered(
        "history.svg.j2",
        alt=alt(shown),
        bars=[_bar(number, row, HEIGHT / top) for number, row in enumerate(shown)],
        lines=[(f"{value} s", HEAD + HEIGHT - value * HEIGHT / top) for value in range(0, int(top) + 1, tick)],
        width=LEFT + max(len(shown), 12) * SLOT,
        height=HEAD + HEIGHT + FOOT,
        foot=HEAD + HEIGHT,
        left=LEFT,
        bar=BAR,
        signs={**MARKS, "incomplete": "?"},
    )


def alt(rows: list[dict]) -> str:
    """Return the picture in words, for who cannot see it."""
    verdicts = [row["verdict"] for row in rows]
    counted = ", ".join(f"{verdicts.count(one)} {words}" for one, words in WORDS.items() if one in verdicts)
    times = [float(row["seconds"]) for row in rows if row["seconds"] != ""]
    took = f" They took {min(times):.0f} to {max(times):.0f} s, the newest {times[-1]:.0f} s." if times else ""
    return f"Bar chart of {len(rows)} runs, oldest first: {counted}.{took} The table below has the same."


def _bar(number: int, row: dict, scale: float) -> dict:
    x, y, segments = LEFT + number * SLOT, HEAD + HEIGHT, []
    for name, verdict, seconds in row["parts"]:
        tall = round(seconds * scale, 2)
        y = round(y - tall, 2)
        segments.append({"words": f"{name}: {seconds:.1f} s", "verdict": verdict, "y": y, "height": tall})
    words = f"{row['run']}: {WORDS[row['verdict']]}" + (f", {row['seconds']} s" if row["seconds"] != "" else "")
    top = min(y, HEAD + HEIGHT - float(row["seconds"] or 0) * scale)
    about = {"run": row["run"], "verdict": row["verdict"], "link": row["link"], "words": words}
    return {**about, "x": x, "top": round(top, 2), "height": round(HEAD + HEIGHT - top, 2), "segments": segments}


def _ended(folder: Path) -> dict:
    """Return the page and the steps' seconds of a sealed bundle; nothing of one that never was."""
    if not (folder / seal.SUMS).is_file():
        return {"link": "", "parts": []}
    steps = [step for step in seal.run(folder)["steps"] if step["verdict"] != "not run"]
    parts = [(one["step"], one["verdict"], one["seconds"]) for one in steps]
    return {"link": _link(folder, folder.parent), "parts": parts}


def _side(letter: str, folder: Path, place: Path) -> dict:
    told = seal.run(folder)
    kept = {key: told[key] for key in ("verdict", "started", "seconds", "commit", "dirty", "totals")}
    return {**kept, "letter": letter, "name": folder.absolute().name, "link": _link(folder.absolute(), place)}


def _link(folder: Path, place: Path) -> str:
    return quote(os.path.relpath(folder / "index.html", place))
