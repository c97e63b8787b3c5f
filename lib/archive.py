"""A bundle as one file to hand on: the same bytes for the same bundle, whoever packs it and when."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from lib.errors import BundleError
from lib.verify import verify

MADE = (1980, 1, 1, 0, 0, 0)  # the first time that a zip knows
MODE = 0o100644 << 16  # a plain file, as zip keeps it


def pack(folder: Path, file: Path, trusted: Sequence[Ed25519PublicKey]) -> Path:
    """Write a bundle as a zip, and return its path; BundleError where it is not as an owner of these keys sealed it."""
    problems = verify(folder, trusted).problems
    if problems:
        raise BundleError(f"expected a whole bundle to pack, got: {problems[0]} `make verify` tells all.")
    half = file.with_name(f".{file.name}.half")
    with ZipFile(half, "w", ZIP_DEFLATED, compresslevel=9) as packed:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            about = ZipInfo(f"{folder.name}/{path.relative_to(folder).as_posix()}", MADE)
            about.external_attr, about.compress_type = MODE, ZIP_DEFLATED
            packed.writestr(about, path.read_bytes())
    half.replace(file)
    return file
