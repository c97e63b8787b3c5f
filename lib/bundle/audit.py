"""What `make verify` prints: about one bundle, or about every run of an environment."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from lib import params, strict
from lib.bundle import chain, derived, time_stamp, witness
from lib.bundle.verify import verify
from lib.errors import ParamsError, RunbookError

Keys = Sequence[Ed25519PublicKey]
Report = tuple[list[str], bool]

STATES = VERIFIES, PROBLEM, MISSING, CUT, UNSEALED = "verify", "with a problem", "missing", "cut", "never sealed"
NOTE = "(not checked: {})"
BUNDLES_OWN = (
    "the key {} lies in a bundle, so it proves no more than that the bundle is whole: whoever made the bundle could "
    "put any key there. Get the key from the signer over another way"
)


def bundle(
    folder: Path, trusted: Keys, keys_at: Sequence[Path] = (), witness_at: str = "", roots_at: Sequence[Path] = ()
) -> Report:
    """Return the lines about a bundle, and whether it has a problem.

    Args:
        folder: the bundle, an absolute path.
        trusted: the public keys of signers.
        keys_at: the files of these keys, if they are not this machine's own.
        witness_at: a place that knows the digests of runs; "" for that of the environment's params.
        roots_at: the files of the roots of time-stamping authorities; () for that of the environment's params.

    Raises:
        BundleError: a file of `roots_at` holds no certificate.
    """
    values = _params(folder.parent.name)
    result = verify(folder, trusted, roots=_roots(values, roots_at))
    problems, notes = _witnessed(folder.parent, values, witness_at, folder.name)
    problems = [*result.problems, *problems]
    notes = [*result.notes, *notes, *_key_notes(folder.parent, keys_at)]
    whose = "the key that you named" if keys_at else "this machine's key"
    word = "not as it was sealed" if problems else result.looked_at.replace("; ", f" ({whose}); ", 1)
    return [*problems, *map(NOTE.format, notes), f"{folder.name}: {word}"], bool(problems)


def environment(
    folder: Path, trusted: Keys, keys_at: Sequence[Path] = (), witness_at: str = "", roots_at: Sequence[Path] = ()
) -> Report:
    """Return the lines about every run in an environment's folder, and whether one has a problem.

    The arguments are those of `bundle`. A run that was never sealed is no problem: its process was killed.
    """
    known = chain.links(folder, trusted)
    signed = {name: link for name, link in known.items() if link.trusted}
    named = {link.previous["run"] for link in signed.values() if link.previous} - known.keys()
    pruned = {name for name in named if name < min(signed)}
    states: list[tuple[str, str, list[str]]] = [
        (MISSING, f"{name}: missing, a later run names it", []) for name in sorted(named - pruned)
    ]
    values = _params(folder.name)
    roots = _roots(values, roots_at)
    states += [_state(folder / name, link, trusted, roots) for name, link in known.items()]
    problems, notes = _witnessed(folder, values, witness_at)
    notes += [f"the runs up to {name} are not here: old runs were pruned" for name in sorted(pruned)]
    counts = Counter(state for state, _, _ in states)
    total = ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state] or state == VERIFIES)
    lines = [line for _, word, more in states for line in (word, *(f"  {problem}" for problem in more))]
    lines += [*problems, *map(NOTE.format, [*notes, *_key_notes(folder, keys_at)])]
    whose = "the keys that you named" if keys_at else "this machine's key"
    lines.append(f"{folder.name}: {len(known)} runs, by {whose}: {total}")
    return lines, bool(problems) or any(counts[state] for state in (PROBLEM, MISSING, CUT))


def _state(folder: Path, link: chain.Link, trusted: Keys, roots: time_stamp.Roots) -> tuple[str, str, list[str]]:
    """Return a run's state, a line about it, and its problems."""
    if link.state == chain.OPEN:
        return UNSEALED, f"{link.name}: never sealed, the run did not end", []
    if link.state == chain.CUT:
        return CUT, f"{link.name}: cut, its {derived.SUMS} was removed after it was sealed", []
    result = verify(folder, trusted, roots=roots)
    word = "not as it was sealed" if result.problems else ", ".join(filter(None, ("verifies", result.time_stamp)))
    return PROBLEM if result.problems else VERIFIES, f"{link.name}: {word}", result.problems


def _witnessed(folder: Path, values: params.Params | None, place: str, only: str = "") -> tuple[list[str], list[str]]:
    """Return what the witness says of an environment's folder: problems and notes; `only` names the one run looked at.

    Without a place, the witness is that of the environment's params, if there is one.
    """
    place = place or (values.witness if values and values.witness else "")
    if not place:
        return [], ["no witness keeps the digests of runs elsewhere, so nobody would notice a newest run that goes"]
    try:
        digests = witness.known(place, folder.name, lambda: _client(values))
    except RunbookError as error:
        return [f"The witness {place} did not answer: {error}"], []
    newer = {name: sha256 for name, sha256 in digests.items() if not only or name >= only}
    found = {name: strict.digest(folder / name / derived.SUMS) for name in newer}
    gone = [name for name in sorted(newer) if not found[name]]
    other = [name for name in sorted(newer) if found[name] not in ("", newer[name])]
    unknown = sorted(path.parent.name for path in folder.glob(f"*/{derived.SUMS}") if path.parent.name not in digests)
    notes = [f"the witness does not know {name}" for name in unknown if not only or name == only]
    return (
        [f"{name} is missing or was never sealed, but the witness {place} knows it." for name in gone]
        + [f"{name} was replaced: the witness {place} knows another {derived.SUMS} for it." for name in other]
    ), notes


def _params(env: str) -> params.Params | None:
    """Return an environment's params, None if it has none here."""
    try:
        return params.load(env)
    except ParamsError:
        return None


def _roots(values: params.Params | None, files: Sequence[Path]) -> time_stamp.Roots:
    """Return the certificates in files; without a file, those of the authority in the environment's params."""
    if files:
        return [one for file in files for one in time_stamp.roots(file)]
    known = time_stamp.authority(values) if values else None
    return known.roots if known else []


def _client(values: params.Params | None) -> witness.S3Client:
    if values is None:
        raise ParamsError("No params of this environment say how to reach S3. Restore params/<env>.yml.")
    return witness.client(values)


def _key_notes(folder: Path, keys_at: Sequence[Path]) -> list[str]:
    """Return a note for each key that lies in a bundle."""
    return [BUNDLES_OWN.format(path) for path in keys_at if path.resolve().is_relative_to(folder)]
