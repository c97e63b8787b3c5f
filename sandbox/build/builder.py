"""Build the sandbox's parts (Go programs, Debian layers, Keycloak, images), each once for its inputs."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from sandbox.build.parts import Part, keys, parts
from sandbox.paths import BIN, CRDS, HOME, LOGS, PARTS


class BuildFailed(Exception):
    """One sentence: which part failed, and where its log is."""


def build(tell: Callable[[str], None] = print, only: tuple[str, ...] = ()) -> dict[str, Path]:
    """Build the missing parts; return each part's folder.

    Args:
        tell: takes one line of progress.
        only: the names of the parts to build, all but the optional if empty. They must include what they need; old
            parts then stay.

    Raises:
        BuildFailed: a part, or a tool that it needs, is not to be had.
    """
    named = keys(parts())
    wanted = chosen(parts(), only)
    folders = {part.name: PARTS / f"{part.name}-{named[part.name]}" for part in wanted}
    LOGS.mkdir(parents=True, exist_ok=True)
    with locked():
        missing = [part for part in wanted if not is_whole(folders[part.name])]
        if missing:
            require_tools(missing)
            shutil.rmtree(PARTS / "tmp", ignore_errors=True)
            _Progress(missing, len(wanted), tell).run(folders)
            if not only:
                _drop_old({PARTS / f"{name}-{key}" for name, key in named.items()})
        if not only:
            for name in ("kubectl", "istioctl"):
                _link(BIN / name, folders["programs"] / name)
            _link(CRDS, folders["gateway-api"])
    return folders


@contextmanager
def locked() -> Iterator[None]:
    """Let no other process change the parts meanwhile."""
    with (HOME / "build.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def chosen(all_parts: list[Part], only: tuple[str, ...] = ()) -> list[Part]:
    """Return the parts named in `only`; without names, all but the optional."""
    return [part for part in all_parts if (part.name in only if only else not part.optional)]


def is_whole(folder: Path) -> bool:
    """Return whether a part exists, with the targets of its links: `go` may link to a go that is now uninstalled."""
    return folder.is_dir() and all(path.exists() for path in folder.iterdir() if path.is_symlink())


class _Progress:
    """Builds the missing parts in two lanes and reports each: when it starts and how long it took."""

    def __init__(self, missing: list[Part], total: int, tell: Callable[[str], None]) -> None:
        self.missing, self.total, self.tell = missing, total, tell
        self.done = total - len(missing)
        self.lock, self.start = threading.Lock(), time.monotonic()

    def run(self, folders: dict[str, Path]) -> None:
        self.tell(f"Building {len(self.missing)} of {self.total} parts into {HOME} (logs: {LOGS})")
        futures: dict[str, Future] = {}
        with ThreadPoolExecutor(1) as go, ThreadPoolExecutor(1) as other:
            for part in self.missing:
                lane = go if part.lane == "go" else other
                needs = [futures[need] for need in part.needs if need in futures]
                futures[part.name] = lane.submit(self._one, part, needs, folders)
        for future in futures.values():
            future.result()

    def _one(self, part: Part, needs: list[Future], folders: dict[str, Path]) -> None:
        for need in needs:
            need.result()
        began, log = time.monotonic(), LOGS / f"build-{part.name}.log"
        self.tell(f"  {self._clock()} {part.name} …")
        folder = PARTS / "tmp" / part.name
        folder.mkdir(parents=True)
        with log.open("w") as out:
            try:
                part.make(folder, out)
            except (subprocess.CalledProcessError, OSError, ValueError) as error:
                out.write(f"{error}\n")
                out.flush()
                self.tell(f"  {self._clock()} {part.name} failed; the parts that have begun end first")
                raise BuildFailed(
                    f"expected to build {part.name}, got an error: {_last_line(log)}; see {log}, then run again."
                ) from None
        shutil.rmtree(folders[part.name], ignore_errors=True)
        folder.rename(folders[part.name])
        with self.lock:
            self.done += 1
            self.tell(
                f"  {self._clock()} {part.name} done, {time.monotonic() - began:.0f} s ({self.done} of {self.total})"
            )

    def _clock(self) -> str:
        minutes, seconds = divmod(int(time.monotonic() - self.start), 60)
        return f"[{minutes:02}:{seconds:02}]"


def require_tools(missing: list[Part]) -> None:
    """Install the missing build tools from Debian's packages; never replace an installed one."""
    names = {part.name for part in missing}
    wanted = {"mmdebstrap": "mmdebstrap"} if names & {"base"} else {}
    if "keycloak" in names:
        wanted["mvn"] = "maven"
    packages = [package for tool, package in wanted.items() if not shutil.which(tool)]
    if not packages:
        return
    file = LOGS / "build-apt.log"
    with file.open("w") as log:
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for command in (["update"], ["install", "-y", "--no-install-recommends", *packages]):
            done = subprocess.run(
                ["apt-get", "-q", *command], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment
            )
            if done.returncode:
                raise BuildFailed(
                    f"expected apt-get to install {', '.join(packages)}, got exit code {done.returncode}; see {file}."
                )


def _drop_old(keep: set[Path]) -> None:
    for path in PARTS.iterdir():
        if path not in keep:
            shutil.rmtree(path, ignore_errors=True)


def _link(path: Path, target: Path) -> None:
    """Make a link, or let an existing one lead elsewhere in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    link = path.with_name(f".{path.name}")
    link.unlink(missing_ok=True)
    link.symlink_to(target)
    link.rename(path)


def drop_caches() -> None:
    """Delete the module and build caches of Go; the built parts stay."""
    folder = HOME / "go"
    if folder.is_dir():
        subprocess.run(["chmod", "-R", "u+w", str(folder)], check=True)
        shutil.rmtree(folder)


def _last_line(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1][:200] if lines else "no output"
