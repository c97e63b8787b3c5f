"""The process that serves the AWS endpoint, seen from outside: start it, ask it, end it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from typing import TypedDict

from lib.polling import until, wait
from sandbox.build.builder import BuildFailed
from sandbox.paths import AWS_URL, CREDENTIALS, HOME, LOGS, PROJECT

STATE = HOME / "sandbox.json"  # a State, written by the process that serves
LOCK = HOME / "sandbox.lock"  # held as long as that process lives, so a killed one never counts as serving
LOG = LOGS / "aws.log"

# Seconds, each far above what two busy cores need: the endpoint answers after about 3 s, and ends after about 5 s,
# most of it spent on killing the cluster's processes.
START, STOP, KILL, SETTLE, ANSWER = 60, 60, 10, 30, 5


class State(TypedDict):
    """What STATE holds."""

    pid: int
    started: str


def serving() -> State | None:
    """Return the process that serves, or None."""
    if not LOCK.exists() or not STATE.exists():
        return None
    with LOCK.open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return json.loads(STATE.read_text())
    return None


def clusters() -> list[dict] | None:
    """Return what the endpoint reports of its clusters (eks.api.overview), or None if it does not answer."""
    try:
        with urllib.request.urlopen(f"{AWS_URL}/_sandbox/clusters", timeout=ANSWER) as response:
            return json.load(response)
    except OSError:
        return None


def answers() -> bool:
    """Return whether a sandbox runs.

    A process that was just killed holds its lock until the kernel has ended it, so this waits for a clear answer.
    Raises TimedOut if a process holds the lock and does not answer.
    """
    fix = f"run make down, and see {LOG}"
    what = "the sandbox to answer or to be gone"
    return wait(what, _answers_or_gone, lambda state: state is not None, deadline=SETTLE, fix=fix)


def start() -> None:
    """Start the process and wait until it answers. Raises BuildFailed if it ends instead."""
    LOGS.mkdir(parents=True, exist_ok=True)
    with LOG.open("a") as log:
        command = [sys.executable, "-m", "sandbox", "serve"]
        server = subprocess.Popen(
            command, cwd=PROJECT, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )

    def settled() -> bool:
        return server.poll() is not None or bool(_answers_or_gone())

    wait("the AWS endpoint", settled, deadline=START, fix=f"see {LOG}")
    if server.poll() is not None:
        raise BuildFailed(f"expected the AWS endpoint to start, got exit code {server.returncode}; see {LOG}")
    print(f"AWS endpoint {AWS_URL}, profile sandbox in {CREDENTIALS}", flush=True)


def stop() -> None:
    """End the process, and with it every cluster."""
    if state := serving():
        _send(state["pid"], signal.SIGTERM)
        if not until(lambda: not serving(), deadline=STOP).held:
            _send(state["pid"], signal.SIGKILL)
            until(lambda: not serving(), deadline=KILL)


@contextlib.contextmanager
def claimed_lock() -> Iterator[None]:
    """Hold LOCK while the block runs. Raises BlockingIOError if another process holds it.

    The block deletes STATE last, and the lock is free at once: who sees no STATE may start the next process.
    """
    with LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


def write_state() -> None:
    """Write that this process serves."""
    state: State = {"pid": os.getpid(), "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
    STATE.write_text(json.dumps(state))


def _answers_or_gone() -> bool | None:
    if not serving():
        return False
    return True if clusters() is not None else None


def _send(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
