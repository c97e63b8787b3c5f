"""Jupyter kernels that start at once, because they are forked from a process that has imported the library already.

A kernel that is started as a command imports boto3, kubernetes, pandas and lib again. Measured: 3.6 s of CPU. A run of
13 notebooks pays for the imports once instead of 13 times, and saves 43 s of CPU.

Clients reach the kernels by sockets in a private folder: nothing listens on the network.
"""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.util import get_temp_dir
from pathlib import Path
from typing import Any

from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning import LocalProvisioner
from jupyter_core.utils import run_sync

# The modules that every kernel starts with. The fork server imports them once and leaves out a module that fails.
PRELOAD = [
    "ipykernel.kernelapp",
    "lib.run",
    "lib.planning.preflight",
    "lib.probes.targets.this_mesh",
    "pandas.io.formats.style",
    "lib.runner.warm",  # the last one: the collector of garbage leaves alone all that is loaded by then
]
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}  # numpy's threads would not survive a fork
PREFIX = "kernels-"  # of the folder of a run's sockets and temporary files
FORK_SERVER = "fork-server"  # in that folder: a link to the folder of the fork server's socket
FORK = multiprocessing.get_context("forkserver")


class Kernels:
    """The kernels of one run: each notebook gets a fresh kernel, and `close` ends them all."""

    def __init__(self, folder: Path, library: Path) -> None:
        """Begin to import the library. Kernels have `folder` as working directory and import lib from `library`."""
        self._folder = folder
        _remove_leftovers()
        self._scratch, self._lock = _scratch()
        self._started: list[AsyncKernelManager] = []
        FORK.set_forkserver_preload(PRELOAD)
        with _environment(**ONE_THREAD, PYTHONPATH=_path(library)):
            forkserver.ensure_running()
        (self._scratch / FORK_SERVER).symlink_to(get_temp_dir())  # _remove_leftovers deletes it if this run is killed

    def __enter__(self) -> Kernels:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self, environment: dict[str, str], pipes: dict[str, Connection]) -> AsyncKernelManager:
        """Start a kernel and return its manager before the kernel is ready.

        Args:
            environment: variables of the kernel, in addition to the variables of this process.
            pipes: pipes that are open in the kernel, by the environment variable that holds the file descriptor there.
        """
        kernel = AsyncKernelManager(
            kernel_name="python3",
            kernel_spec_manager=KernelSpecManager(kernel_dirs=[]),  # this very Python, whatever kernels are installed
            transport="ipc",
            connection_file=str(self._scratch / f"{len(self._started)}.json"),
        )
        kernel.provisioner = _Provisioner(parent=kernel, kernel_spec=kernel.kernel_spec)
        self._started.append(kernel)
        # Kernels are killed: what they and their programs leave in their temporary folder goes with the scratch folder
        env = {**os.environ, "TMPDIR": str(self._scratch), **environment}
        run_sync(kernel.start_kernel)(cwd=str(self._folder), env=env, pipes=pipes)
        return kernel

    def interrupt(self) -> None:
        """Interrupt the cells that run."""
        for kernel in self._started:
            if kernel.has_kernel:
                run_sync(kernel.interrupt_kernel)()

    def end(self) -> None:
        """End every kernel that still runs, with the processes that it started."""
        for kernel in self._started:
            if kernel.has_kernel:
                run_sync(kernel.shutdown_kernel)(now=True)

    def close(self) -> None:
        """End every kernel, and delete what they left."""
        self.end()
        shutil.rmtree(self._scratch, ignore_errors=True)
        os.close(self._lock)


class _Provisioner(LocalProvisioner):
    """Starts a kernel by a fork: jupyter_client's interface for kernels that are no commands."""

    async def launch_kernel(self, cmd: list[str], **options: Any) -> KernelConnectionInfo:
        """Fork a kernel. `cmd` would start it as a command; `options` has cwd, env and the pipes of `Kernels.start`."""
        assert self.parent is not None  # Kernels.start passes it
        arguments = ["-f", self.parent.connection_file, "--HistoryManager.hist_file=:memory:"]
        forked = _Forked(arguments, options["cwd"], options["env"], options["pipes"])
        self.process = forked  # type: ignore[assignment]  # it has the part of Popen that LocalProvisioner calls
        self.pid = self.pgid = forked.pid
        return self.connection_info


class _Forked:
    """A forked kernel with the interface of subprocess.Popen."""

    stdin = stdout = stderr = None

    def __init__(self, *arguments: object) -> None:
        self._process = FORK.Process(target=_serve, args=arguments, daemon=True)
        self._process.start()
        assert self._process.pid is not None  # it has started
        self.pid: int = self._process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int | None:
        self._process.join(timeout)
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with suppress(ProcessLookupError):  # it ended just now
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)


def _serve(arguments: list[str], folder: str, environment: dict[str, str], pipes: dict[str, Connection]) -> None:
    """Become a kernel in the forked process. Its session is new, and Ctrl-C in the terminal does not reach it."""
    os.setsid()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment, **{name: str(pipe.fileno()) for name, pipe in pipes.items()})
    tempfile.tempdir = None  # else the fork server's
    silent = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(silent, number)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    sys.modules["debugpy"] = None  # type: ignore[assignment]  # ipykernel does without; the import costs 0.2 to 0.4 s
    from ipykernel.kernelapp import IPKernelApp

    IPKernelApp.launch_instance(arguments)


def _end_with_parent() -> None:
    """End this kernel when the run ends. ipykernel watches its parent process, but that is the fork server."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.killpg(os.getpid(), signal.SIGKILL)


def _scratch() -> tuple[Path, int]:
    """Return a new folder and the lock that shows that its run lives; it gets its name when it is locked.

    The folder's path is short, since the path of a socket has at most 107 characters.
    """
    draft = Path(tempfile.mkdtemp(prefix=f".{PREFIX}"))
    lock = os.open(draft, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    return draft.rename(draft.with_name(draft.name[1:])), lock


def _remove_leftovers() -> None:
    """Delete the folders of this user's runs that were killed, also their fork servers' folders."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with suppress(OSError):  # another user's, one of a run that lives, or gone meanwhile
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(lock).st_uid != os.geteuid():
                    continue
                server = folder / FORK_SERVER
                if server.is_symlink() and server.readlink().name.startswith("pymp-"):
                    shutil.rmtree(server.readlink(), ignore_errors=True)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)


def _path(library: Path) -> str:
    return os.pathsep.join(filter(None, (str(library), os.environ.get("PYTHONPATH"))))


@contextmanager
def _environment(**values: str) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
