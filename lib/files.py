"""Write a file as a whole or not at all, and say in a sentence if a folder takes none."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile

from lib.errors import NotWritable

ROOM = 2**20  # bytes; a disk without them is full
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
PUBLIC, PRIVATE = 0o644, 0o600  # file modes


def write_atomic(path: Path, content: str | bytes, mode: int = PUBLIC, *, keep: bool = False) -> None:
    """Replace the file at `path` in one step; a reader sees the old content or the new. Text is written as UTF-8.

    With `keep`, a file that exists already stays: of two processes that create it, one wins.
    """
    with draft(path, mode, keep=keep) as file:
        file.write_bytes(content.encode() if isinstance(content, str) else content)


@contextmanager
def draft(path: Path, mode: int = PUBLIC, *, keep: bool = False) -> Iterator[Path]:
    """Yield an empty file next to `path`; move it to `path` at the end of the block, or delete it on an exception.

    Its name begins with a dot and ends with the process id. Nobody but its owner can read it if `mode` is PRIVATE.
    A missing folder is created, for its owner alone if `mode` is PRIVATE. With `keep`, an existing `path` stays.
    """
    path.parent.mkdir(mode=0o700 if mode == PRIVATE else 0o777, parents=True, exist_ok=True)
    file = path.with_name(f".{path.name}.{os.getpid()}")
    file.unlink(missing_ok=True)  # a killed process with the same id may have left one
    os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode))
    try:
        yield file
        if not keep:
            file.replace(path)
        elif not path.exists():
            with suppress(FileExistsError):
                os.link(file, path)
    finally:
        file.unlink(missing_ok=True)


@contextmanager
def writing(place: Path) -> Iterator[None]:
    """Turn an error of the disk in the block into NotWritable, about the folder or file `place`."""
    try:
        yield
    except OSError as error:
        fix = "Make room on its disk." if error.errno in FULL else f"Let user {os.geteuid()} write there."
        raise NotWritable(f"{place} cannot be written: {error.strerror or error}. {fix}") from None


def require_folder(folder: Path) -> None:
    """Create a folder, and raise NotWritable if ROOM bytes do not fit into it. They go into a file without a name."""
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder) as file:
            file.write(bytes(ROOM))


def require_folders_of(*files: Path | None) -> None:
    """Do the same for the folders of new files; a device such as /dev/stdout exists, and its folder is not asked."""
    for file in files:
        if file and not file.exists():
            require_folder(file.parent)
