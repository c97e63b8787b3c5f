"""How long the runbook takes on the sandbox, and what it costs: `make bench`, a table for docs/performance.md.

Three phases, each as often as --rounds says: a run from nothing, a run again, and step 12 alone. A figure is the median
of the rounds. CPU seconds are those of the whole machine (/proc/stat, proc(5)), so nothing else should run meanwhile.
Requests and exec sessions are what the API server counted (apiserver_request_total, its /metrics page).
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from lib import params
from lib.kubernetes.cluster import Cluster

TICKS = os.sysconf("SC_CLK_TCK")  # /proc/stat counts in these, a hundredth of a second on Linux
COUNTED = re.compile(r"^apiserver_request_total\{(?P<labels>.*)\} (?P<count>[\d.e+]+)$", re.MULTILINE)

Figures = dict[str, float]  # wall s, CPU s, API requests, exec sessions


def main(arguments: list[str] | None = None) -> int:
    """Measure all phases and print the table."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="how often each phase is measured (default 3)")
    rounds = parser.parse_args(arguments).rounds
    phases: dict[str, list[Figures]] = {}
    for _ in range(rounds):
        _python("sandbox", "down")
        for name, act in (
            ("from nothing", _from_nothing),
            ("again", _run),
            ("step 12 again", lambda: _run("--only", "12")),
        ):
            phases.setdefault(name, []).append(measure(act))
            print(f"{name}: {phases[name][-1]}", file=sys.stderr, flush=True)
    print(table(phases))
    return 0


def measure(act: Callable[[], None]) -> Figures:
    """Return what `act` took: wall and CPU seconds, and the requests and exec sessions that the API server counted."""
    before, cpu, start = requests(), _cpu(), time.monotonic()
    act()
    wall, cpu = time.monotonic() - start, _cpu() - cpu
    asked, sessions = (after - earlier for after, earlier in zip(requests(), before, strict=True))
    return {"wall s": round(wall, 1), "CPU s": round(cpu, 1), "API requests": asked, "exec sessions": sessions}


def table(phases: dict[str, list[Figures]]) -> str:
    """Return the medians of each phase as a Markdown table."""
    names = list(next(iter(phases.values()))[0])
    lines = [f"| phase | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for phase, rounds in phases.items():
        medians = [f"{statistics.median(figures[name] for figures in rounds):.0f}" for name in names]
        lines.append(f"| {phase} | {' | '.join(medians)} |")
    return "\n".join(lines)


def counted(metrics: str) -> tuple[int, int]:
    """Return the requests that an API server's metrics page counts, but watches, and the exec sessions among them."""
    requests = sessions = 0
    for match in COUNTED.finditer(metrics):
        labels = match["labels"]
        count = int(float(match["count"]))
        requests += 0 if 'verb="WATCH"' in labels else count
        sessions += count if 'subresource="exec"' in labels else 0
    return requests, sessions


def requests() -> tuple[int, int]:
    """Return the requests and exec sessions that the sandbox's API server has counted; (0, 0) without a cluster."""
    kubeconfig: Path = params.load("dev").kubeconfig
    try:
        return counted(Cluster.from_kubeconfig(kubeconfig).raw("/metrics"))
    except Exception:  # noqa: BLE001  # before the first run there is no cluster, and nothing is counted
        return 0, 0


def _cpu() -> float:
    """Return the CPU seconds that this machine has spent: user, nice, system, irq and softirq."""
    fields = [int(text) for text in Path("/proc/stat").read_text().splitlines()[0].split()[1:]]
    return sum(fields[place] for place in (0, 1, 2, 5, 6)) / TICKS


def _from_nothing() -> None:
    _python("sandbox", "up")
    _run()


def _run(*words: str) -> None:
    _python("lib", "run", "--env", "dev", *words)


def _python(module: str, *words: str) -> None:
    subprocess.run([sys.executable, "-m", module, *words], check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    sys.exit(main())
