"""The controls that checks are evidence of, and the rows of a run that belong to each, from lib/bundle/controls.yml."""

from __future__ import annotations

from collections.abc import Collection
from functools import cache
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field

FILE = Path(__file__).with_name("controls.yml")


class EvidenceLine(BaseModel):
    """Selects rows of a run's tables: checks by step and words, probes by the start of their id, cases by column."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    what: str = Field(description="what these rows show; it follows the control's name")
    steps: tuple[str, ...] = ()
    words: list[str] = Field([], description="words in a check's name; if empty, every check of the steps")
    probes: tuple[str, ...] = ()
    figures: tuple[str, ...] = ()
    callers: tuple[str, ...] = ()
    tokens: tuple[str, ...] = ()

    def covers(self, row: dict) -> bool:
        """Return whether this selects a row of checks.csv (it has a `name`) or of responses.csv."""
        if "name" in row:
            named = not self.words or any(word in row["name"] for word in self.words)
            return row["step"][:2] in self.steps and named
        if row.get("probe"):
            return row["probe"].startswith(self.probes)
        columns = {"figure": self.figures, "caller": self.callers, "token": self.tokens}
        given = {column: values for column, values in columns.items() if values}
        return bool(given) and all(row[column] in values for column, values in given.items())


class Control(BaseModel):
    """A control, FedRAMP's indicators that list it, why checks are evidence of it, and which rows are."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str = Field(pattern=r"^[a-z]{2}-\d+$")
    title: str
    ksi: tuple[Annotated[str, Field(pattern=r"^KSI-[A-Z]{3}-[A-Z]{3}$")], ...] = ()
    why: str
    evidence: list[EvidenceLine] = Field(min_length=1)

    @property
    def name(self) -> str:
        """The control's name as NIST writes it: IA-2."""
        return self.id.upper()

    def covered(self, probes: Collection[str]) -> int:
        """Return how many of the lines of evidence select at least one of these probes."""
        return sum(any(line.covers({"probe": one}) for one in probes) for line in self.evidence)


@cache
def load(file: Path = FILE) -> tuple[Control, ...]:
    """Return the controls of the mapping."""
    return tuple(Control(**one) for one in yaml.safe_load(file.read_text(encoding="utf-8"))["controls"])
