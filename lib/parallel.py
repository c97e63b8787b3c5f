"""Work that waits for other programs, done at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

WORKERS = 4  # jobs at once: they share this machine's few cores with the servers that they wait for

T = TypeVar("T")


def at_once(jobs: Sequence[Callable[[], T]], workers: int = WORKERS) -> list[T]:
    """Run functions in threads and return their results in order; raise the first error after all have ended.

    Args:
        jobs: the functions, each safe beside the others.
        workers: how many of them run at once.
    """
    if not jobs:
        return []
    with ThreadPoolExecutor(min(workers, len(jobs))) as pool:
        return list(pool.map(lambda job: job(), jobs))
