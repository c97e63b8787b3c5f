"""Checks that a bundle is what was sealed: its files, its signature, its place among the runs, and its own logic."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from jsonschema import Draft202012Validator, ValidationError
from securesystemslib.dsse import Envelope

from lib.bundle import provenance, seal, signing_key
from lib.bundle.environment import digest
from lib.errors import BundleError
from lib.record import verdicts
from lib.record.events import read
from lib.redact import forbidden

SCHEMA = Path(__file__).parent / "schemas" / "run.schema.json"


@dataclass(frozen=True)
class Verification:
    """What a verification found: a sentence for each problem, and a note on each part that could not be checked."""

    problems: list[str]
    notes: list[str]
    signer: str = ""  # the fingerprint of the trusted key that signed the bundle, "" if none did


def verify(folder: Path, trusted: Sequence[Ed25519PublicKey]) -> Verification:
    """Verify a bundle against the keys that are trusted.

    A bundle without problems is complete and unchanged, is signed by one of the keys, has its place in the chain of
    runs, and its verdict follows from its tables.
    """
    if not (folder / seal.SUMS).is_file():
        return Verification(
            [f"There is no {seal.SUMS} in {folder}: the run did not end, the bundle is incomplete."], []
        )
    problems = [*_files(folder), *_content(folder)]
    try:
        run = seal.read_run(folder)
    except (OSError, ValueError) as error:
        return Verification([*problems, f"run.json is not readable: {type(error).__name__}: {error}."], [])
    unsigned, statement, signer = _signature(folder, trusted)
    if misshapen := _schema(run):
        return Verification([*problems, *misshapen, *unsigned], [], signer)
    problems += [*_statement(folder, run, statement), *_verdict(folder, run), *_times(folder, run)]
    chain, notes = _chain(folder, run)
    return Verification([*problems, *unsigned, *chain], notes, signer)


def _files(folder: Path) -> list[str]:
    lines = (folder / seal.SUMS).read_text(encoding="utf-8").splitlines()
    sealed = {name: checksum for checksum, _, name in (line.partition("  ") for line in lines)}
    present = set(seal.files(folder))
    changed = [name for name in sorted(sealed.keys() & present) if digest(folder / name) != sealed[name]]
    return (
        [f"{name} was changed after the bundle was sealed." for name in changed]
        + [f"{name} is missing." for name in sorted(sealed.keys() - present)]
        + [f"{name} was added after the bundle was sealed." for name in sorted(present - sealed.keys())]
    )


def _content(folder: Path) -> list[str]:
    files = [name for name in seal.files(folder) if (folder / name).is_file()]
    kinds = {name: forbidden((folder / name).read_text(encoding="utf-8", errors="replace")) for name in files}
    return [f"{name} contains a secret: {kind}." for name, kind in kinds.items() if kind]


def _schema(run: dict) -> list[str]:
    errors = sorted(_validator().iter_errors(run), key=lambda error: list(map(str, error.path)))
    return [f"run.json does not follow its schema: {_place(error)}: {error.message[:200]}." for error in errors[:3]]


@cache
def _validator() -> Draft202012Validator:
    return Draft202012Validator(json.loads(SCHEMA.read_text(encoding="utf-8")))


def _place(error: ValidationError) -> str:
    return ".".join(map(str, error.path)) or "at its top"


def _signature(folder: Path, trusted: Sequence[Ed25519PublicKey]) -> tuple[list[str], dict | None, str]:
    """Return the signature's problems, the signed statement, and the fingerprint of the trusted key that signed."""
    try:
        statement, envelope = provenance.read(folder)
    except ValueError as error:
        return [f"{provenance.FILE} holds no signed statement ({error}). Nobody vouches for this bundle."], None, ""
    if signer := provenance.signer(envelope, trusted):
        kind = forbidden(json.dumps(statement))
        problems = [f"{provenance.FILE} contains a secret: {kind}."] if kind else []
        return problems, statement, signing_key.fingerprint(signer)
    return [_untrusted(folder, envelope, trusted)], statement, ""


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
        "If the signer confirms that fingerprint to you, name the signer's key: KEY=signer.pem."
    )


def _statement(folder: Path, run: dict, statement: dict | None) -> list[str]:
    """Compare the signed statement with the files and the run. `_signature` reports a missing statement."""
    if statement is None:
        return []
    expected = provenance.statement(run, seal.SUMS, digest(folder / seal.SUMS))
    if statement.get("subject") != expected["subject"]:
        return [f"{seal.SUMS} was changed after it was signed: the files that it lists are not the signed files."]
    return [] if statement == expected else [f"{provenance.FILE} and run.json state different facts."]


def _chain(folder: Path, run: dict) -> tuple[list[str], list[str]]:
    """Check the chain of runs: each run names its predecessor. Return problems and notes."""
    others = [bundle for bundle in seal.sealed(folder.absolute().parent) if bundle.name != folder.name]
    if not others:
        return [], ["no other run is beside it, so a run that was removed before or after it would not be noticed"]
    problems = _predecessor(folder, run, others)
    for other in others:
        named = _run(other).get("previous") or {}
        if named.get("run") == folder.name and named.get("sha256") != digest(folder / seal.SUMS):
            problems.append(f"This run was replaced: {other.name}, the next run, names another {seal.SUMS} for it.")
    return problems, []


def _predecessor(folder: Path, run: dict, others: list[Path]) -> list[str]:
    named, older = run["previous"], seal.previous_run(folder.absolute())
    if named == older:
        return []
    if not named:
        return [f"run.json says that this is its environment's first run, but {_name(older)} is older."]
    predecessor = next((bundle for bundle in others if bundle.name == named["run"]), None)
    if predecessor is None:
        return [f"{named['run']}, the run before this one, was removed."]
    if digest(predecessor / seal.SUMS) != named["sha256"]:
        return [f"{named['run']}, the run before this one, was replaced after this run was sealed."]
    return [f"{_name(older)} was inserted between {named['run']} and this run."]


def _name(previous: dict[str, str] | None) -> str:
    return previous["run"] if previous else "no run"


def _run(folder: Path) -> dict:
    try:
        return seal.read_run(folder)
    except (OSError, ValueError):
        return {}


def _times(folder: Path, run: dict) -> list[str]:
    """Check that all events lie between the run's start and its end."""
    problems = []
    for step in run["steps"]:
        times = [event["at"] for event in read(folder / "events" / f"{step['step']}.jsonl")]
        if times and not run["started"] <= min(times) <= max(times) <= run["finished"]:
            problems.append(
                f"The events of {step['step']} ({min(times)} to {max(times)}) are not within the run "
                f"({run['started']} to {run['finished']})."
            )
    return problems


def _verdict(folder: Path, run: dict) -> list[str]:
    """Compute the verdicts again from the tables and compare them with run.json."""
    try:
        answers = [row for name in ("checks.csv", "responses.csv") for row in seal.read_rows(folder, name)]
    except (OSError, ValueError) as error:
        return [f"The tables are not readable: {type(error).__name__}: {error}."]
    problems = [text for row in run["steps"] for text in _step(folder, row, answers)]
    whole = verdicts.worst(row["verdict"] for row in run["steps"])
    if run["verdict"] != whole:
        problems.append(f"run.json has the verdict {run['verdict']}, but its steps make it {whole}.")
    if (run["exit_code"] == 0) != (whole == verdicts.PASS):
        problems.append(f"run.json has the exit code {run['exit_code']}, which does not fit the verdict {whole}.")
    return problems


def _step(folder: Path, row: dict, answers: list[dict]) -> list[str]:
    step, claimed = row["step"], row["verdict"]
    counts = Counter(answer.get("verdict") for answer in answers if answer["step"] == step)
    problems = [
        f"run.json counts {row[name]} checks of {step} as {kind}, but the tables have {counts[kind]}."
        for name, kind in seal.COUNTS.items()
        if counts[kind] != row[name]
    ]
    computed = verdicts.worst([verdicts.PASS, *(kind for kind in counts if kind in verdicts.RED)])
    if claimed in (verdicts.PASS, verdicts.FAIL) and claimed != computed:
        problems.append(f"run.json has the verdict {claimed} for {step}, but its checks make it {computed}.")
    if claimed in (verdicts.PASS, verdicts.FAIL) and not (folder / "notebooks" / f"{step}.ipynb").is_file():
        problems.append(f"{step} ran, but notebooks/{step}.ipynb is missing.")
    return problems
