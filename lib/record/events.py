"""The record of one step: each event a JSON line, written at once, nothing secret in it."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Set
from contextlib import suppress
from datetime import UTC, datetime
from multiprocessing import Pipe
from multiprocessing.connection import wait
from pathlib import Path
from threading import Lock, Thread
from typing import Any

from lib.record.event_shape import FIELDS, fault
from lib.redact import clean, cleaned

EVENTS = "RUNBOOK_EVENTS"  # environment: the step's event file
SECRETS = "RUNBOOK_SECRETS_FD"  # environment: kernels write into this pipe what the headless run must redact
POLL = 1  # seconds
COUNTED = ("check", "response", "change")  # events that counts and verdicts follow from
HALF = re.compile("[\ud800-\udfff]")  # half of a surrogate pair


class Record:
    """One step's events, in `events` and, if there is a path, as lines in that file; for several threads.

    Events: step_started, change, check, response, token, fact, evidence, waiting, waited, step_finished;
    outputs/README.md lists their fields.
    """

    def __init__(
        self, path: Path | None = None, secrets_fd: int | None = None, clock: Callable[[], str] | None = None
    ) -> None:
        self.path, self.clock = path, clock or now
        self.events: list[dict] = []
        self.secrets: frozenset[str] = frozenset()  # frozen: `clean` remembers short texts by it
        self._secrets_fd, self._lock = secrets_fd, Lock()

    @classmethod
    def from_environment(cls) -> Record:
        """Return the record that the headless run asks for by environment; in memory only for a notebook by hand."""
        path, pipe = os.environ.get(EVENTS), os.environ.get(SECRETS)
        return cls(Path(path) if path else None, int(pipe) if pipe else None)

    def write(self, event: str, **fields: object) -> dict:
        """Add one event with its UTC time (`at`, ISO, milliseconds); return the line as written, secrets redacted."""
        with self._lock:
            line = {"at": self.clock(), "event": event, **cleaned_fields(event, _plain(fields), self.secrets)}
            self.events.append(line)
            if self.path:
                with self.path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(line, ensure_ascii=False) + "\n")
        return line

    def evidence(self, file: str, text: str) -> None:
        """Keep a text as a file of the bundle, secrets redacted; `file` is its path there, in a folder of its own."""
        kept = clean(text, self.secrets)
        if self.path:
            place = self.path.parent.parent / file
            place.parent.mkdir(exist_ok=True)
            place.write_text(kept, encoding="utf-8")
        self.write("evidence", file=file, sha256=hashlib.sha256(kept.encode()).hexdigest())

    def secret(self, value: str | None) -> None:
        """Redact `value` from now on, in this record and in the executed notebook."""
        with self._lock:
            if not value or value in self.secrets:
                return
            self.secrets |= {value}
            if self._secrets_fd is not None:
                os.write(self._secrets_fd, json.dumps(value).encode() + b"\n")


class SecretsPipe:
    """Collects the secrets that kernels report over a pipe: no file ever holds them. Pass `writer` to the kernels.

    A thread reads the pipe all the time: a full pipe would stop the kernels.
    """

    def __init__(self) -> None:
        self._reader, self.writer = Pipe(duplex=False)
        os.set_blocking(self._reader.fileno(), False)
        self._values: set[str] = set()
        self._rest, self._closed, self._lock = b"", False, Lock()
        Thread(target=self._keep_reading, daemon=True).start()

    def values(self) -> set[str]:
        """Return every secret reported until now."""
        with self._lock:
            self._read()
            return set(self._values)

    def close(self) -> None:
        """Close the pipe; `values` still returns the secrets."""
        with self._lock:
            self._read()
            self._closed = True
            self._reader.close()
            self.writer.close()

    def _keep_reading(self) -> None:
        while not self._closed:
            with suppress(OSError, ValueError):  # it may be closed meanwhile
                wait([self._reader], POLL)
            with self._lock:
                self._read()

    def _read(self) -> None:
        while not self._closed and (chunk := self._available()):
            *lines, self._rest = (self._rest + chunk).split(b"\n")
            self._values |= {json.loads(line) for line in lines}

    def _available(self) -> bytes:
        try:
            return os.read(self._reader.fileno(), 65536)
        except BlockingIOError:
            return b""


def read(path: Path) -> list[dict]:
    """Return the events of a file; none if it is not there.

    A line that is cut off, as a killed kernel or a full disk leaves it, is left out, and so is a check, a response or
    a change that cannot be counted. `lib.bundle.seal` reports both.
    """
    if not path.is_file():
        return []
    return _events(path.read_bytes())


class Followed:
    """The events of a file that grows: each look reads only what is new."""

    def __init__(self, path: Path) -> None:
        self._path, self._position = path, 0
        self._seen: list[dict] = []

    def events(self) -> list[dict]:
        """Return the events of all whole lines until now; none if the file is not there."""
        if self._path.is_file():
            with self._path.open("rb") as file:
                file.seek(self._position)
                whole = b"".join(file.read().rpartition(b"\n")[:2])
            self._position += len(whole)
            self._seen += _events(whole)
        return self._seen


def _events(lines: bytes) -> list[dict]:
    found = map(_event, lines.decode("utf-8", "replace").split("\n"))
    return [event for event in found if event is not None]


def _event(line: str) -> dict | None:
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(event, dict) or "event" not in event:
        return None
    return None if event["event"] in COUNTED and fault(event) else event


def cleaned_fields(event: str, fields: dict, secrets: Set[str]) -> dict:
    """Return the fields of an event redacted. The name of a fixed field says nothing: `token` names a probe's token."""
    if event == "fact":
        return cleaned(fields, secrets)  # the key names the value
    values: dict = {}
    for name, value in fields.items():
        values |= {name: cleaned(value, secrets)} if name in FIELDS else cleaned({name: value}, secrets)
    return values


def now() -> str:
    """Return the UTC time now, e.g. 2026-01-31T12:00:00.123Z."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _plain(value: dict[str, object]) -> dict[str, Any]:
    """Return the fields as JSON types; a value of any other type becomes text.

    So do the numbers that JSON lacks (NaN), and half of a surrogate pair, which no file can hold.
    """
    return json.loads(without_halves(json.dumps(value, default=str, ensure_ascii=False)), parse_constant=str)


def without_halves(text: str) -> str:
    """Return a JSON text with each half of a surrogate pair, which no file can hold, as a visible escape."""
    return HALF.sub(lambda found: f"\\\\u{ord(found[0]):04x}", text)
