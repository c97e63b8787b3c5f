"""Draws all results as a heat map."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from IPython.display import HTML

from lib.probes.model import PROFILES
from lib.probes.reporting.drawing import TITLES
from lib.probes.reporting.results import UNMEASURED, Result
from lib.record.junit import xml_text
from lib.record.verdicts import RED, SKIPPED, WAIVED
from lib.render import rendered

# kind: its sign, its colour and its meaning. The colours differ in lightness, so they differ in grey too
KINDS = {
    "through": ("+", "#cfe8cf", "let through, as expected"),
    "refused": ("−", "#86aecb", "refused, as expected"),
    "finding": ("!", "#f0c040", "as expected, but not as one would wish"),
    "unmeasured": ("?", "#eeeeee", "no baseline yet"),
    "skipped": ("·", "#ffffff", "not asked"),
    "waived": ("~", "#d8b4e2", "not as expected, and waived"),
    "red": ("✗", "#8b1a1a", "not as expected"),
}
WORLDS = "worlds"  # the panel of the workloads with a policy of their own
LEFT, COLUMN, ROW = 150, 36, 26  # lengths in the heat map, in SVG units
HEAD, FOOT, LEGEND = 24, 20, 46

FAMILIES = {
    "A": "baseline",
    "B": "placement",
    "C": "algorithms and keys",
    "D": "claims",
    "E": "keys' and policies' life",
    "F": "paths and methods",
    "G": "mesh and identity",
    "H": "token endpoint",
    "R": "roles",
    "L": "login",
}


def kind(result: Result) -> str:
    """Return the kind of a result, a key of KINDS."""
    if result.verdict in (SKIPPED, UNMEASURED, WAIVED):
        return result.verdict
    if result.verdict in RED:
        return "red"
    if result.finding:
        return "finding"
    return "through" if result.passed_through or 100 < int(result.last[0] or 0) < 400 else "refused"


def heat_map(results: Sequence[Result]) -> str:
    """Return an SVG of all results, with a panel for each profile, a row for each family, a column for each number.

    Probes of one number (B12a, B12b) share a cell. Each has a colour, a sign, and a tooltip with its answer.
    """
    panels = _panels(results)
    families = {letter: place * ROW for place, letter in enumerate(sorted({one.family for one in results}))}
    numbers = {number: LEFT + place * COLUMN for place, number in enumerate(sorted({_number(one) for one in results}))}
    tall = HEAD + len(families) * ROW + FOOT
    drawn = [
        {
            "title": f"{TITLES.get(name, 'workloads under policies of their own')}: {_counted(rows)}",
            "y": place * tall + HEAD,
            "cells": list(_cells(rows, families, numbers)),
        }
        for place, (name, rows) in enumerate(panels.items())
    ]
    return rendered(
        "heatmap.svg.j2",
        alt=alt(results),
        kinds=KINDS,
        panels=drawn,
        families={_family(letter): y for letter, y in families.items()},
        numbers=numbers,
        width=LEFT + max(len(numbers), 24) * COLUMN + 4,
        height=len(panels) * tall + LEGEND,
        left=LEFT,
        row=ROW,
        column=COLUMN,
    )


def alt(results: Sequence[Result]) -> str:
    """Return the heat map as text, for screen readers."""
    parts = [f"{name}: {_counted(rows)}" for name, rows in _panels(results).items()]
    red = sorted({one.id for one in results if kind(one) == "red"})
    sentence = f"Red are {', '.join(red)}." if red else "None is red."
    return f"Heat map of {len(results)} probes, families by ids. {'. '.join(parts)}. {sentence}"


def show(results: Sequence[Result]) -> HTML:
    """Return the heat map for a notebook, as SVG: base64 of a PNG can look like a token."""
    return HTML(heat_map(results))


def _cells(rows: list[Result], families: dict[str, int], numbers: dict[int, int]) -> Iterator[dict]:
    shared: dict[tuple[int, int], list[Result]] = {}
    for one in sorted(rows, key=lambda one: (one.id, one.profile)):
        shared.setdefault((numbers[_number(one)], families[one.family]), []).append(one)
    for (x, y), together in shared.items():
        width = round(COLUMN / len(together), 2)
        for place, one in enumerate(together):
            words = xml_text(f"{one.id} {one.title}, from {one.caller}, {one.profile}: {one.got or one.note}")
            yield {"x": round(x + place * width, 2), "y": y, "width": width, "kind": kind(one), "words": words}


def _panels(results: Iterable[Result]) -> dict[str, list[Result]]:
    panels: dict[str, list[Result]] = {name: [] for name in (*PROFILES, WORLDS)}
    for one in results:
        panels[one.profile if one.profile in PROFILES else WORLDS].append(one)
    return {name: rows for name, rows in panels.items() if rows}


def _counted(rows: Iterable[Result]) -> str:
    every = Counter(kind(one) for one in rows)
    return ", ".join(f"{every[name]} {name}" for name in KINDS if every[name])


def _number(result: Result) -> int:
    return int(result.id[1:3])


def _family(letter: str) -> str:
    return f"{letter} {FAMILIES.get(letter, '')}".strip()
