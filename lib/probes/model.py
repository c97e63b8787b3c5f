"""A probe is a row of a table: a request, its caller, and the expected answer under each profile."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

from lib.errors import ParamsError
from lib.names import HARDENED

TABLES = Path(__file__).parent / "tables"
ROLES = TABLES / "roles"  # the probes of step 15
LOGIN = TABLES / "login"  # the probes of step 13
FIGURE_2, FIGURE_1 = "figure-2", "figure-1"
OAUTH2_PROXY = "oauth2-proxy"  # the second engine of step 13, in place of a profile
PROFILES = (FIGURE_2, FIGURE_1, HARDENED)
USER = "user"  # the caller outside the cluster, who asks through the gateway

ExpectedAnswer = Annotated[str, Field(pattern=r"^\d{1,3}( [A-Za-z0-9_/]+)?$")]


class Probe(BaseModel):
    """One row. `path`, `headers` and `body` may hold names in braces, such as {token}: see transport.messages.prepare.

    `expect` is the answer under every profile, unless `figure_1` or `hardened` states another. A probe with a `world`
    goes only to that workload, which has a policy of its own.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: Annotated[str, Field(pattern=r"^[A-Z]\d\d[a-z]?$")]
    title: str
    source: str = Field(description="the source of the expected answer: an RFC, a CVE, a test, a thread")

    caller: str = USER
    world: str = Field("", description="a workload with a policy of its own; empty: the workload of each profile")
    token: str = Field("", description="a name in tokens.catalogue, sent as Authorization: Bearer")
    method: str = "GET"
    path: str = "/headers"
    headers: list[str] = Field([], description="raw header lines")
    body: str = ""
    version: str = "HTTP/1.1"
    how: str = Field("http", description="http, or the name of a scenario")

    expect: ExpectedAnswer | list[str]
    figure_1: ExpectedAnswer | list[str] | None = None
    hardened: ExpectedAnswer | list[str] | None = None
    oauth2_proxy: ExpectedAnswer | list[str] | None = Field(None, description="step 13: the answer under that engine")
    because: str = Field("", description="why oauth2-proxy answers otherwise")
    sees: str = Field("", description="a text that the application's body must contain")
    sees_not: str = Field("", description="a text that the application's body must not contain")
    measured: bool = Field(False, description="no source says what comes: compared with the baseline of these versions")
    finding: str = Field("", description="why the expected answer is undesirable, in plain words")
    closed_by: str = Field("", description="what changes the answer to the desirable one")

    @model_validator(mode="after")
    def _finding_has_a_cure(self) -> Self:
        if bool(self.finding) != bool(self.closed_by):
            raise ValueError("finding and closed_by go together")
        if bool(self.oauth2_proxy) != bool(self.because):
            raise ValueError("oauth2_proxy and because go together")
        return self

    @property
    def family(self) -> str:
        """The first letter of the id."""
        return self.id[0]

    @property
    def turn(self) -> int:
        """HTTP/2 goes first: Envoy ends a connection that breaks its rules a second late, which others fill."""
        return 0 if self.version == "HTTP/2" else 1

    def expected(self, profile: str) -> str:
        """Return the answer expected under a profile; for the name of a world, `expect`."""
        others = {FIGURE_1: self.figure_1, HARDENED: self.hardened, OAUTH2_PROXY: self.oauth2_proxy}
        own = others.get(profile) or self.expect
        return own if isinstance(own, str) else ", ".join(own)


def load(folder: Path = TABLES) -> list[Probe]:
    """Return all probes, family by family; ParamsError names the file and the row that is not valid."""
    found: list[Probe] = []
    for path in sorted(folder.glob("*.yml")):
        for number, row in enumerate(yaml.load(path.read_text(), yaml.CSafeLoader)["probes"], 1):
            try:
                found.append(Probe(**row))
            except (ValueError, TypeError) as error:
                raise ParamsError(f"{path.name}, row {number}: expected a probe, got: {error}; correct it.") from None
    return found
