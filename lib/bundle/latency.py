"""Latencies: their distribution at each figure or world, as numbers and as a picture."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import quantiles

from lib.render import rendered

FEWEST = 10  # with fewer answers, quantiles say little
CUTS = {"p25": 4, "p50": 9, "p75": 14, "p90": 17}  # the index of each among the 19 cut points of twentieths
LEFT, WIDTH, ROW, TOP, FOOT = 170, 760, 26, 10, 30  # sizes of the picture, in its own units
TICKS = (1, 3, 10, 30, 100, 300, 1000, 3000, 10_000, 30_000, 100_000)  # milliseconds


def distributions(responses: Sequence[Mapping]) -> dict[str, dict[str, float]]:
    """Return {answers, p25, p50, p75, p90, max} in milliseconds, for each figure or world with enough answers.

    `responses` are rows of responses.csv, as texts or as they were recorded. Requests without an answer do not count.
    """
    times: dict[str, list[float]] = {}
    for row in responses:
        if (latency := float(row["latency_ms"] or 0)) > 0:
            times.setdefault(str(row["figure"]), []).append(latency)
    return {figure: _quantiles(values) for figure, values in times.items() if len(values) >= FEWEST}


def picture(distributions: Mapping[str, Mapping[str, float]]) -> str:
    """Return the distributions as an SVG on a logarithmic scale, "" if there are none.

    A box goes from p25 to p75 with the median in it, a line goes to p90, and a dot is the longest.
    """
    if not distributions:
        return ""
    longest = max(numbers["max"] for numbers in distributions.values())
    ticks = [tick for number, tick in enumerate(TICKS) if number < 2 or TICKS[number - 1] < longest]
    scale = WIDTH / math.log(max(longest, ticks[-1]))
    place = {
        name: {key: round(LEFT + scale * math.log(max(numbers[key], 1)), 1) for key in (*CUTS, "max")}
        for name, numbers in distributions.items()
    }
    return rendered(
        "latency.svg.j2",
        rows=[{"name": name, **numbers, "at": place[name]} for name, numbers in distributions.items()],
        ticks={tick: round(LEFT + scale * math.log(tick), 1) for tick in ticks},
        alt=alt(distributions),
        left=LEFT,
        row=ROW,
        top=TOP,
        width=LEFT + WIDTH + 40,
        height=TOP + len(distributions) * ROW + FOOT,
    )


def alt(distributions: Mapping[str, Mapping[str, float]]) -> str:
    """Return the picture in words, for readers who cannot see it."""
    rows = [f"{name}: half within {row['p50']}, nine of ten within {row['p90']}" for name, row in distributions.items()]
    return f"Latencies in milliseconds. {'; '.join(rows)}."


def _quantiles(times: Sequence[float]) -> dict[str, float]:
    cuts = quantiles(times, n=20, method="inclusive")
    named = {name: cuts[place] for name, place in CUTS.items()} | {"max": max(times)}
    return {"answers": len(times), **{name: round(value, 1) for name, value in named.items()}}
