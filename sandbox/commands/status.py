"""What runs, as a table, and the parts' logs."""

from __future__ import annotations

from importlib.metadata import version as package_version

from sandbox.commands import endpoint
from sandbox.host import cgroups, processes
from sandbox.paths import LOGS, VERSIONS, version

HEALTHY, DEGRADED, DOWN = 0, 1, 3  # exit codes; 3 as for a program that does not run: LSB, "Init Script Actions"
FORMAT = "{:<28}{:<20}{:<42}{:<9}{:<7}{}"
HEADER = ("PART", "VERSION", "FROM", "PID", "MiB", "STATE")
TAIL = 50  # lines of a log


def show_status() -> int:
    """Print a table of what runs; return the exit code HEALTHY, DEGRADED or DOWN."""
    state = endpoint.serving()
    if not state:
        print("The sandbox is down; make up starts it.")
        return DOWN
    pid, memory = state["pid"], processes.memory_mib(state["pid"])
    rows = [("aws endpoint", package_version("moto"), "PyPI moto", str(pid), str(memory), "healthy")]
    for cluster in endpoint.clusters() or []:
        rows.append((f"cluster {cluster['name']}", version("kubernetes"), "EKS API", "", "", cluster["status"].lower()))
        rows += [_part_row(part, process) for part, process in cluster["processes"].items()]
    for row in (HEADER, *rows):
        print(FORMAT.format(*row))
    print(f"cgroups: {cgroups.kind()}; NetworkPolicy objects are kept but not enforced; logs: python -m sandbox logs")
    return HEALTHY if all(row[-1] in ("healthy", "active") for row in rows) else DEGRADED


def show_logs(part: str | None) -> int:
    """Print the last lines of one part's log, or without a part the names of all logs; return the exit code."""
    files = {path.stem: path for path in [*LOGS.glob("*.log"), *LOGS.glob("*/*.log")]}
    if part not in files:
        print("\n".join(f"{name:<28}{path}" for name, path in sorted(files.items())))
        return 0 if part is None else 2
    print("\n".join(files[part].read_text(errors="replace").splitlines()[-TAIL:]))
    return 0


def _part_row(part: str, process: dict) -> tuple[str, str, str, str, str, str]:
    about = VERSIONS.get("kubernetes" if part.startswith("kube") else part, VERSIONS["debian"])
    health = "healthy" if process["running"] else "ended"
    return f"  {part}", about["version"], about["from"], str(process["pid"]), str(process["memory_mib"]), health
