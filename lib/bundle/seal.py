"""The bundle: the folder that a run leaves, sealed by SHA256SUMS; outputs/README.md documents it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Set as AbstractSet
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from urllib.parse import quote

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from lib import spreadsheet, strict
from lib.bundle import derived, index_page, provenance, signing_key, time_stamp
from lib.bundle.chain import previous_run
from lib.bundle.derived import COUNTS, RUN, SUMS, TABLES, Events, count
from lib.bundle.time_stamp import Authority
from lib.bundle.verify import INCOMPLETE, UNSUMMED, files, verify
from lib.errors import BundleError
from lib.files import write_atomic
from lib.record import verdicts
from lib.record.event_shape import fault, is_time
from lib.record.events import cleaned_fields, without_halves
from lib.redact import clean, cleaned
from lib.redact.cells import scrub_cell

__all__ = ["COUNTS", "RUN", "SUMS", "TABLES", "UNSUMMED", "count", "files", "previous_run"]

EVIDENCE = ("objects", "mesh")  # folders that steps write evidence to
KEPT = ("env", "started", "finished", "seconds", "commit", "dirty", "requirements_lock_sha256", "exit_code")
FIXED = ("at", "event", "key", "verdict", "passed", "action", "file", "sha256", "step")  # fields of events
SHOWN = 1000  # characters of a line that is no event


def create(env: str, commit: str, now: datetime, outputs: Path) -> Path:
    """Create `outputs`/`env`/<UTC time>-<short commit>, with -2, -3, … if the name is taken; return its path."""
    name = f"{now:%Y%m%dT%H%M%SZ}-{commit[:8] or 'uncommitted'}"
    number, folder = 1, outputs / env / name
    while True:
        try:
            folder.mkdir(parents=True)
            break
        except FileExistsError:
            number += 1
            folder = outputs / env / f"{name}-{number}"
    for part in ("notebooks", "html", "events"):
        (folder / part).mkdir()
    return folder


def seal(
    folder: Path,
    run: dict,
    key: Ed25519PrivateKey,
    secrets: AbstractSet[str] = frozenset(),
    authority: Authority | None = None,
) -> dict:
    """Finish the bundle of a run, whatever its verdict, and verify what was written.

    SHA256SUMS is written last. A bundle that does not verify gets INCOMPLETE.txt instead, with the reasons.

    Args:
        folder: the bundle, with the executed notebooks, their pages and the events of each step.
        run: the keys of run.json that the runner knows: who, when, params, versions, and the steps as
            {step, title, verdict, started, seconds, error}. Counts, facts and the verdict come from the events.
        key: signs the statement about SHA256SUMS.
        secrets: the values to redact in every file.
        authority: stamps the signed statement with the time. If it does not, run.json says why.

    Returns:
        The content of run.json.

    Raises:
        BundleError: a file cannot be written, for example because the disk is full.
    """
    try:
        run = _written(folder, run, key, secrets, authority)
        problems = verify(folder, [key.public_key()], alone=True).problems
    except Exception as error:
        _unseal(folder, [f"{type(error).__name__}: {clean(str(error), secrets)}"])
        raise BundleError(
            f"The bundle {folder} is incomplete ({type(error).__name__}: {clean(str(error), secrets)}). "
            "Make room on the disk, or look at the file that the reason names, and run again."
        ) from error
    if problems:
        _unseal(folder, problems)
    return run


def incomplete(folder: Path) -> str:
    """Return why a bundle could not be sealed, "" if it is sealed."""
    if (folder / SUMS).is_file():
        return ""
    reasons = strict.text(folder / INCOMPLETE).splitlines() if (folder / INCOMPLETE).is_file() else []
    return reasons[0] if reasons else f"it has no {SUMS}"


def read_run(folder: Path) -> dict:
    """Return the content of a bundle's run.json; raise BundleError if it is not readable."""
    try:
        run = strict.json_value(strict.text(folder / RUN, strict.SMALL))
    except ValueError as error:
        raise BundleError(f"{RUN} of {folder} is not readable: {error}. Name another run.") from None
    if not isinstance(run, dict):
        raise BundleError(f"{RUN} of {folder} is no JSON object. Name another run.")
    return run


def read_rows(folder: Path, name: str) -> list[dict]:
    """Return the rows of the bundle's table `name`, as texts by column; raise BundleError if it is not readable."""
    try:
        return spreadsheet.rows(strict.text(folder / name))
    except ValueError as error:
        raise BundleError(f"{name} of {folder} is not readable: {error}. Name another run.") from None


def _written(
    folder: Path, run: dict, key: Ed25519PrivateKey, secrets: AbstractSet[str], authority: Authority | None
) -> dict:
    """Write every file of the bundle and return the content of run.json."""
    for leftover in folder.rglob(".*"):  # a draft of lib.files whose process was killed
        if leftover.is_file():
            leftover.unlink()
    _rename(folder)
    redacted = _clean_pages(folder, secrets)
    for path in (path for kind in EVIDENCE for path in folder.glob(f"{kind}/**/*") if path.is_file()):
        _clean_file(path, secrets)
    events = {row["step"]: _events(folder, row["step"], run["started"], secrets) for row in run["steps"]}
    steps = [_cleaned_values(row, ("step", "verdict", "started", "seconds"), secrets) for row in run["steps"]]
    _add_evidence(folder, steps, events)
    run = {**_cleaned_values(run, (*KEPT, "steps"), secrets), "steps": [_settled(row, events) for row in steps]}
    run |= {**_span(run, events), "renderer": derived.renderer(), **({"redacted_pages": redacted} if redacted else {})}
    for step, recorded in events.items():
        if recorded or (folder / _events_file(step)).exists():
            lines = "".join(json.dumps(event, ensure_ascii=False) + "\n" for event in recorded)
            write_atomic(folder / _events_file(step), lines)
    run |= {"time_stamp": {"authority": authority.url}} if authority else {}
    run = derived.complete(run, events) | {"run": folder.name, "previous": previous_run(folder)}
    write_atomic(folder / provenance.KEY_FILE, signing_key.pem(key.public_key()))
    sums, signed = _signed(folder, run, events, key)
    if authority:
        try:
            write_atomic(folder / time_stamp.FILE, authority.stamp(signed.encode()))
        except BundleError as error:  # signed too: a stamp that is not there, without a reason, was removed
            run["time_stamp"] |= {"missing": clean(str(error), secrets)}
            sums, signed = _signed(folder, run, events, key)
    write_atomic(folder / provenance.FILE, signed)
    write_atomic(folder / SUMS, sums)
    return run


def _signed(folder: Path, run: dict, events: Events, key: Ed25519PrivateKey) -> tuple[str, str]:
    """Write the files that follow; return SHA256SUMS and the signed statement about it, which are not written yet."""
    for name, content in derived.files(run, events, files(folder)).items():
        write_atomic(folder / name, content)
    sums = "".join(f"{strict.digest(folder / name)}  {name}\n" for name in files(folder))
    statement = provenance.statement(run, SUMS, hashlib.sha256(sums.encode()).hexdigest())
    return sums, provenance.sign(statement, key)


def _unseal(folder: Path, reasons: list[str]) -> None:
    with suppress(OSError):  # the disk is full or read-only: without SHA256SUMS the bundle is incomplete anyway
        for name in UNSUMMED:
            (folder / name).unlink(missing_ok=True)
        write_atomic(folder / INCOMPLETE, "".join(f"{' '.join(reason.split())}\n" for reason in reasons))


def _rename(folder: Path) -> None:
    """Rename files whose names would need quotes in SHA256SUMS or would act on a terminal."""
    for path in sorted(folder.rglob("*"), reverse=True):
        if (name := _fit(path.name)) != path.name:
            path.rename(path.with_name(name))


def _fit(name: str) -> str:
    unfit = [one for one in name if one == "\\" or not one.isprintable()]
    return "".join(quote(one, safe="", errors="surrogateescape") if one in unfit else one for one in name)


def _clean_pages(folder: Path, secrets: AbstractSet[str]) -> list[str]:
    """Redact the notebooks again: a cell may have shown a secret before a kernel reported it.

    A page is made again if its notebook changed or the page is missing. Return the pages that still held something.
    """
    redacted = []
    for path in sorted(folder.glob("notebooks/*.ipynb")):
        page = folder / "html" / f"{path.stem}.html"
        try:
            notebook = json.loads(path.read_text(encoding="utf-8"))
            before = json.dumps(notebook, sort_keys=True)
            for cell in notebook["cells"]:
                scrub_cell(cell, secrets)
            notebook["metadata"] = cleaned(notebook["metadata"], secrets)
            text = json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True)
            write_atomic(path, without_halves(text) + "\n")
            if before != json.dumps(notebook, sort_keys=True) or not page.is_file():
                write_atomic(page, index_page.notebook(path))
        except OSError:
            raise
        except Exception:  # half-written, or of another kind than nbconvert takes: it is kept as the text that it is
            _clean_file(path, secrets)
        if page.is_file() and _clean_file(page, secrets):
            redacted.append(f"html/{page.name}")
    return redacted


def _clean_file(path: Path, secrets: AbstractSet[str]) -> bool:
    """Redact a file of any bytes; return whether anything was redacted."""
    before = path.read_bytes()
    after = clean(before.decode("utf-8", "surrogateescape"), secrets).encode("utf-8", "surrogateescape")
    if after != before:
        write_atomic(path, after)
    return after != before


def _events_file(step: str) -> str:
    return f"events/{step}.jsonl"


def _events(folder: Path, step: str, started: str, secrets: AbstractSet[str]) -> list[dict]:
    """Return the events of a step, redacted; a line that is none becomes an event `unreadable`.

    The last line is left out if it is cut off: a killed kernel leaves that, and its step is an error anyway.
    """
    path = folder / _events_file(step)
    lines = path.read_bytes().decode("utf-8", "backslashreplace").split("\n") if path.is_file() else [""]
    events: list[dict] = []
    for line in lines[:-1]:
        events.append(_event(line, events[-1]["at"] if events else started, secrets))
    last = _event(lines[-1], started, secrets)
    return events if last["event"] == "unreadable" else [*events, last]


def _event(line: str, time: str, secrets: AbstractSet[str]) -> dict:
    """Return the event of a line, redacted; `time` is that of an unreadable line without a time."""
    try:
        event = strict.json_value(line)
        if isinstance(event, dict):
            kept = {name: event[name] for name in FIXED if name in event}
            event = cleaned_fields(str(event.get("event")), event, secrets) | kept
            if isinstance(event.get("file"), str):
                event["file"] = "/".join(map(_fit, event["file"].split("/")))
    except ValueError:
        event = None
    if not fault(event):
        return event
    at = event.get("at") if isinstance(event, dict) else ""
    text = clean(line, secrets).encode("utf-8", "replace").decode()
    return {"at": at if is_time(at) else time, "event": "unreadable", "text": text[:SHOWN]}


def _cleaned_values(values: dict, kept: tuple[str, ...], secrets: AbstractSet[str]) -> dict:
    """Return a dict with its values redacted, except those of the keys `kept`, which the code compares."""
    return {name: value if name in kept else cleaned(value, secrets) for name, value in values.items()}


def _add_evidence(folder: Path, steps: list[dict], events: Events) -> None:
    """Bring the SHA-256 of evidence up to date, as files were redacted, and name files that have no event yet."""
    named: dict[str, dict] = {}
    for recorded in events.values():
        named |= {event["file"]: event for event in recorded if event["event"] == "evidence"}
    for file in (name for name in files(folder) if name.startswith(tuple(f"{kind}/" for kind in EVIDENCE))):
        digest = strict.digest(folder / file)
        if file in named:
            named[file]["sha256"] = digest
        elif ran := [row for row in steps if row["started"]]:
            about = {"at": ran[-1]["started"], "event": "evidence", "file": file, "sha256": digest}
            events[ran[-1]["step"]].append(about)


def _settled(row: dict, events: Events) -> dict:
    """Return a step's row with the verdict that its events allow; `error` says why it is another one."""
    recorded, verdict = events[row["step"]], row["verdict"]
    lost = sum(event["event"] == "unreadable" for event in recorded)
    made = derived.judged(recorded)
    if verdict == "not run" and recorded:
        reason, verdict = "The step was interrupted.", verdicts.ERROR
        row = {**row, "started": min(event["at"] for event in recorded)}
    elif lost and verdict != verdicts.ERROR:
        reason, verdict = f"{lost} events of the step are not readable, so not all checks are known.", verdicts.ERROR
    elif verdict == verdicts.PASS != made:
        reason, verdict = f"Its checks make it {made}.", made
    elif verdict == verdicts.FAIL and made == verdicts.PASS:
        reason, verdict = "It ended as failed, but no check failed.", verdicts.ERROR
    elif verdict == verdicts.FAIL:
        reason, verdict = "", made
    else:
        return row
    return {**row, "verdict": verdict, "error": f"{row['error']} {reason}".strip()}


def _span(run: dict, events: Events) -> dict[str, str]:
    """Return `started` and `finished` so that every event lies between: the clock may be set while a run goes on."""
    times = [event["at"] for recorded in events.values() for event in recorded]
    times += [row["started"] for row in run["steps"] if row["started"]]
    return {"started": min([run["started"], *times]), "finished": max([run["finished"], *times])}
