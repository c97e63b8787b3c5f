"""python -m sandbox up | down | status | logs [PART] | build [--drop-caches] | vectors: an EKS on this machine."""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

from lib.errors import RunbookError
from lib.polling import until, wait
from sandbox.build import jwt_vectors
from sandbox.build.builder import BuildFailed, build, drop_caches
from sandbox.eks import delays
from sandbox.host import cgroups, inotify_limit, requirements, veth
from sandbox.paths import AWS_PORT, AWS_URL, CREDENTIALS, HOME, LOGS, PROJECT, REGION, RUN, VERSIONS, version

STATE = HOME / "sandbox.json"  # who serves: {"pid", "started"}
LOCK = HOME / "sandbox.lock"  # held while the endpoint serves
SERVER_LOG = LOGS / "aws.log"


def main(argv: list[str] | None = None) -> int:
    """Do what the command line says; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m sandbox", description="An EKS on this machine.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("up", help="build what is missing and start the AWS endpoint")
    commands.add_parser("down", help="end everything, leave nothing but the cache")
    commands.add_parser("status", help="what runs: part, version, where from, pid, memory, healthy")
    logs = commands.add_parser("logs", help="the last lines of a log")
    logs.add_argument("part", nargs="?", help="a part's name, such as kubelet; none lists them")
    builder = commands.add_parser("build", help="build what is missing")
    builder.add_argument("--drop-caches", action="store_true", help="then delete Go's module and build caches")
    commands.add_parser("vectors", help="where Envoy and the test vectors are, as JSON; fetched where missing")
    commands.add_parser("serve", help=argparse.SUPPRESS)
    said = parser.parse_args(argv)
    acts = {"up": up, "down": down, "status": status, "serve": serve, "vectors": show_vectors}
    try:
        if said.command == "logs":
            return show_logs(said.part)
        if said.command == "build":
            requirements.require()
            build(_tell)
            if said.drop_caches:
                drop_caches()
            return 0
        return acts[said.command]() or 0
    except (requirements.NotThisMachine, BuildFailed, RunbookError) as problem:
        print(f"sandbox: {problem}", file=sys.stderr)
        return 2


def up() -> None:
    """Build what is missing and start the endpoint, unless it runs already; clean up after a killed one first."""
    if _answering():
        return
    delays.from_environment(os.environ)  # a slip in it is told before anything is built
    requirements.require()
    build(_tell)
    _clean()
    requirements.require_port()
    requirements.require_free(0)
    inotify_limit.widen()
    LOGS.mkdir(parents=True, exist_ok=True)
    with SERVER_LOG.open("a") as log:
        command = [sys.executable, "-m", "sandbox", "serve"]
        server = subprocess.Popen(
            command, cwd=PROJECT, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )

    def settled() -> bool:
        return server.poll() is not None or bool(_settled())

    wait("the AWS endpoint", settled, deadline=60, fix=f"see {SERVER_LOG}")
    if server.poll() is not None:
        raise BuildFailed(f"expected the AWS endpoint to start, got exit code {server.returncode}; see {SERVER_LOG}")
    _tell(f"AWS endpoint {AWS_URL}, profile sandbox in {CREDENTIALS}")


def down() -> None:
    """End the endpoint and with it every cluster; then look whether anything is left."""
    if state := serving():
        _send(state["pid"], signal.SIGTERM)
        if not until(lambda: not serving(), deadline=60).held:
            _send(state["pid"], signal.SIGKILL)
            until(lambda: not serving(), deadline=10)
    _clean()
    if left := _leftovers():
        raise BuildFailed(f"expected nothing to be left, got {', '.join(left)}; run make down again")


def serve() -> None:
    """Serve AWS in this process until SIGTERM; the clusters live and end with it."""
    from sandbox.aws import server as aws_server
    from sandbox.node.node import Node

    lock = LOCK.open("w")
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    parts, nodes, choosing = build(lambda line: None), {}, threading.Lock()

    def make_node(name: str, kubernetes_version: str, authenticate, authorize) -> Node:
        with choosing:
            used = {node.link.number for other, node in nodes.items() if node.state.exists() and other != name}
            number = next(number for number in range(256) if number not in used)
            requirements.require_free(number)
            nodes[name] = Node(name, number, parts, authenticate, authorize, _log)
            nodes[name].state.mkdir(parents=True, exist_ok=True)
            return nodes[name]

    minor = ".".join(version("kubernetes").split(".")[:2])
    CREDENTIALS.parent.mkdir(parents=True, exist_ok=True)
    server = aws_server.serve(
        port=AWS_PORT,
        make_node=make_node,
        credentials_file=CREDENTIALS,
        region=REGION,
        log=_log,
        kubernetes_version=minor,
        calls_log=LOGS / "aws-calls.jsonl",
        processes=lambda name: nodes[name].processes() if name in nodes else {},
        delays=delays.from_environment(os.environ),
    )
    STATE.write_text(json.dumps({"pid": os.getpid(), "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}))
    told = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: told.set())
    told.wait()
    server.stop()
    STATE.unlink(missing_ok=True)


def status() -> int:
    """Print a table of what runs; return 0 when all of it is healthy, 1 otherwise, 3 when the sandbox is down."""
    state = serving()
    if not state:
        print("The sandbox is down; make up starts it.")
        return 3
    rows = [("aws endpoint", _package("moto"), "PyPI moto", state["pid"], _memory(state["pid"]), "healthy")]
    for cluster in _clusters() or []:
        rows.append((f"cluster {cluster['name']}", version("kubernetes"), "EKS API", "", "", cluster["status"].lower()))
        for part, process in cluster.get("processes", {}).items():
            name = "kubernetes" if part.startswith("kube") else part
            about = VERSIONS.get(name, VERSIONS["debian"])
            health = "healthy" if process["running"] else "ended"
            rows.append((f"  {part}", about["version"], about["from"], process["pid"], process["memory_mib"], health))
    for row in [("PART", "VERSION", "FROM", "PID", "MiB", "STATE"), *rows]:
        print("{:<28}{:<20}{:<42}{:<9}{:<7}{}".format(*map(str, row)))
    print(f"cgroups: {cgroups.kind()}; NetworkPolicy objects are kept but not enforced; logs: python -m sandbox logs")
    return 0 if all(row[-1] in ("healthy", "active") for row in rows) else 1


def show_logs(part: str | None) -> int:
    """Print the last lines of one part's log, or the names of all; return the exit code."""
    files = {path.stem: path for path in [*LOGS.glob("*.log"), *LOGS.glob("*/*.log")]}
    if part not in files:
        print("\n".join(f"{name:<28}{path}" for name, path in sorted(files.items())))
        return 0 if part is None else 2
    print("\n".join(files[part].read_text(errors="replace").splitlines()[-50:]))
    return 0


def show_vectors() -> int:
    """Print as JSON where Envoy and the test vectors are; what is fetched for it is told on standard error."""
    print(json.dumps(jwt_vectors.places(lambda line: print(line, file=sys.stderr))))
    return 0


def serving() -> dict | None:
    """Return who serves, or None: the lock tells, so that a killed server counts for nothing."""
    if not LOCK.exists() or not STATE.exists():
        return None
    with LOCK.open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return json.loads(STATE.read_text())
    return None


def _answering() -> bool:
    """Whether a sandbox runs. One that was just killed holds its lock until the kernel has ended it: it is waited for.

    RunbookError where one holds the lock and does not answer.
    """
    fix = f"run make down, and see {SERVER_LOG}"
    return wait("the sandbox to answer or to be gone", _settled, lambda state: state is not None, deadline=30, fix=fix)


def _settled() -> bool | None:
    if not serving():
        return False
    return True if _clusters() is not None else None


def _send(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _clean() -> None:
    for name in veth.leftovers():
        veth.remove(name)
    for name in cgroups.leftovers():
        until(lambda name=name: cgroups.remove(name) or name not in cgroups.leftovers(), deadline=20)
    inotify_limit.restore()
    shutil.rmtree(RUN, ignore_errors=True)
    STATE.unlink(missing_ok=True)
    CREDENTIALS.unlink(missing_ok=True)


def _leftovers() -> list[str]:
    links = [f"link {name}" for name in veth.leftovers()]
    groups = [f"cgroup {name}" for name in cgroups.leftovers()]
    mounts = [
        f"mount {line.split()[4]}"
        for line in Path("/proc/self/mountinfo").read_text().splitlines()
        if str(HOME) in line.split()[4]
    ]
    return links + groups + mounts


def _clusters() -> list[dict] | None:
    try:
        with urllib.request.urlopen(f"{AWS_URL}/_sandbox/clusters", timeout=5) as response:
            return json.load(response)
    except OSError:
        return None


def _package(name: str) -> str:
    from importlib.metadata import version as of

    return of(name)


def _memory(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) // 1024 for line in lines if line.startswith("VmRSS"))


def _log(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}", flush=True)


def _tell(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
