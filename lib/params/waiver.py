"""A waiver: one failed check that somebody answers for until a date."""

from __future__ import annotations

from datetime import date
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


def _a_date(text: str) -> str:
    date.fromisoformat(text)
    return text


Words = Annotated[str, Field(min_length=1)]


class Waiver(BaseModel):
    """One failure that its owner answers for until the end of a day (UTC)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    step: Words = Field(description="the notebook's name, as 12-figure-1")
    check: Words = Field(description="the check's name, or of a probe the figure and its id, as in `figure-2: E05`")
    owner: Words = Field(description="who answers for it")
    expires: Annotated[str, AfterValidator(_a_date)] = Field(description="the last day, as 2027-01-31")
    reason: Words = Field(description="why it is let pass")

    def covers(self, step: str, check: str) -> bool:
        """Whether it was written for this check."""
        return step == self.step and f"{check} ".startswith(f"{self.check} ")

    def __str__(self) -> str:
        return f"waived by {self.owner} until {self.expires}: {self.reason}"
