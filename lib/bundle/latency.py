"""How long answers took: their distribution for each figure or world, as numbers and as a picture."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import quantiles

from lib.render import rendered

FEWEST = 10  # answers that make a distribution worth telling
CUTS = {"p25": 4, "p50": 9, "p75": 14, "p90": 17}  # which of the nineteen cuts into twentieths
LEFT, WIDTH, ROW, TOP, FOOT = 170, 760, 26, 10, 30  # what the picture measures, in its own units
TICKS = (1, 3, 10, 30, 100, 300, 1000, 3000, 10_000, 30_000, 100_000)  # milliseconds


def distributions(responses: Sequence[Mapping]) -> dict[str, dict[str, float]]:
    """Return for each figure or world with enough answers how many, and p25, p50, p75, p90 and max in milliseconds.

    `responses` are rows of responses.csv, as texts or as they were recorded; what was never answered is left out.
    """
    times: dict[str, list[float]] = {}
    for row in responses:
        if (latency := float(row["latency_ms"] or 0)) > 0:
            times.setdefault(str(row["figure"]), []).append(latency)
    return {figure: _told(found) for figure, found in times.items() if len(found) >= FEWEST}


def picture(found: Mapping[str, Mapping[str, float]]) -> str:
    """Return the distributions as an SVG on a logarithmic scale, or "" of none.

    A box goes from p25 to p75 with the median in it, a line to p90, and a dot stands for the longest.
    """
    if not found:
        return ""
    longest = max(one["max"] for one in found.values())
    ticks = [tick for number, tick in enumerate(TICKS) if number < 2 or TICKS[number - 1] < longest]
    scale = WIDTH / math.log(max(longest, ticks[-1]))
    place = {
        name: {key: round(LEFT + scale * math.log(max(one[key], 1)), 1) for key in (*CUTS, "max")}
        for name, one in found.items()
    }
    return rendered(
        "latency.svg.j2",
        rows=[{"name": name, **one, "at": place[name]} for name, one in found.items()],
        ticks={tick: round(LEFT + scale * math.log(tick), 1) for tick in ticks},
        alt=alt(found),
        left=LEFT,
        row=ROW,
        top=TOP,
        width=LEFT + WIDTH + 40,
        height=TOP + len(found) * ROW + FOOT,
    )


def alt(found: Mapping[str, Mapping[str, float]]) -> str:
    """Return the picture in words, for who cannot see it."""
    said = [f"{name}: half within {one['p50']}, nine of ten within {one['p90']}" for name, one in found.items()]
    return f"How long answers took, in milliseconds. {'; '.join(said)}."


def _told(times: Sequence[float]) -> dict[str, float]:
    cuts = quantiles(times, n=20, method="inclusive")
    named = {name: cuts[place] for name, place in CUTS.items()} | {"max": max(times)}
    return {"answers": len(times), **{name: round(value, 1) for name, value in named.items()}}
