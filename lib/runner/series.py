"""A headless run: the notebooks in their order, each in a fresh kernel, and the bundle that they leave."""

from __future__ import annotations

import json
import os
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, chdir
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from lib import errors
from lib.bundle import environment, index_page, seal, signing_key
from lib.errors import ParamsError
from lib.params import ROOT, load
from lib.record import verdicts
from lib.record.events import EVENTS, SECRETS, Told, now, read
from lib.redact import clean
from lib.runner.kernel_pool import Kernels
from lib.runner.lock import held, identity
from lib.runner.terminal import Progress

CELL_TIMEOUT = 1800  # seconds; a check has its own, shorter deadline
INTERRUPTED = 130  # the exit code that shells give for Ctrl-C


def run(
    env: str,
    first: str | None = None,
    only: str | None = None,
    *,
    steps: list[Path] | None = None,
    notebooks: Path = ROOT / "notebooks",
    outputs: Path = ROOT / "outputs",
    params: Path = ROOT / "params",
    locks: Path | None = None,
    command: str = "",
    key: Ed25519PrivateKey | None = None,
    out=None,
    cell_timeout: int = CELL_TIMEOUT,
) -> int:
    """Run the series, or from `first` on, or `only` one step, or just `steps`; return the exit code.

    0: every check held; 1: one did not; 2: an error; 130: interrupted. The bundle is sealed in each case, and signed
    with `key`, else with this machine's own.
    ParamsError and Locked come before anything is made.
    """
    values = load(env, folder=params).model_dump()
    key = key or signing_key.ensure_key()
    whole = steps or numbered(notebooks)
    chosen = whole if steps else select(whole, first, only)
    began = now()
    who = environment.who()
    holder = {**who, "pid": os.getpid(), "since": began, "command": command}
    with chdir(ROOT), held(identity(values), holder, locks):
        commit, dirty = environment.commit(ROOT)
        folder = _short(seal.create(env, commit, datetime.now(UTC), outputs))
        about = {
            **who,
            "env": env,
            "command": command,
            "started": began,
            "commit": commit,
            "dirty": dirty,
            "params": values,
            "versions": environment.versions(),
            "requirements_lock_sha256": environment.digest(ROOT / "requirements.lock"),
        }
        return _Series(folder, values, key, Progress(len(chosen), out), cell_timeout).run(whole, chosen, about)


def numbered(notebooks: Path) -> list[Path]:
    """Return the series' notebooks in their order; those from 90 on are not of the series."""
    return sorted(notebooks.glob("[0-8][0-9]-*.ipynb"))


def select(steps: list[Path], first: str | None = None, only: str | None = None) -> list[Path]:
    """Return the steps from `first` on, or `only` that one; a step is named 4, 04 or 04-its-name."""
    if first and only:
        raise ParamsError(f"expected a first step or an only one, got both ({first}, {only}); leave one out.")
    if only:
        return [steps[_position(steps, only)]]
    return steps[_position(steps, first) :] if first else steps


def _position(steps: list[Path], name: str) -> int:
    names = [path.stem for path in steps]
    found = [place for place, stem in enumerate(names) if name in (stem, stem[:2], stem[:2].removeprefix("0"))]
    if not found:
        raise ParamsError(f"expected a step among {', '.join(names)}, got {name}; name one by its number.")
    return found[0]


def _short(path: Path) -> Path:
    """Papermill keeps paths as they are given: no machine's folders in a record."""
    return path.relative_to(ROOT) if path.is_relative_to(ROOT) else path


class _Series:
    """What the steps of one run share."""

    def __init__(self, folder: Path, values: dict, key: Ed25519PrivateKey, progress: Progress, cell_timeout: int):
        self.folder, self.values, self.key = folder, values, key
        self.progress, self.cell_timeout = progress, cell_timeout
        self.told = Told()
        self.rows: dict[str, dict] = {}
        self.interrupted = False

    def run(self, whole: list[Path], chosen: list[Path], about: dict) -> int:
        """Run the chosen steps, seal, tell; return the exit code."""
        pages: list[Future] = []
        with ExitStack() as stack:
            stack.callback(self.told.close)
            kernels = stack.enter_context(Kernels(folder=ROOT, library=ROOT))
            converter = stack.enter_context(ThreadPoolExecutor(1))
            try:
                from lib.runner.papermill_engine import (
                    execute,  # 3 s: while the first kernel imports what it needs, not before that
                )

                self._execute = execute
                converter.submit(index_page.prepare)
                self._walk(chosen, kernels, lambda step: pages.append(converter.submit(self._page, step)))
            except KeyboardInterrupt:
                self.interrupted = True
        for problem in filter(None, (one.exception() for one in pages)):
            self.progress.say(f"A page of a notebook could not be made: {problem}")
        sealed = seal.seal(self.folder, self._told_of(whole, about), self.key, self.told.values())
        self._tell(sealed)
        return sealed["exit_code"]

    def _walk(self, chosen: list[Path], kernels: Kernels, finished) -> None:
        start = partial(self._start, kernels)
        ahead = start(chosen[0])
        for number, (notebook, following) in enumerate(zip(chosen, [*chosen[1:], None], strict=True), 1):
            kernel, ahead = ahead, start(following) if following else None
            row = self.rows[notebook.stem] = self._step(number, notebook, kernel)
            self.progress.done(number, row, seal.count(read(self._events(notebook))))
            finished(notebook.stem)
            if row["verdict"] != "pass":
                return

    def _start(self, kernels: Kernels, notebook: Path):
        return kernels.start({EVENTS: str(self._events(notebook).absolute())}, {SECRETS: self.told.writer})

    def _step(self, number: int, notebook: Path, kernel) -> dict:
        row = {"step": notebook.stem, "title": _title(notebook), "started": now()}
        begin = self.progress.seconds()
        with self.progress.running(number, notebook.stem, self._events(notebook)):
            kind, text = self._executed(notebook, kernel)
        verdict, error = _judged(kind, text, read(self._events(notebook)))
        seconds = round(self.progress.seconds() - begin, 2)
        return {**row, "verdict": verdict, "seconds": seconds, "error": clean(error, self.told.values())}

    def _executed(self, notebook: Path, kernel) -> tuple[str, str]:
        """Return the class and text of what went wrong, if anything did."""
        try:
            output = self.folder / "notebooks" / notebook.name
            return self._execute(_short(notebook), output, self.values, kernel, self._scrub, self.cell_timeout)
        except KeyboardInterrupt:
            self.interrupted = True
            return "KeyboardInterrupt", "interrupted"
        except Exception as error:
            return type(error).__name__, str(error)

    def _scrub(self, cell: dict) -> None:
        seal.scrub_cell(cell, self.told.values())

    def _page(self, step: str) -> None:
        source = self.folder / "notebooks" / f"{step}.ipynb"
        if source.is_file():
            (self.folder / "html" / f"{step}.html").write_text(index_page.notebook(source), encoding="utf-8")

    def _events(self, notebook: Path) -> Path:
        return self.folder / "events" / f"{notebook.stem}.jsonl"

    def _told_of(self, whole: list[Path], about: dict) -> dict:
        missing = {"verdict": "not run", "started": "", "seconds": 0.0, "error": ""}
        steps = [self.rows.get(path.stem) or {"step": path.stem, "title": _title(path), **missing} for path in whole]
        ended = {"finished": now(), "seconds": round(self.progress.seconds(), 2), "steps": steps}
        return {**about, **ended, **({"exit_code": INTERRUPTED} if self.interrupted else {})}

    def _tell(self, sealed: dict) -> None:
        place = os.path.relpath(self.folder.absolute())
        self.progress.say(index_page.sentence(sealed))
        self.progress.say(f"{sealed['verdict']} after {self.progress.seconds():.1f} s. Record: {place}/index.html")


def _judged(kind: str, text: str, events: list[dict]) -> tuple[str, str]:
    """Return the step's verdict and its sentence: a check that did not hold is a fail, any other exception an error."""
    red = [one for one in events if one["event"] in ("check", "response") and one["verdict"] in verdicts.RED]
    worst = verdicts.worst(one["verdict"] for one in red)
    if kind and kind != "RedCheck":
        ours = kind in vars(errors) or kind in ("KeyboardInterrupt", "DeadKernelError", "CellTimeoutError")
        return "error", _line(text) if ours else f"{kind}: {_line(text)}"
    if kind:
        return worst if red else "fail", _line(text)
    if red:
        one = red[0]
        name, got = (one["name"], one["actual"]) if one["event"] == "check" else (one["request"], one["got"])
        return worst, f"{name}: expected {one['expected']}, got {got}; {one.get('reason') or 'see the step'}."
    return "pass", ""


def _line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "")


def _title(notebook: Path) -> str:
    """Return the notebook's first heading; its name where there is none, or where it is no notebook."""
    try:
        cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    except (ValueError, KeyError):
        return notebook.stem
    lines = (line for cell in cells for line in "".join(cell["source"]).splitlines() if cell["cell_type"] == "markdown")
    return next((line.lstrip("# ") for line in lines if line.startswith("# ")), notebook.stem)
