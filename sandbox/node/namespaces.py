"""The Linux namespaces of a node: a root file system of Debian packages, and programs that run in it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import IO

from lib.polling import wait
from sandbox.host import processes
from sandbox.node.command_lines import PATH

INIT = Path(__file__).with_name("init.sh")
KINDS = ("--net", "--mount", "--pid", "--uts", "--ipc")
ROOT = ("--root", "--wd=/")  # of nsenter: the node's root file system
# For the programs, which are all written in Go. At Go's usual pace, GOGC=100, its garbage collector took 20 of the API
# server's 49 CPU seconds. Here the heap may grow fivefold first, up to a limit: https://go.dev/doc/gc-guide
GO = ("GOGC=400", "GOMEMLIMIT=700MiB")
FIRST_PROCESS, FILE_SYSTEM = 10, 20  # seconds; both take well below one on an idle machine


def enter(pid: int, *options: str) -> list[str]:
    """Return the words before a program that runs in namespaces of a process: those of nsenter's `options`."""
    return ["nsenter", "--target", str(pid), *options, "--"]


class Namespaces:
    """Namespaces that live as long as their first process, which ends with the thread that calls `open`.

    Args:
        name: of the node.
        state: the folder of its root file system, of the kubelet's files, and of /etc/kubernetes.
        images: the folder of its containerd.
        parts: the folders of the built parts.
        logs: the folder of the programs' logs; emptied.
    """

    def __init__(self, name: str, state: Path, images: Path, parts: dict[str, Path], logs: Path) -> None:
        self.logs, self.pid = logs, 0
        lowers = f"{parts['node'] / 'upper'}:{parts['base'] / 'root'}"
        folders = {"STATE": str(state), "IMAGES": str(images), "PROGRAMS": str(parts["programs"]), "LOWERS": lowers}
        shutil.rmtree(logs, ignore_errors=True)
        logs.mkdir(parents=True)
        self.programs: dict[str, subprocess.Popen] = {}
        with (logs / "init.log").open("w") as log:
            self._init = subprocess.Popen(
                ["unshare", *KINDS, "--fork", "--kill-child", "sh", str(INIT)],
                env={"PATH": os.environ["PATH"], "NODE_NAME": name, **folders},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=processes.end_with_parent,
            )

    def wait_ready(self) -> None:
        """Wait for the first process and its root file system. Raises TimedOut."""
        self.pid = wait("the node's first process", lambda: processes.child(self._init.pid), deadline=FIRST_PROCESS)
        ready, fix = Path(f"/proc/{self.pid}/root/run/init-done"), f"see {self.logs / 'init.log'}"
        wait("the node's root file system", ready.exists, deadline=FILE_SYSTEM, fix=fix)

    @property
    def network_command(self) -> list[str]:
        """The words before a program of this machine that runs in the node's network."""
        return self._enter("--net")

    @property
    def root_command(self) -> list[str]:
        """The words before a program of the node's root file system that runs in this machine's network."""
        return self._enter("--mount", *ROOT)

    def run(self, command: list[str], stdin: IO | None = None, check: bool = False) -> subprocess.CompletedProcess:
        """Run a program in the namespaces until it ends; return its exit code and output."""
        return subprocess.run([*self._command, *command], stdin=stdin, check=check, capture_output=True, text=True)

    def spawn(self, name: str, command: list[str]) -> None:
        """Start a program in the namespaces; its output goes to `name`.log."""
        with (self.logs / f"{name}.log").open("a") as log:
            line = [*self._command, "env", "-i", f"PATH={PATH}", "HOME=/root", *GO, *command]
            self.programs[name] = subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def exit_code(self, name: str) -> int | None:
        """Return the exit code of a spawned program, None while it runs."""
        return self.programs[name].poll()

    def kill(self, name: str) -> None:
        """Kill a spawned program and wait for its end."""
        program = self.programs.pop(name, None)
        if program and (pid := processes.child(program.pid)):
            os.kill(pid, signal.SIGKILL)
            program.wait()

    def close(self) -> None:
        """Kill every program; the mounts end with them."""
        self._init.kill()
        self._init.wait()
        for program in self.programs.values():
            program.wait()

    def describe(self) -> dict[str, dict]:
        """Return, by name of a program: pid, memory_mib (resident) and running."""
        return {name: _description(program) for name, program in list(self.programs.items())}

    @property
    def _command(self) -> list[str]:
        return self._enter(*KINDS, *ROOT)

    def _enter(self, *options: str) -> list[str]:
        return enter(self.pid, *options)


def _description(program: subprocess.Popen) -> dict:
    pid = processes.child(program.pid)
    return {"pid": pid, "memory_mib": processes.memory_mib(pid), "running": bool(pid) and program.poll() is None}
