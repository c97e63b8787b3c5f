"""How often a mesh that is not ours is asked, and how often in all."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Lock

from lib.errors import RunbookError
from lib.probes.transport.messages import Reply, Request, Transport


class BudgetSpent(RunbookError):
    """The budget of requests is spent."""


class Limiter:
    """Turns, at most `rate` a second, evenly spread, and `budget` of them in all; for several threads."""

    def __init__(
        self,
        rate: float,
        budget: int,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
    ):
        self.interval, self.budget, self.clock, self.pause = 1 / rate, budget, clock, pause
        self.left, self.free, self.lock = budget, clock(), Lock()

    def wait_turn(self) -> None:
        """Come back when it is the caller's turn; BudgetSpent where there is none any more."""
        with self.lock:
            if not self.left:
                raise BudgetSpent(f"expected at most {self.budget} requests, and all were made; raise --budget.")
            self.left -= 1
            now = self.clock()
            mine = max(self.free, now)
            self.free = mine + self.interval
        if mine > now:
            self.pause(mine - now)


def rate_limited(way: Transport, turn: Callable[[], None], workers: int = 8) -> Transport:
    """Return a way that waits for its `turn` before each request, `workers` of them at once."""

    def one(request: Request) -> Reply:
        turn()
        return way([request])[0]

    def asked(requests: list[Request]) -> list[Reply]:
        with ThreadPoolExecutor(workers) as pool:
            return list(pool.map(one, requests))

    return asked
