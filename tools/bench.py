"""How long the runbook takes on the sandbox, and what it costs: `make bench`, a table for docs/performance.md.

Six phases, each as often as --rounds says: a run from nothing, a run again, step 12 alone, `make why` about a request
without a token, step 11 without httpbin's AuthorizationPolicy, which is red, and the article's steps 02 to 11 by hand
on a new cluster (tools/by_hand.sh). A figure is the median of the rounds. At the end the sandbox is down.
CPU seconds are those of the whole machine (/proc/stat, proc(5)), so nothing else should run meanwhile. Requests and
exec sessions are what the API server counted (apiserver_request_total, its /metrics page).
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from lib import params
from lib.istio import policies
from lib.kubernetes.cluster import Cluster
from lib.record.events import Record
from lib.run import Run
from lib.steps import endpoints
from sandbox import paths
from tools import by_hand

TICKS = os.sysconf("SC_CLK_TCK")  # /proc/stat counts in these, a hundredth of a second on Linux
COUNTED = re.compile(r"^apiserver_request_total\{(?P<labels>.*)\} (?P<count>[\d.e+]+)$", re.MULTILINE)

Figures = dict[str, float]  # wall s, CPU s, API requests, exec sessions


def main(arguments: list[str] | None = None) -> int:
    """Measure all phases and print the table."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="how often each phase is measured (default 3)")
    rounds = parser.parse_args(arguments).rounds
    acts: list[tuple[str, Callable[[], None], Callable[[], None]]] = [
        ("from nothing", lambda: _python("sandbox", "down"), _from_nothing),
        ("again", lambda: None, _run),
        ("step 12 again", lambda: None, lambda: _run("--only", "12")),
        ("make why", lambda: None, _why),
        ("step 11, red", _delete_policy, lambda: _run("--only", "11", code=1)),
        ("02 to 11 by hand", lambda: _new_cluster(folder), lambda: _by_hand(folder)),
    ]
    phases: dict[str, list[Figures]] = {}
    with tempfile.TemporaryDirectory() as private:
        folder = Path(private)
        for _ in range(rounds):
            for name, prepare, act in acts:
                prepare()
                phases.setdefault(name, []).append(measure(act))
                print(f"{name}: {phases[name][-1]}", file=sys.stderr, flush=True)
    _python("sandbox", "down")
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
    try:
        return counted(_cluster().raw("/metrics"))
    except Exception:  # noqa: BLE001  # before the first run there is no cluster, and nothing is counted
        return 0, 0


def _cpu() -> float:
    """Return the CPU seconds that this machine has spent: user, nice, system, irq and softirq."""
    fields = [int(text) for text in Path("/proc/stat").read_text().splitlines()[0].split()[1:]]
    return sum(fields[place] for place in (0, 1, 2, 5, 6)) / TICKS


def _from_nothing() -> None:
    _python("sandbox", "up")
    _run()


def _delete_policy() -> None:
    _cluster().delete(policies.API, policies.RULES, "httpbin", params.load("dev").namespace)


def _new_cluster(folder: Path) -> None:
    by_hand.write(folder)
    for words in (("sandbox", "down"), ("sandbox", "up"), ("lib", "run", "--env", "dev", "--only", "01")):
        _python(*words)


def _by_hand(folder: Path) -> None:
    kubeconfig = str(params.load("dev").kubeconfig)
    environment = {**os.environ, "PATH": f"{paths.BIN}:{os.environ['PATH']}", "KUBECONFIG": kubeconfig}
    subprocess.run([Path(__file__).with_name("by_hand.sh"), folder], env=environment, check=True)


def _why() -> None:
    address = endpoints.gateway_host(Run("bench", params.load("dev"), Record()))
    _python("lib", "why", "--env", "dev", f"https://{address}/headers", "--host", "httpbin.example")


def _run(*words: str, code: int = 0) -> None:
    _python("lib", "run", "--env", "dev", *words, code=code)


def _cluster() -> Cluster:
    return Cluster.from_kubeconfig(params.load("dev").kubeconfig)


def _python(module: str, *words: str, code: int = 0) -> None:
    """Run a module until it ends, which must be with this exit code."""
    done = subprocess.run([sys.executable, "-m", module, *words], stdout=subprocess.DEVNULL)
    if done.returncode != code:
        raise SystemExit(f"expected exit code {code} of {module} {' '.join(words)}, got {done.returncode}")


if __name__ == "__main__":
    sys.exit(main())
