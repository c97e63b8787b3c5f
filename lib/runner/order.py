"""Which steps run, and what each of them waits for."""

from __future__ import annotations

import os
import re
from pathlib import Path

from lib.errors import ParamsError

NEEDED = re.compile(r"\*\*You need\*\*(.*?)\*\*You get\*\*", re.DOTALL)  # a notebook's second cell
STEP = re.compile(r"\b\d\d\b")
AT_ONCE = "RUNBOOK_AT_ONCE"  # environment: how many steps may run at once; docs/performance.md compares some


def numbered(notebooks: Path) -> list[Path]:
    """Return the notebooks of the series in order. Notebooks from 90 on stand outside the series."""
    return sorted(notebooks.glob("[0-8][0-9]-*.ipynb"))


def select(steps: list[Path], first: str | None = None, only: str | None = None) -> list[Path]:
    """Return the steps from `first` on, or the step `only`. A step is named 4, 04 or 04-its-name."""
    if first and only:
        raise ParamsError(f"Both a first step ({first}) and an only step ({only}) are given. Leave one out.")
    if only:
        return [steps[_position(steps, only)]]
    return steps[_position(steps, first) :] if first else steps


def at_once() -> int:
    """Return how many steps may run at once, by default 2; raise ParamsError if AT_ONCE is no number from 1 to 9."""
    given = os.environ.get(AT_ONCE, "2")
    if not re.fullmatch("[1-9]", given):
        raise ParamsError(f"expected a number from 1 to 9 in {AT_ONCE}, got {given!r}; correct or unset it.")
    return int(given)


def needs(steps: list[Path]) -> dict[Path, set[Path]]:
    """Return for each step those among `steps` that must pass before it begins.

    They are the steps that its notebook names after "You need". If it names none, it is the step before it.
    """
    return {step: _needs(step, steps[:place]) for place, step in enumerate(steps)}


def _needs(step: Path, before: list[Path]) -> set[Path]:
    sentence = NEEDED.search(step.read_text(encoding="utf-8", errors="replace"))
    numbers = STEP.findall(sentence[1]) if sentence else []
    return {one for one in before if one.stem[:2] in numbers} if numbers else set(before[-1:])


def _position(steps: list[Path], name: str) -> int:
    names = [path.stem for path in steps]
    for place, stem in enumerate(names):
        if name in (stem, stem[:2], stem[:2].removeprefix("0")):
            return place
    raise ParamsError(f"There is no step {name}. Name one by its number: {', '.join(names)}.")
