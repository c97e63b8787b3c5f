"""Limits the rate and the number of requests to somebody else's mesh."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Lock

from lib.errors import RunbookError
from lib.probes.transport.messages import Reply, Request, Transport


class BudgetSpent(RunbookError):
    """The budget of requests is used up."""


class Limiter:
    """Allows `rate` requests a second, evenly spread, and `budget` in all. Safe for several threads."""

    def __init__(
        self,
        rate: float,
        budget: int,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self.interval, self.budget, self.clock, self.pause = 1 / rate, budget, clock, pause
        self.left, self.free, self.lock = budget, clock(), Lock()

    def wait_turn(self) -> None:
        """Return when the caller may send; BudgetSpent if the budget is used up."""
        with self.lock:
            if not self.left:
                raise BudgetSpent(f"The budget of {self.budget} requests is used up. Raise --budget.")
            self.left -= 1
            now = self.clock()
            mine = max(self.free, now)
            self.free = mine + self.interval
        if mine > now:
            self.pause(mine - now)


def rate_limited(send: Transport, wait_turn: Callable[[], None], workers: int = 8) -> Transport:
    """Return a transport that calls `wait_turn` before each request, with `workers` requests at once."""

    def one(request: Request) -> Reply:
        wait_turn()
        return send([request])[0]

    def send_all(requests: list[Request]) -> list[Reply]:
        with ThreadPoolExecutor(workers) as pool:
            return list(pool.map(one, requests))

    return send_all
