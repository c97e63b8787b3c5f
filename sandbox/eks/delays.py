"""How long EKS takes for its acts: no time at all, or as on AWS, on a clock that a scale makes faster."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping

from lib.errors import ParamsError

VARIABLE = "SANDBOX_AWS_DELAYS"  # "real", or "real:0.05" for a twentieth of the time

# AWS publishes no durations: these are round estimates. A control plane took 15 minutes on average before AWS made it
# faster (github.com/aws/containers-roadmap/issues/1227). Each estimate is below the time that botocore's waiter for the
# act allows (eks/2017-11-01/waiters-2.json: clusters and their deletion 20 min, node groups 40 min, add-ons 10 min).
SECONDS = {
    "cluster": 600,
    "cluster gone": 180,
    "node group": 180,
    "node group gone": 240,
    "add-on": 45,
    "cluster update": 300,
    "node group update": 120,
    "node group version": 600,
    "add-on update": 60,
}


class Delays:
    """The least time that each act takes, in seconds times `scale`: 0 is not at all, 1 is as on AWS."""

    def __init__(self, scale: float = 0.0, clock: Callable[[], float] = time.monotonic) -> None:
        self.scale, self.clock = scale, clock

    def due(self, act: str) -> float:
        """Return when, by the clock, an act that begins now may end; `act` is a key of SECONDS."""
        return self.clock() + SECONDS[act] * self.scale

    def left(self, due: float) -> float:
        """Return the seconds until `due`, 0 if it is past."""
        return max(0.0, due - self.clock())


def from_environment(environment: Mapping[str, str]) -> Delays:
    """Return the delays that VARIABLE sets. Raises ParamsError if its value has another form."""
    text = environment.get(VARIABLE, "")
    if not text:
        return Delays()
    match = re.fullmatch(r"real(?::([0-9]*\.?[0-9]+))?", text)
    if not match:
        raise ParamsError(f"{VARIABLE}: expected real, or real:0.1 for a tenth of the time, got {text!r}; change it.")
    return Delays(float(match[1] or 1))
