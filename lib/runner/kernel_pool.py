"""Jupyter kernels that are there at once: forked from one process that has imported the library already.

Starting a kernel and importing boto3, kubernetes and pandas takes four seconds of a core, as long as many a step.
Here it is paid once. Kernels are reached by sockets in a private folder: nothing listens on the network.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from pathlib import Path

from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning import LocalProvisioner
from jupyter_core.utils import run_sync

# What every kernel begins with; the fork server imports it once, and leaves out what cannot be imported. The kubernetes
# package imports its API classes only when they are used: 250 modules, 0.7 s of CPU.
PRELOAD = [
    "ipykernel.kernelapp",
    "kubernetes.client.api.core_v1_api",
    "lib.run",
    "lib.planning.preflight",
    "lib.probes.targets.this_mesh",
    "pandas.io.formats.style",
]
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}  # numpy's threads would not survive a fork
FORK = multiprocessing.get_context("forkserver")


class Kernels:
    """The kernels of one run; each notebook gets a fresh one, and `close` leaves none."""

    def __init__(self, folder: Path, library: Path):
        """Kernels begin in `folder` and import lib from `library`; returns before the first is ready."""
        self._folder = folder
        self._sockets = Path(tempfile.mkdtemp(prefix="runbook-"))  # a short path: a socket's may have 107 characters
        self._started: list[AsyncKernelManager] = []
        FORK.set_forkserver_preload(PRELOAD)
        with _environment(**ONE_THREAD, PYTHONPATH=_path(library)):
            forkserver.ensure_running()

    def __enter__(self) -> Kernels:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def start(self, environment: dict[str, str], pipes: dict[str, Connection]) -> AsyncKernelManager:
        """Return a kernel that begins to start, with `environment` on top of this process's.

        `pipes` are open in the kernel; each one's key is the environment variable that holds its file descriptor.
        """
        kernel = AsyncKernelManager(
            kernel_name="python3",
            kernel_spec_manager=KernelSpecManager(kernel_dirs=[]),  # this very Python, whatever else is installed
            transport="ipc",
            connection_file=str(self._sockets / f"{len(self._started)}.json"),
        )
        kernel.provisioner = _Provisioner(parent=kernel, kernel_spec=kernel.kernel_spec)
        self._started.append(kernel)
        run_sync(kernel.start_kernel)(cwd=str(self._folder), env={**os.environ, **environment}, pipes=pipes)
        return kernel

    def close(self) -> None:
        """End every kernel that is left, with all that it started."""
        for kernel in self._started:
            if kernel.has_kernel:
                run_sync(kernel.shutdown_kernel)(now=True)
        shutil.rmtree(self._sockets, ignore_errors=True)


class _Provisioner(LocalProvisioner):
    """jupyter_client's way to let a kernel be something else than a command."""

    async def launch_kernel(self, cmd, *, cwd, env, pipes, **_):
        arguments = ["-f", self.parent.connection_file, "--HistoryManager.hist_file=:memory:"]
        self.process = _Forked(arguments, cwd, env, pipes)
        self.pid = self.pgid = self.process.pid
        return self.connection_info


class _Forked:
    """A forked kernel as subprocess.Popen shows a process."""

    stdin = stdout = stderr = None

    def __init__(self, *arguments):
        self._process = FORK.Process(target=_serve, args=arguments, daemon=True)
        self._process.start()
        self.pid = self._process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int | None:
        self._process.join(timeout)
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with suppress(ProcessLookupError):  # ended since
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)


def _serve(arguments: list[str], folder: str, environment: dict[str, str], pipes: dict[str, Connection]) -> None:
    """In the forked process: become a kernel, in a session of its own, which Ctrl-C in the terminal does not reach."""
    os.setsid()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment, **{name: str(pipe.fileno()) for name, pipe in pipes.items()})
    silent = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(silent, number)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    from ipykernel.kernelapp import IPKernelApp

    IPKernelApp.launch_instance(arguments)


def _end_with_parent() -> None:
    """The process that forked this one lives on with it, so ipykernel's own watch would see nothing."""
    multiprocessing.parent_process().join()
    os.killpg(os.getpid(), signal.SIGKILL)


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
