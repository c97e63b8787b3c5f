"""Shells that stay open in pods: each exec session costs the node a process start, and a shell takes many commands."""

from __future__ import annotations

import re
import shlex
import time
import uuid
from collections import defaultdict
from collections.abc import Callable
from threading import Lock, Semaphore

from kubernetes.stream.ws_client import WSClient
from websocket import WebSocketException

from lib.errors import ClusterError

LIMIT = 60.0  # seconds for one command
SHELLS = 4  # in one container


class PodShells:
    """Shells by pod and container. A command takes an idle shell, opens one, or waits for one of SHELLS."""

    def __init__(self, connect: Callable[[tuple[str, str, str]], WSClient]) -> None:
        """Args: connect: opens `sh` in a (pod, namespace, container), with stdin and stdout."""
        self._connect = connect
        self._idle: dict[tuple[str, str, str], list[WSClient]] = {}
        self._turns: defaultdict[tuple[str, str, str], Semaphore] = defaultdict(lambda: Semaphore(SHELLS))
        self._lock = Lock()

    def run(self, place: tuple[str, str, str], argv: list[str], stdin: str = "") -> tuple[str, int]:
        """Run a command in a shell of `place` and return its standard output and exit code.

        Args:
            place: pod, namespace, container.
            argv: the command and its arguments, as a list.
            stdin: what the command reads; a line end is added to text that ends without one.

        Raises:
            ClusterError: the shell ended, or the command took longer than LIMIT seconds.
        """
        with self._lock:
            turn = self._turns[place]
        with turn:
            return self._run(place, argv, stdin)

    def _run(self, place: tuple[str, str, str], argv: list[str], stdin: str) -> tuple[str, int]:
        with self._lock:
            shells = self._idle.setdefault(place, [])
            shell = shells.pop() if shells else None
        if shell is None or not shell.is_open():
            shell = self._connect(place)
        try:
            output, code = _run(shell, argv, stdin)
        except (WebSocketException, OSError) as error:
            shell.close()
            raise ClusterError(f"The shell in pod {place[1]}/{place[0]} ended: {error}. Is the pod ready?") from None
        except ClusterError:
            shell.close()
            raise
        with self._lock:
            self._idle[place].append(shell)
        return output, code


def _run(shell: WSClient, argv: list[str], stdin: str) -> tuple[str, int]:
    mark = f"end-{uuid.uuid4().hex}"
    source = f"<<'{mark}'\n{stdin.removesuffix(chr(10))}\n{mark}\n" if stdin else "</dev/null\n"
    shell.write_stdin(f"{shlex.join(argv)} {source}printf '\\n{mark} %d\\n' $?\n")
    output, ends = "", time.monotonic() + LIMIT
    while not (found := re.search(rf"\n{mark} (\d+)\n$", output)):
        if not shell.is_open() or time.monotonic() > ends:
            raise ClusterError(f"expected {argv[0]} in the pod to end within {LIMIT:.0f} s, got {output[-120:]!r}.")
        shell.update(timeout=1)
        output += shell.read_stdout(timeout=0) or ""
    return output[: found.start()], int(found[1])
