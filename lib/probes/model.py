"""A probe is a row of a table: what is sent, from where, and what must come back under each profile."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

from lib.errors import ParamsError
from lib.names import HARDENED

TABLES = Path(__file__).parent / "tables"
FIGURE_2, FIGURE_1 = "figure-2", "figure-1"
PROFILES = (FIGURE_2, FIGURE_1, HARDENED)
USER = "user"  # the caller outside, who comes through the gateway

Answer = Annotated[str, Field(pattern=r"^\d{1,3}( [A-Za-z0-9_/]+)?$")]


class Probe(BaseModel):
    """One row. `path`, `headers` and `body` may hold {token}, {scheme} and other names: see lib.probes.send.prepare.

    `expect` holds for every profile but those that `hardened` or `figure_1` say otherwise of; with a `world`, a
    workload under a policy of its own, the probe is sent there and nowhere else.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: Annotated[str, Field(pattern=r"^[A-Z]\d\d[a-z]?$")]
    title: str
    source: str = Field(description="where the expectation comes from: an RFC, a CVE, a test, a thread")

    caller: str = USER
    world: str = Field("", description="a workload under a policy of its own; empty: one of each profile")
    token: str = Field("", description="a name of lib.probes.tokens, sent as Authorization: Bearer")
    method: str = "GET"
    path: str = "/headers"
    headers: list[str] = Field([], description="header lines as they are sent")
    body: str = ""
    version: str = "HTTP/1.1"
    how: str = Field("http", description="http, or the name of a sequence in lib.probes.scenarios")

    expect: Answer | list[str]
    figure_1: Answer | list[str] | None = None
    hardened: Answer | list[str] | None = None
    sees: str = Field("", description="a text that the application's body must hold")
    sees_not: str = Field("", description="a text that the application's body must not hold")
    measured: bool = Field(False, description="no source settles it: compared with the baseline of these versions")
    finding: str = Field("", description="plain words, where the answer is not what one would wish")
    closed_by: str = Field("", description="what makes the answer the wished one")

    @model_validator(mode="after")
    def _finding_has_a_cure(self):
        if bool(self.finding) != bool(self.closed_by):
            raise ValueError("finding and closed_by go together")
        return self

    @property
    def family(self) -> str:
        """The letter that the id begins with."""
        return self.id[0]

    def expected(self, profile: str) -> str:
        """Return the answer expected under a profile (a world's name counts as none)."""
        own = {FIGURE_1: self.figure_1, HARDENED: self.hardened}.get(profile) or self.expect
        return own if isinstance(own, str) else ", ".join(own)


def load(folder: Path = TABLES) -> list[Probe]:
    """Return all probes, family by family; ParamsError names the file and the row that is wrong."""
    found: list[Probe] = []
    for path in sorted(folder.glob("*.yml")):
        for number, row in enumerate(yaml.safe_load(path.read_text())["probes"], 1):
            try:
                found.append(Probe(**row))
            except (ValueError, TypeError) as error:
                raise ParamsError(f"{path.name}, row {number}: expected a probe, got: {error}; mend it.") from None
    return found
