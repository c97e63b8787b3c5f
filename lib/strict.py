"""Reads files that somebody else may have written: no links, no doubled keys, and never more than a fixed size."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

LARGEST = 32 * 2**20  # bytes of a file that is read as a whole; a run's largest files have 1 MB
SMALL = 4 * 2**20  # bytes of run.json, of the signed statement, of SHA256SUMS
MANY = 20_000  # entries of a folder


def content(path: Path, most: int = LARGEST) -> bytes:
    """Return a file's bytes; raise ValueError if it is a link, no regular file, unreadable or larger than `most`."""
    try:
        with open(_descriptor(path), "rb") as file:
            data = file.read(most + 1)
    except OSError as error:
        raise ValueError(f"it is not readable ({type(error).__name__})") from None
    if len(data) > most:
        raise ValueError(f"it has more than {most} bytes")
    return data


def text(path: Path, most: int = LARGEST) -> str:
    """Return a file's text; raise ValueError as `content` does, and if it is no UTF-8."""
    return content(path, most).decode("utf-8")


def digest(path: Path, most: int = LARGEST) -> str:
    """Return a file's SHA-256 in hex; "" if it is a link, no regular file, unreadable or larger than `most` bytes."""
    try:
        with open(_descriptor(path), "rb") as file:
            if os.fstat(file.fileno()).st_size > most:
                return ""
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, ValueError):
        return ""


def json_value(text: str) -> Any:
    """Return the value of a JSON text.

    Raises:
        ValueError: it is no JSON, a key is there twice, a number is none (NaN, 1e999), the text is nested too deep, or
            a string has half of a surrogate pair, which no file can hold.
    """
    try:
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse, parse_float=_finite)
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    return value


def entries(folder: Path) -> tuple[list[str], list[str], dict[str, str]]:
    """Return the files and the folders below a folder, by relative name, and in words each other entry by its name.

    Others are links, pipes, devices, folders that cannot be listed, and the entry after MANY entries.
    """
    files: list[str] = []
    folders: list[str] = []
    others: dict[str, str] = {}
    for number, (name, kind) in enumerate(_walk(folder, "")):
        if number >= MANY:
            others["."] = f"a folder of more than {MANY} entries, where a run leaves about 100"
            break
        if kind == "file":
            files.append(name)
        elif kind == "folder":
            folders.append(name)
        else:
            others[name] = kind
    return sorted(files), sorted(folders), others


def _walk(folder: Path, prefix: str) -> Iterator[tuple[str, str]]:
    try:
        with os.scandir(folder) as found:
            for entry in found:
                name = f"{prefix}{entry.name}"
                kind = _kind(entry)
                yield name, kind
                if kind == "folder":
                    yield from _walk(folder / entry.name, f"{name}/")
    except RecursionError:
        yield prefix.rstrip("/") or ".", "a folder that is nested too deep"
    except OSError as error:
        yield prefix.rstrip("/") or ".", f"a folder that cannot be listed ({type(error).__name__})"


def _kind(entry: os.DirEntry[str]) -> str:
    mode = entry.stat(follow_symlinks=False).st_mode
    if stat.S_ISLNK(mode):
        return "a symbolic link"
    if stat.S_ISDIR(mode):
        return "folder"
    return "file" if stat.S_ISREG(mode) else "a pipe, a socket or a device"


def _descriptor(path: Path) -> int:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError("no regular file")
    return descriptor


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for key, member in pairs:
        if key in value:
            raise ValueError(f"the key {key!r} is there twice")
        value[key] = member
    return value


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is no number")


def _finite(number: str) -> float:
    value = float(number)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"{number[:20]} is no number")
    return value
