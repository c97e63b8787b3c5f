"""Processes of this machine, by /proc, and how to bind a child's life to its parent's."""

from __future__ import annotations

import ctypes
import signal
from pathlib import Path

PR_SET_PDEATHSIG = 1  # prctl(2)


def child(pid: int) -> int:
    """Return the first child of a process, 0 if it has none or is gone."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return 0
    return int(children[0]) if children else 0


def memory_mib(pid: int) -> int:
    """Return the resident memory of a process in MiB, 0 if it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) // 1024 for line in lines if line.startswith("VmRSS")), 0)


def end_with_parent() -> None:
    """Let the kernel kill this process when the thread that started it ends; a preexec_fn of Popen."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
