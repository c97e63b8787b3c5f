"""A headless run: the notebooks, each in a fresh kernel as soon as it may begin, and the bundle that they leave."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, chdir
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jupyter_client.manager import AsyncKernelManager

from lib import errors
from lib.bundle import archive, index_page, seal, signing_key, time_stamp, witness
from lib.bundle.derived import INTERRUPTED
from lib.errors import RunbookError
from lib.files import require_folder, write_atomic
from lib.params import ROOT, Params, load
from lib.record import verdicts
from lib.record.events import EVENTS, SECRETS, SecretsPipe, now, read
from lib.redact import clean
from lib.redact.cells import scrub_cell
from lib.runner import environment, order
from lib.runner.kernel_pool import Kernels
from lib.runner.lock import held, identities
from lib.runner.terminal import Progress

CELL_TIMEOUT = 1800  # seconds; a check has a shorter deadline
GRACE = 5  # seconds that an interrupted cell may take to end


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
    out: TextIO | None = None,
    cell_timeout: int = CELL_TIMEOUT,
    to: str = "",
) -> int:
    """Run notebooks of the series and leave a sealed and signed bundle, whatever their verdict.

    Args:
        env: the name of a file in `params`, without .yml.
        first: the step to start with: 4, 04 or 04-its-name.
        only: the one step to run, named as `first`.
        steps: notebooks to run instead of the series.
        notebooks: the folder of the series.
        outputs: the folder of bundles.
        params: the folder of params files.
        locks: the folder of lock files; by default the user's.
        command: the command as it was given, for the record.
        key: signs the bundle; by default this machine's signing key.
        out: where progress is printed; by default standard output.
        cell_timeout: seconds that one cell may take.
        to: s3://bucket/prefix, which gets the sealed bundle as a zip.

    Returns:
        The exit code. 0: every check passed; 1: a check failed; 2: an error; 130: interrupted.

    Raises:
        ParamsError: the params, the names of steps or RUNBOOK_AT_ONCE are wrong. Nothing was created.
        Locked: another run uses this cluster. Nothing was created.
        BundleError: the signing key or the time-stamping authority's root is not readable, or `to` is no S3 address.
            Nothing was created.
        NotWritable: the outputs cannot be written. Nothing was created.
    """
    if to:
        archive.bucket_and_key(to, "bundle.zip")  # raises
    at_once = order.at_once()
    loaded = load(env, folder=params)
    values, authority = loaded.model_dump(), time_stamp.authority(loaded)
    key = key or signing_key.ensure_key()
    whole = steps or order.numbered(notebooks)
    chosen = whole if steps else order.select(whole, first, only)
    started = now()
    who = environment.who()
    holder = {**who, "pid": os.getpid(), "since": started, "command": command}
    with chdir(ROOT), held(identities(values), holder, locks):
        require_folder(outputs / env)
        origin = environment.origin(ROOT)
        folder = _short(seal.create(env, origin["commit"], datetime.now(UTC), outputs))
        about = {
            **who,
            "env": env,
            "command": command,
            "started": started,
            **origin,
            "params": values,
        }
        series = _Series(folder, values, key, authority, Progress(len(chosen), out), cell_timeout, to, at_once)
        return series.run(whole, chosen, about)


def _short(path: Path) -> Path:
    """Return the path from ROOT: papermill records it, and no folder of this machine belongs in a record."""
    return path.relative_to(ROOT) if path.is_relative_to(ROOT) else path


class _Series:
    """The state of one run, which its steps share."""

    def __init__(
        self,
        folder: Path,
        values: dict,
        key: Ed25519PrivateKey,
        authority: time_stamp.Authority | None,
        progress: Progress,
        cell_timeout: int,
        to: str,
        at_once: int,
    ) -> None:
        self.folder, self.values, self.key, self.authority = folder, values, key, authority
        self.progress, self.cell_timeout, self.to, self.at_once = progress, cell_timeout, to, at_once
        self.secrets = SecretsPipe()
        self.rows: dict[str, dict] = {}
        self.interrupted = False

    def run(self, whole: list[Path], chosen: list[Path], about: dict) -> int:
        """Run the chosen steps, seal the bundle, print the verdict; return the exit code."""
        pages: list[Future] = []
        with ExitStack() as stack:
            stack.callback(self.secrets.close)
            kernels = stack.enter_context(Kernels(folder=ROOT, library=ROOT))
            converter = stack.enter_context(ThreadPoolExecutor(1))
            try:
                from lib.runner import papermill_engine  # takes 3 s; the first kernel starts meanwhile

                self._execute = papermill_engine.execute
                converter.submit(index_page.prepare)
                self._walk(chosen, kernels, lambda step: pages.append(converter.submit(self._page, step)))
            except KeyboardInterrupt:
                self.interrupted = True
        for problem in filter(None, (page.exception() for page in pages)):
            self.progress.say(f"The page of a notebook is missing: {problem}")
        facts = self._facts(whole, about)
        sealed = seal.seal(self.folder, facts, self.key, self.secrets.values(), self.authority)
        self._print_verdict(sealed)
        if reason := seal.incomplete(self.folder):
            self.progress.say(f"The record is incomplete: {reason}")
            return sealed["exit_code"] or verdicts.EXIT_CODES[verdicts.ERROR]
        if self.authority:
            missing = sealed["time_stamp"].get("missing")
            stamped = time_stamp.judge(self.folder, sealed, self.authority.roots)[2]
            self.progress.say(f"No time stamp. {missing}" if missing else f"The record is {stamped}.")
        if place := self.values["witness"]:
            try:
                self.progress.say(
                    witness.tell(place, self.folder, sealed, lambda: witness.client(Params(**self.values)))
                )
            except RunbookError as error:
                self.progress.say(f"No witness knows this run. {error}")
        uploaded = self._upload() if self.to else 0
        return sealed["exit_code"] or uploaded

    def _upload(self) -> int:
        """Upload the bundle as a zip; return the exit code of an error, or 0."""
        file = self.folder.with_name(f"{self.folder.name}.zip")
        try:
            archive.pack(self.folder, file, [self.key.public_key()])
            place = archive.upload(file, self.to, witness.client(Params(**self.values)))
            self.progress.say(f"Uploaded: {place}.")
        except RunbookError as error:
            again = f"python -m lib bundle {self.folder} --to={self.to}"
            self.progress.say(f"The upload to {self.to} failed. {error} The record is kept. To upload it: {again}")
            return verdicts.EXIT_CODES[verdicts.ERROR]
        return 0

    def _walk(self, chosen: list[Path], kernels: Kernels, finished: Callable[[str], None]) -> None:
        """Run each step as soon as the steps that it needs have passed; after a red one, begin no other."""
        needs, waiting, started = order.needs(chosen), list(chosen), {chosen[0]: self._start(kernels, chosen[0])}
        running: dict[Future, Path] = {}

        def ended(step: Future) -> None:
            notebook = running.pop(step)
            row = self.rows[notebook.stem] = step.result()
            self.progress.done(chosen.index(notebook) + 1, row, seal.count(read(self._events(notebook))))
            finished(notebook.stem)
            if row["verdict"] != "pass":
                waiting.clear()

        with ThreadPoolExecutor(self.at_once) as pool, self.progress.live():
            try:
                while running or waiting:
                    unfinished = {*waiting, *running.values()}
                    ready = [one for one in waiting if not needs[one] & unfinished]
                    for notebook in ready[: self.at_once - len(running)]:
                        waiting.remove(notebook)
                        kernel = started.pop(notebook, None) or self._start(kernels, notebook)
                        step = pool.submit(self._step, chosen.index(notebook) + 1, notebook, kernel)
                        running[step] = notebook
                    if waiting and not started:  # the next step's kernel starts while the others run
                        started[waiting[0]] = self._start(kernels, waiting[0])
                    for step in wait(running, return_when=FIRST_COMPLETED).done:
                        ended(step)
            except KeyboardInterrupt:
                self.interrupted = True
                kernels.interrupt()
                wait(running, GRACE)
            finally:
                kernels.end()  # else the pool would wait for their cells
            for step in [*running]:
                ended(step)

    def _start(self, kernels: Kernels, notebook: Path) -> AsyncKernelManager:
        return kernels.start({EVENTS: str(self._events(notebook).absolute())}, {SECRETS: self.secrets.writer})

    def _step(self, number: int, notebook: Path, kernel: AsyncKernelManager) -> dict:
        row = {"step": notebook.stem, "title": _title(notebook), "started": now()}
        start = self.progress.seconds()
        with self.progress.running(number, notebook.stem, self._events(notebook)):
            kind, text = self._executed(notebook, kernel)
        verdict, error = _judged(kind, text, read(self._events(notebook)))
        seconds = round(self.progress.seconds() - start, 2)
        return {**row, "verdict": verdict, "seconds": seconds, "error": clean(error, self.secrets.values())}

    def _executed(self, notebook: Path, kernel: AsyncKernelManager) -> tuple[str, str]:
        """Return the class and text of the exception that ended the notebook; both "" if none did."""
        try:
            output = self.folder / "notebooks" / notebook.name
            how = self._execute(_short(notebook), output, self.values, kernel, self._scrub, self.cell_timeout)
        except Exception as error:
            how = type(error).__name__, str(error)
        return ("KeyboardInterrupt", "interrupted") if self.interrupted and how[0] else how

    def _scrub(self, cell: dict) -> None:
        scrub_cell(cell, self.secrets.values())

    def _page(self, step: str) -> None:
        source = self.folder / "notebooks" / f"{step}.ipynb"
        if source.is_file():
            write_atomic(self.folder / "html" / f"{step}.html", index_page.notebook(source))

    def _events(self, notebook: Path) -> Path:
        return self.folder / "events" / f"{notebook.stem}.jsonl"

    def _facts(self, whole: list[Path], about: dict) -> dict:
        missing = {"verdict": "not run", "started": "", "seconds": 0.0, "error": ""}
        steps = [self.rows.get(path.stem) or {"step": path.stem, "title": _title(path), **missing} for path in whole]
        ended = {"finished": now(), "seconds": round(self.progress.seconds(), 2), "steps": steps}
        return {**about, **ended, **({"exit_code": INTERRUPTED} if self.interrupted else {})}

    def _print_verdict(self, sealed: dict) -> None:
        place = os.path.relpath(self.folder.absolute())
        self.progress.say(index_page.sentence(sealed))
        self.progress.say(f"{sealed['verdict']} after {self.progress.seconds():.1f} s. Record: {place}/index.html")


def _judged(kind: str, text: str, events: list[dict]) -> tuple[str, str]:
    """Return the step's verdict and its sentence: a failed check is a fail, any other exception an error."""
    red = [row for row in events if row["event"] in ("check", "response") and row["verdict"] in verdicts.RED]
    worst = verdicts.worst(row["verdict"] for row in red)
    if kind and kind != "RedCheck":
        known = kind in vars(errors) or kind in ("KeyboardInterrupt", "DeadKernelError", "CellTimeoutError")
        return "error", _line(text) if known else f"{kind}: {_line(text)}"
    if kind:
        return worst if red else "fail", _line(text)
    if red:
        first = red[0]
        name, got = (first["name"], first["actual"]) if first["event"] == "check" else (first["request"], first["got"])
        return worst, f"{name}: expected {first['expected']}, got {got}; {first.get('reason') or 'see the step'}."
    return "pass", ""


def _line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "")


def _title(notebook: Path) -> str:
    """Return the notebook's first heading, or its name if it has no heading or is no notebook."""
    try:
        cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    except (ValueError, KeyError):
        return notebook.stem
    lines = (line for cell in cells for line in "".join(cell["source"]).splitlines() if cell["cell_type"] == "markdown")
    return next((line.lstrip("# ") for line in lines if line.startswith("# ")), notebook.stem)
