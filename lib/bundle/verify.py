"""Checks that a bundle is what was sealed: its files, its signature, its place among the runs, and all that follows."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from securesystemslib.dsse import Envelope

from lib import strict
from lib.bundle import chain, contradictions, provenance, recompute, signing_key, time_stamp
from lib.bundle.derived import RUN, SUMS
from lib.errors import BundleError
from lib.redact import forbidden

INCOMPLETE = "INCOMPLETE.txt"  # why a bundle was not sealed
# SHA256SUMS does not list itself, nor the signed statement about it, nor the time stamp of that
UNSUMMED = (SUMS, provenance.FILE, time_stamp.FILE)
LINE = re.compile(r"([0-9a-f]{64})  ([^\n]+)")
FOLDERS = ("notebooks", "html", "events")  # a run creates them at its start, so they may be empty
WORD = (
    "who and when, the commit, the versions, what is real and what is emulated, "
    "and that the events and the notebooks show what happened"
)


@dataclass(frozen=True)
class Verification:
    """What a verification found: a sentence for each problem, and a note on each part that could not be checked."""

    problems: list[str]
    notes: list[str] = field(default_factory=list)
    signer: str = ""  # the fingerprint of the trusted key that signed the bundle, "" if none did
    looked_at: str = ""  # what was checked, in words
    time_stamp: str = ""  # the time that an authority attests, in words


def verify(
    folder: Path,
    trusted: Sequence[Ed25519PublicKey],
    *,
    alone: bool = False,
    pages: bool = True,
    roots: time_stamp.Roots = (),
) -> Verification:
    """Verify a bundle against the keys that are trusted. No input raises an exception, and none needs much memory.

    Args:
        folder: the bundle.
        trusted: the public keys of signers.
        alone: leave the other runs and the pages of notebooks out: what `seal` does with what it has just written.
        pages: make the pages of the notebooks again, which takes most of the time.
        roots: the root certificates of time-stamping authorities that are trusted.

    Returns:
        A bundle without problems is complete and unchanged, is signed by one of the keys, has its place in the chain of
        runs, and its tables, counts, verdict and pages follow from its events and notebooks.
    """
    folder = folder.resolve()
    if not (folder / SUMS).is_file():
        return Verification([_unsealed(folder)])
    problems, names = _files(folder)
    many = 0 if alone or not pages else sum(name.startswith("html/") for name in names)
    made = {name for name in names if recompute.follows(name)}
    with recompute.workers(many) as workers:
        secrets = workers.map(partial(_secret, folder), [name for name in names if name not in made])
        rest, equal = _contents(folder, trusted, names, workers, alone=alone, pages=pages, roots=roots)
        # What follows byte for byte from files without a secret has none.
        more = workers.map(partial(_secret, folder), sorted(made - {*equal}))
        return replace(
            rest, problems=list(dict.fromkeys([*problems, *filter(None, (*secrets, *more)), *rest.problems]))
        )


def _contents(
    folder: Path,
    trusted: Sequence[Ed25519PublicKey],
    names: list[str],
    workers: Executor,
    *,
    alone: bool,
    pages: bool,
    roots: time_stamp.Roots,
) -> tuple[Verification, list[str]]:
    """Verify what a complete bundle says; return the files too that are as they follow."""
    unsigned, statement, signer = _signature(folder, trusted)
    try:
        run = strict.json_value(strict.text(folder / RUN, strict.SMALL))
    except ValueError as error:
        return Verification([f"{RUN} is not readable: {error}.", *unsigned], [], signer), []
    if misshapen := contradictions.shape_problems(run):
        return Verification([*misshapen, *unsigned], [], signer), []
    problems = [*_name(folder, run), *_statement(folder, run, statement)]
    found = recompute.check(folder, run, names, workers, pages=pages and not alone)
    linked = chain.Chain([], [], "") if alone else _chain(folder, run, trusted)
    undated, undated_notes, stamped = time_stamp.judge(folder, run, roots)
    signed = "; ".join(filter(None, (f"signed by {signer[:16]}", stamped)))
    looked_at = (
        f"complete and unchanged ({len(names)} files by their SHA-256), {signed}; "
        f"before it: {linked.reach}; recomputed: {found.summary() or 'nothing'}. Only the signer's word: {WORD}."
    )
    return Verification(
        [*problems, *found.problems, *unsigned, *undated, *linked.problems],
        [*found.notes, *undated_notes, *linked.notes],
        signer,
        looked_at,
        stamped,
    ), found.equal


def files(folder: Path) -> list[str]:
    """Return the names that SHA256SUMS lists."""
    return [name for name in strict.entries(folder)[0] if name not in UNSUMMED]


def _unsealed(folder: Path) -> str:
    if (folder / SUMS).is_symlink() or (folder / SUMS).exists():
        return f"{SUMS} in {folder} is no regular file: the bundle is incomplete."
    if (folder / provenance.FILE).exists():
        return (
            f"There is no {SUMS} in {folder}: the run was sealed (its signed statement is there), and its {SUMS} was "
            "removed, so the bundle is incomplete."
        )
    try:
        reason = f" {INCOMPLETE} says: {strict.text(folder / INCOMPLETE, strict.SMALL).strip()[:500]}"
    except ValueError:
        reason = ""
    return f"There is no {SUMS} in {folder}: the run did not end, the bundle is incomplete.{reason}"


def _files(folder: Path) -> tuple[list[str], list[str]]:
    """Return the problems of the list of files, and the names that are listed and there."""
    present, folders, others = strict.entries(folder)
    problems: list[str] = []
    try:
        lines = strict.text(folder / SUMS, strict.SMALL).split("\n")
    except ValueError as error:
        return [f"{SUMS} is not readable: {error}."], []
    pairs = [match.groups() for line in lines[:-1] if (match := LINE.fullmatch(line))]
    names = [name for _, name in pairs]
    if lines[-1] or len(pairs) < len(lines) - 1 or names != sorted(set(names)):
        problems.append(f"{SUMS} is not as the runbook writes it: one line a file, sorted, each name once.")
    sealed = {name: checksum for checksum, name in reversed(pairs)}
    there = set(present) - set(UNSUMMED)
    changed = [name for name in sorted(sealed.keys() & there) if strict.digest(folder / name) != sealed[name]]
    wanted = {parent for name in sealed for parent in _parents(name)} | set(FOLDERS)
    return (
        problems
        + [f"{name} is {kind}, where a file was sealed." for name, kind in others.items() if name in sealed]
        + [
            f"{name} was added after the bundle was sealed: {kind}."
            for name, kind in others.items()
            if name not in sealed
        ]
        + [f"{name} was changed after the bundle was sealed." for name in changed]
        + [f"{name} is missing." for name in sorted(sealed.keys() - there - others.keys())]
        + [f"{name} was added after the bundle was sealed." for name in sorted(there - sealed.keys())]
        + [f"The folder {name} was added after the bundle was sealed." for name in folders if name not in wanted]
    ), sorted(sealed.keys() & there)


def _parents(name: str) -> list[str]:
    parts = name.split("/")[:-1]
    return ["/".join(parts[: number + 1]) for number in range(len(parts))]


def _secret(folder: Path, name: str) -> str:
    """Return a sentence if a listed file holds the shape of a secret."""
    try:
        kind = forbidden(strict.content(folder / name).decode("utf-8", "replace"))
    except ValueError as error:
        return f"{name} was not searched for secrets: {error}."
    return f"{name} contains a secret: {kind}." if kind else ""


def _signature(folder: Path, trusted: Sequence[Ed25519PublicKey]) -> tuple[list[str], dict | None, str]:
    """Return the signature's problems, the signed statement, and the fingerprint of the trusted key that signed."""
    try:
        statement, envelope = provenance.read(folder)
        extra = provenance.unsigned(folder, envelope)
    except ValueError as error:
        return [f"{provenance.FILE} holds no signed statement ({error}). Nobody vouches for this bundle."], None, ""
    problems = [f"{provenance.FILE} is not as it was signed: {extra}."] if extra else []
    if signer := provenance.signer(envelope, trusted):
        kind = forbidden(json.dumps(statement))
        problems += [f"{provenance.FILE} contains a secret: {kind}."] if kind else []
        fingerprint = signing_key.fingerprint(signer)
        if signing_key.pem(signer) != _text(folder / provenance.KEY_FILE):
            problems.append(f"{provenance.KEY_FILE} is not the key that signed the bundle, which is {fingerprint}.")
        return problems, statement, fingerprint
    return [*problems, _untrusted(folder, envelope, trusted)], statement, ""


def _text(path: Path) -> str:
    try:
        return strict.text(path, strict.SMALL)
    except ValueError:
        return ""


def _untrusted(folder: Path, envelope: Envelope, trusted: Sequence[Ed25519PublicKey]) -> str:
    """Return why no trusted key verifies the signature: another key made it, or it is invalid."""
    names = ", ".join(signing_key.fingerprint(key)[:16] for key in trusted) or "none"
    try:
        enclosed = signing_key.public_key(folder / provenance.KEY_FILE)
    except BundleError as error:
        return str(error)
    if not provenance.signer(envelope, [enclosed]):
        return f"The signature of {provenance.FILE} is not valid for any known key (trusted: {names})."
    return (
        f"The bundle is signed by {signing_key.fingerprint(enclosed)}, which is not a trusted key (trusted: {names}). "
        "Ask the signer for the fingerprint and for the public key, over another way than this bundle, and name that "
        "key: KEY=signer-you-know.pem."
    )


def _name(folder: Path, run: dict) -> list[str]:
    if folder.name == run["run"]:
        return []
    return [f"The folder is named {folder.name}, but the run in it is {run['run']}: another run took its place."]


def _statement(folder: Path, run: dict, statement: dict | None) -> list[str]:
    """Compare the signed statement with the files and the run. `_signature` reports a missing statement."""
    if statement is None:
        return []
    expected = provenance.statement(run, SUMS, strict.digest(folder / SUMS))
    if statement.get("subject") != expected["subject"]:
        return [f"{SUMS} was changed after it was signed: the files that it lists are not the signed files."]
    return [] if statement == expected else [f"{provenance.FILE} and {RUN} state different facts."]


def _chain(folder: Path, run: dict, trusted: Sequence[Ed25519PublicKey]) -> chain.Chain:
    try:
        known = chain.links(folder.parent, trusted)
    except OSError as error:
        return chain.Chain([], [f"the folder of its runs cannot be listed ({type(error).__name__})"], "not known")
    return chain.check(run["run"], run["previous"], strict.digest(folder / SUMS), known)
