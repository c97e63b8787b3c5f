"""Whether a bundle is what was sealed: its files, its signature, its place among the runs, and its own logic."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from jsonschema import Draft202012Validator

from lib.bundle import provenance, seal, signing_key
from lib.bundle.environment import digest
from lib.errors import BundleError
from lib.record import verdicts
from lib.record.events import read
from lib.redact import forbidden

SCHEMA = Path(__file__).parent / "schemas" / "run.schema.json"


@dataclass(frozen=True)
class Told:
    """What a verification found: `problems`, a sentence each, and `notes` on what could not be seen from here."""

    problems: list[str]
    notes: list[str]
    signer: str = ""  # the fingerprint of the key that signed it, if one that is trusted did


def verify(folder: Path, trusted: Sequence[Ed25519PublicKey]) -> Told:
    """Return what is wrong with a bundle; nothing for one that is whole, unchanged, signed by one of the keys, in its
    place in the chain of runs, and whose verdict follows from its tables."""
    if not (folder / seal.SUMS).is_file():
        return Told(
            [f"expected {seal.SUMS} in {folder}, got none; the run did not end, this bundle is incomplete."], []
        )
    problems = [*_files(folder), *_content(folder)]
    try:
        run = seal.run(folder)
    except (OSError, ValueError) as error:
        return Told([*problems, f"expected run.json to be readable, got {type(error).__name__}: {error}."], [])
    signed, stated, signer = _signature(folder, trusted)
    if shape := _schema(run):
        return Told([*problems, *shape, *signed], [], signer)
    problems += [*_statement(folder, run, stated), *_verdict(folder, run), *_times(folder, run)]
    chain, notes = _chain(folder, run)
    return Told([*problems, *signed, *chain], notes, signer)


def _files(folder: Path) -> list[str]:
    lines = (folder / seal.SUMS).read_text(encoding="utf-8").splitlines()
    listed = {name: checksum for checksum, _, name in (line.partition("  ") for line in lines)}
    there = set(seal.files(folder))
    changed = [name for name in sorted(listed.keys() & there) if digest(folder / name) != listed[name]]
    return (
        [f"expected {name} as it was sealed, got it changed." for name in changed]
        + [f"expected {name}, which was sealed, got none." for name in sorted(listed.keys() - there)]
        + [f"expected only what was sealed, got {name} too." for name in sorted(there - listed.keys())]
    )


def _content(folder: Path) -> list[str]:
    files = [name for name in seal.files(folder) if (folder / name).is_file()]
    found = {name: forbidden((folder / name).read_text(encoding="utf-8", errors="replace")) for name in files}
    return [f"expected no secret in {name}, got {kind}." for name, kind in found.items() if kind]


def _schema(run: dict) -> list[str]:
    found = sorted(_validator().iter_errors(run), key=lambda one: list(map(str, one.path)))
    return [f"expected run.json to be as its schema says, got {_place(one)}: {one.message[:200]}." for one in found[:3]]


@cache
def _validator() -> Draft202012Validator:
    return Draft202012Validator(json.loads(SCHEMA.read_text(encoding="utf-8")))


def _place(error) -> str:
    return ".".join(map(str, error.path)) or "at its top"


def _signature(folder: Path, trusted: Sequence[Ed25519PublicKey]) -> tuple[list[str], dict | None, str]:
    """Return what is wrong with the signature, what it is about, and the fingerprint of the trusted key behind it."""
    try:
        stated, envelope = provenance.read(folder)
    except ValueError as error:
        words = f"expected a signed statement in {provenance.FILE}, got {error}; nobody answers for this bundle."
        return [words], None, ""
    if signer := provenance.signer(envelope, trusted):
        kind = forbidden(json.dumps(stated))
        found = [f"expected no secret in {provenance.FILE}, got {kind}."] if kind else []
        return found, stated, signing_key.fingerprint(signer)
    return [_stranger(folder, envelope, trusted)], stated, ""


def _stranger(folder: Path, envelope, trusted: Sequence[Ed25519PublicKey]) -> str:
    """Say of a signature by no key that is trusted whether it is by the one in the bundle."""
    names = ", ".join(signing_key.fingerprint(one)[:16] for one in trusted) or "none"
    try:
        own = signing_key.public_key(folder / provenance.KEY_FILE)
    except BundleError as error:
        return str(error)
    if not provenance.signer(envelope, [own]):
        return f"expected a signature of the statement that holds, got one of no key that is known here ({names})."
    return (
        f"expected a signature by a key that is trusted here ({names}), got one by {signing_key.fingerprint(own)}; "
        "if the signer tells you that fingerprint, name the key: KEY=signer.pem."
    )


def _statement(folder: Path, run: dict, stated: dict | None) -> list[str]:
    """The signed statement must be about these very files and this run; that there is none `_signature` tells."""
    if stated is None:
        return []
    wanted = provenance.statement(run, seal.SUMS, digest(folder / seal.SUMS))
    if stated.get("subject") != wanted["subject"]:
        return [f"expected {seal.SUMS} as it was signed, got it changed: what it lists is not what was signed."]
    return [] if stated == wanted else [f"expected {provenance.FILE} to tell what run.json does, got other facts."]


def _chain(folder: Path, run: dict) -> tuple[list[str], list[str]]:
    """Each run names the one before it; where others lie beside this one, it and the next are held to that."""
    others = [one for one in seal.sealed(folder.absolute().parent) if one.name != folder.name]
    if not others:
        return [], ["it lies alone: whether a run before or after it was removed cannot be seen here"]
    problems = _before(folder, run, others)
    for one in others:
        named = _run(one).get("previous") or {}
        if named.get("run") == folder.name and named.get("sha256") != digest(folder / seal.SUMS):
            problems.append(f"expected this run as {one.name}, the next one, names it, got another in its place.")
    return problems, []


def _before(folder: Path, run: dict, others: list[Path]) -> list[str]:
    named, found = run["previous"], seal.before(folder.absolute())
    if named == found:
        return []
    if not named:
        return [f"expected the first run of its environment, as it says, got {found['run']} before it."]
    there = next((one for one in others if one.name == named["run"]), None)
    if there is None:
        return [f"expected {named['run']} beside it, the run before this one, got none: it was removed."]
    if digest(there / seal.SUMS) != named["sha256"]:
        return [f"expected {named['run']} as it was when this one was sealed after it, got another in its place."]
    return [f"expected {named['run']} to be the run before this one, got {found['run']} between them."]


def _run(folder: Path) -> dict:
    try:
        return seal.run(folder)
    except (OSError, ValueError):
        return {}


def _times(folder: Path, run: dict) -> list[str]:
    """All that was recorded lies between the run's start and its end."""
    problems = []
    for step in run["steps"]:
        times = [one["at"] for one in read(folder / "events" / f"{step['step']}.jsonl")]
        if times and not run["started"] <= min(times) <= max(times) <= run["finished"]:
            problems.append(
                f"expected the events of {step['step']} between {run['started']} and {run['finished']}, "
                f"got {min(times)} to {max(times)}."
            )
    return problems


def _verdict(folder: Path, run: dict) -> list[str]:
    """Recompute from the tables what run.json claims."""
    try:
        answers = [row for name in ("checks.csv", "responses.csv") for row in seal.rows(folder, name)]
    except (OSError, ValueError) as error:
        return [f"expected the tables to be readable, got {type(error).__name__}: {error}."]
    problems = [text for row in run["steps"] for text in _step(folder, row, answers)]
    whole = verdicts.worst(row["verdict"] for row in run["steps"])
    if run["verdict"] != whole:
        problems.append(f"expected the verdict {whole} from the steps, got {run['verdict']} in run.json.")
    if (run["exit_code"] == 0) != (whole == verdicts.PASS):
        problems.append(f"expected an exit code of a run whose verdict is {whole}, got {run['exit_code']}.")
    return problems


def _step(folder: Path, row: dict, answers: list[dict]) -> list[str]:
    step, claimed = row["step"], row["verdict"]
    found = Counter(answer.get("verdict") for answer in answers if answer["step"] == step)
    problems = [
        f"expected {row[name]} checks of {step} to be {kind}, as run.json says, got {found[kind]} in the tables."
        for name, kind in seal.COUNTS.items()
        if found[kind] != row[name]
    ]
    follows = verdicts.worst([verdicts.PASS, *(kind for kind in found if kind in verdicts.RED)])
    if claimed in (verdicts.PASS, verdicts.FAIL) and claimed != follows:
        problems.append(f"expected the verdict of {step} to follow from its checks: {follows}, got {claimed}.")
    if claimed in (verdicts.PASS, verdicts.FAIL) and not (folder / "notebooks" / f"{step}.ipynb").is_file():
        problems.append(f"expected notebooks/{step}.ipynb of a step that ran, got none.")
    return problems
