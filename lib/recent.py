"""Values that were read a moment ago: a step asks for the same address or Secret hundreds of times."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

AGE = 2.0  # seconds; a change by somebody else is seen that much later

T = TypeVar("T")


class Recent:
    """Keeps each value for `age` seconds. Safe for several threads: two that ask at once may both read."""

    def __init__(self, age: float = AGE, clock: Callable[[], float] = time.monotonic) -> None:
        self._age, self._clock = age, clock
        self._kept: dict[Hashable, tuple[float, Any]] = {}

    def get(self, key: Hashable, read: Callable[[], T]) -> T:
        """Return what `read` returned for this key less than `age` seconds ago, else what it returns now.

        The value is everybody's: nobody may change it.
        """
        kept, began = self._kept, self._clock()
        at, value = kept.get(key, (float("-inf"), None))
        if began - at >= self._age:
            value = read()
            kept[key] = began, value
        return value

    def forget(self) -> None:
        """Read every value again; a read that is under way is not kept."""
        self._kept = {}
