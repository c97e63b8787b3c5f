"""How long AWS takes: not at all, or what EKS needs, on a clock that may be made faster."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping

from lib.errors import ParamsError

VARIABLE = "SANDBOX_AWS_DELAYS"  # real, or real:0.05 for a twentieth of it
SECONDS = {  # about what EKS takes, from its user guide and from public reports
    "cluster": 600,
    "cluster gone": 180,
    "node group": 180,
    "node group gone": 240,
    "add-on": 45,
    "add-on gone": 30,
    "cluster update": 300,
    "cluster version": 900,
    "node group update": 120,
    "node group version": 600,
    "add-on update": 60,
}


class Delays:
    """How long each of EKS's acts takes at the least, by `scale`: 0 is not at all, 1 is as on AWS."""

    def __init__(self, scale: float = 0.0, clock: Callable[[], float] = time.monotonic):
        self.scale, self.clock = scale, clock

    def due(self, what: str) -> float:
        """Return when, by the clock, an act that begins now may be over."""
        return self.clock() + SECONDS[what] * self.scale

    def left(self, due: float) -> float:
        """Return the seconds until then."""
        return max(0.0, due - self.clock())


def stated(environment: Mapping[str, str]) -> Delays:
    """Return the delays that the environment asks for; ParamsError for what is none."""
    said = environment.get(VARIABLE, "")
    if not said:
        return Delays()
    found = re.fullmatch(r"real(?::([0-9]*\.?[0-9]+))?", said)
    if not found:
        raise ParamsError(f"{VARIABLE}: expected real, or real:0.1 for a tenth of the time, got {said!r}; change it.")
    return Delays(float(found[1] or 1))
