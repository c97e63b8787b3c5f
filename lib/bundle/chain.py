"""The chain of an environment's runs: each run's signed statement names the run before it by its SHA-256."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from lib import strict
from lib.bundle import provenance, signing_key
from lib.bundle.derived import SUMS
from lib.errors import BundleError

SEALED, CUT, OPEN, BROKEN = "sealed", "cut", "open", "broken"
THIS = "this run"
ALONE = "no other run is beside it, so a run that was removed before or after it would not be noticed"


@dataclass(frozen=True)
class Link:
    """A run as its own signed statement presents it.

    `state`: sealed; cut, if SHA256SUMS is gone but the statement is there; open, if it was never sealed; broken, if the
    statement is not about this folder or its signature does not hold. `previous` is {run, sha256} or None.
    """

    name: str
    state: str
    sha256: str = ""
    previous: dict[str, str] | None = None
    trusted: bool = False


@dataclass(frozen=True)
class Chain:
    """What the chain of one run says: problems, notes, and how far back it reaches."""

    problems: list[str]
    notes: list[str]
    reach: str


def links(folder: Path, trusted: Sequence[Ed25519PublicKey]) -> dict[str, Link]:
    """Return the runs in an environment's folder by name, oldest first. A link to a folder is no run."""
    found = sorted(path for path in folder.iterdir() if path.is_dir() and not path.is_symlink())
    return {path.name: link(path, trusted) for path in found if not path.name.startswith(".")}


def link(folder: Path, trusted: Sequence[Ed25519PublicKey]) -> Link:
    """Return a run's place in the chain, by its statement alone."""
    make = partial(Link, folder.name)
    sums = strict.digest(folder / SUMS)
    try:
        statement, envelope = provenance.read(folder)
        subject, name, previous = provenance.place(statement)
    except ValueError:
        return make(BROKEN if (folder / SUMS).exists() else OPEN)
    known = provenance.signer(envelope, trusted) is not None
    if name != folder.name or not (known or _signed_by_itself(folder, envelope)):
        return make(BROKEN)
    if not sums:
        return make(CUT, subject, previous, known)
    return make(SEALED if sums == subject else BROKEN, sums, previous, known)


def previous_run(folder: Path) -> dict[str, str] | None:
    """Return the sealed run before this one as {run, sha256}, the SHA-256 of its SHA256SUMS; None for the first."""
    older = [one for one in links(folder.parent, []).values() if one.state == SEALED and one.name < folder.name]
    return {"run": older[-1].name, "sha256": older[-1].sha256} if older else None


def check(name: str, previous: dict[str, str] | None, sha256: str, known: dict[str, Link]) -> Chain:
    """Walk from a run back to the first run, and look at the runs that name this one.

    Args:
        name: the run's name.
        previous: the run before it, as its run.json has it.
        sha256: the SHA-256 of its SHA256SUMS.
        known: the runs of its environment, as `links` returns them.
    """
    beside = {key: one for key, one in known.items() if key != name and one.state in (SEALED, CUT)}
    others = {key: one for key, one in beside.items() if one.trusted}
    if not beside:
        return Chain([], [ALONE], "no other run")
    problems, notes, passed = _walk(name, previous, known, others)
    oldest = passed[-1] if passed else name
    stopped = bool(problems or notes)
    if not stopped:
        problems += _between(name, passed, others)
    for other in others.values():
        if other.previous and other.previous["run"] == name and other.previous["sha256"] != sha256:
            problems.append(f"This run was replaced: {other.name}, the next run, names another {SUMS} for it.")
    if passed:
        runs = "1 run" if len(passed) == 1 else f"{len(passed)} runs"
        return Chain(problems, notes, f"{runs} back to {oldest}{'' if stopped else ', the first'}")
    return Chain(problems, notes, "none of these runs" if stopped else "no run, this is the first")


def _walk(
    name: str, previous: dict[str, str] | None, known: dict[str, Link], others: dict[str, Link]
) -> tuple[list[str], list[str], list[str]]:
    """Return the problems and notes that end the walk, and the runs that it passed, newest first."""
    passed: list[str] = []
    by = THIS
    while previous:
        at, link = previous["run"], known.get(previous["run"])
        if at >= (passed[-1] if passed else name):
            return [f"{by} names {at} as the run before it, which is not older."], [], passed
        before = f"{at}, the run before {'this one' if by == THIS else by},"
        if link is None and not any(one < at for one in others):
            return [], [f"the runs up to {at}, which {by} names, are not here: old runs were pruned"], passed
        if link is None or link.state == OPEN:
            return [f"{before} {'has lost its seal' if link else 'was removed'}."], [], passed
        if link.sha256 != previous["sha256"] or link.state == BROKEN:
            return [f"{before} was replaced after {by} was sealed."], [], passed
        if link.state == CUT:
            return [f"{at} was sealed (its statement is there), but its {SUMS} was removed."], [], passed
        passed.append(at)
        if not link.trusted:
            return [], [f"{at} is signed by a key that is not trusted, so the chain before it was not walked"], passed
        previous, by = link.previous, at
    return [], [], passed


def _between(name: str, passed: list[str], others: dict[str, Link]) -> list[str]:
    """Return a sentence for each older run that no newer run names, after a walk to the first run."""
    problems = []
    stray = [one for one in others if one < name and one not in passed]
    for one in stray:
        newer = min((other for other in passed if other > one), default=THIS)
        older = max((other for other in passed if other < one), default="")
        if older:
            problems.append(f"{one} was inserted between {older} and {newer}.")
        else:
            problems.append(f"{newer} says that it is its environment's first run, but {one} is older.")
    return problems


def _signed_by_itself(folder: Path, envelope: provenance.Envelope) -> bool:
    try:
        return provenance.signer(envelope, [signing_key.public_key(folder / provenance.KEY_FILE)]) is not None
    except BundleError:
        return False
