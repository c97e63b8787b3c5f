#!/usr/bin/env python3
"""Checks a bundle of the runbook with Python 3.9 or later and nothing else: verify_bundle.py FOLDER --key FINGERPRINT.

It checks that the folder holds the files that were sealed and no other, that a key that you trust signed their list,
and that the runs beside it form a chain. Its sentences are those of `python -m lib verify`. That command also makes the
tables and pages again from the events, looks for secrets and asks a witness: NOT_DONE says so after each verification.
Take this file from the project's repository, never from whoever hands you the bundle: a verifier can be forged too.
Sources: RFC 8032, 5.1 and 6 (Ed25519); RFC 8410 (the key's form); DSSE v1.0; in-toto Statement v1.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import os
import re
import stat
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

SUMS, RUN, ENVELOPE, KEY, STAMP = "SHA256SUMS", "run.json", "provenance.dsse.json", "signer.pem", "provenance.tsr"
PAYLOAD, BEFORE = "application/vnd.in-toto+json", "previous run"
UNSUMMED = {SUMS, ENVELOPE, STAMP}  # SHA256SUMS does not list itself, nor the signed statement and its time stamp
FOLDERS = {"notebooks", "html", "events"}  # a run creates them at its start, so they may be empty
LARGEST, SMALL = 32 * 2**20, 4 * 2**20  # bytes of a file, of a file that is parsed
MANY = 20_000  # entries of a folder
KINDS = {stat.S_IFLNK: "a symbolic link", stat.S_IFDIR: "folder", stat.S_IFREG: "file"}
WRONG = (KeyError, TypeError, AttributeError, ValueError, IndexError)
P, ORDER = 2**255 - 19, 2**252 + 27742317777372353535851937790883648493  # RFC 8032, 5.1
D, ROOT = -121665 * pow(121666, P - 2, P) % P, pow(2, (P - 1) // 4, P)
BASE = (4 * pow(5, P - 2, P) % P).to_bytes(32, "little")
DER = bytes.fromhex("302a300506032b6570032100")  # what comes before the 32 bytes of a public key (RFC 8410)
NOT_DONE = (
    "Not done: making the tables, the counts, the verdict, the assessment and the pages again from the events and the "
    "notebooks; looking for secrets; asking a witness. `python -m lib verify` does these. Only the signer's word: who, "
    "when, the versions, and that the events show what happened."
)


def point(data: bytes) -> tuple:
    """Return the point of 32 bytes (RFC 8032, 5.1.3); raise ValueError if they are none."""
    y, sign = int.from_bytes(data, "little") % 2**255, data[31] >> 7
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    x = x if x * x % P == square else x * ROOT % P
    if y >= P or x * x % P != square or (x == 0 and sign):
        raise ValueError("no point of the curve")
    x = x if x % 2 == sign else P - x
    return x, y, 1, x * y % P


def add(one: tuple, other: tuple) -> tuple:
    """Return the sum of two points (RFC 8032, 5.1.4)."""
    a, b = (one[1] - one[0]) * (other[1] - other[0]) % P, (one[1] + one[0]) * (other[1] + other[0]) % P
    c, d = 2 * one[3] * other[3] * D % P, 2 * one[2] * other[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % P, g * h % P, f * g % P, e * h % P


def times(number: int, base: tuple) -> tuple:
    """Return a point multiplied by a number."""
    total = (0, 1, 1, 0)
    while number:
        total = add(total, base) if number & 1 else total
        base, number = add(base, base), number >> 1
    return total


@lru_cache(8)  # the newest statement is judged by itself, and again as a part of the chain
def signed(key: bytes, message: bytes, signature: bytes) -> bool:
    """Return whether an Ed25519 key signed a message (RFC 8032, 5.1.7, without the cofactor, as OpenSSL does)."""
    scalar = int.from_bytes(signature[32:], "little")
    if len(signature) != 64 or scalar >= ORDER:
        return False
    challenge = int.from_bytes(hashlib.sha512(signature[:32] + key + message).digest(), "little") % ORDER
    try:
        x, y, z, t = point(key)
    except ValueError:
        return False
    x, y, z, _ = add(times(scalar, point(BASE)), times(challenge, (P - x, y, z, P - t)))
    x, y = x * pow(z, P - 2, P) % P, y * pow(z, P - 2, P) % P
    return (y | (x & 1) << 255).to_bytes(32, "little") == signature[:32]


def content(path: Path, most: int = SMALL) -> bytes:
    """Return a file's bytes; raise ValueError if it is a link, no regular file, unreadable or larger than `most`."""
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
        with open(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode) or path.is_symlink():
                raise OSError("no regular file")
            data = file.read(most + 1)
    except OSError as error:
        raise ValueError(f"it is not readable ({type(error).__name__})") from None
    if len(data) > most:
        raise ValueError(f"it has more than {most} bytes")
    return data


def digest(path: Path) -> str:
    """Return a file's SHA-256, "" if `content` refuses it."""
    try:
        return hashlib.sha256(content(path, LARGEST)).hexdigest()
    except ValueError:
        return ""


def unique(pairs: list) -> dict:
    """Return a JSON object; raise ValueError if a key is there twice."""
    value = dict(pairs)
    if len(value) < len(pairs):
        raise ValueError("a key is there twice")
    return value


def parsed(text: str) -> Any:
    """Return the value of a JSON text; raise ValueError if two readers could read it in two ways."""
    try:
        value = json.loads(text, object_pairs_hook=unique)
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()  # no NaN, no half of a surrogate pair
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    return value


def entries(folder: Path, prefix: str = "") -> dict[str, str]:
    """Return the kind of each entry below a folder by its relative name. Links are not followed."""
    found = {}
    try:
        for entry in os.scandir(folder / prefix):
            kind, name = stat.S_IFMT(entry.stat(follow_symlinks=False).st_mode), prefix + entry.name
            found[name] = KINDS.get(kind, "a pipe, a socket or a device")
            if found[name] == "folder":
                found.update(entries(folder, f"{name}/"))
            if len(found) > MANY:
                return {**found, ".": f"a folder of more than {MANY} entries, where a run leaves about 100"}
    except (OSError, RecursionError) as error:
        found[prefix.rstrip("/") or "."] = f"a folder that cannot be listed ({type(error).__name__})"
    return found


def file_problems(folder: Path) -> list[str]:
    """Return a sentence for each difference between SHA256SUMS and the folder."""
    try:
        lines = content(folder / SUMS).decode().split("\n")
    except ValueError as error:
        return [f"{SUMS} is not readable: {error}."]
    matches = [re.fullmatch("([0-9a-f]{64})  ([^\n]+)", line) for line in lines[:-1]]
    names, sealed = [one[2] for one in matches if one], {one[2]: one[1] for one in reversed(matches) if one}
    late = "was added after the bundle was sealed"
    present = {name: kind for name, kind in entries(folder).items() if name not in UNSUMMED or kind != "file"}
    wanted = {name[: at.start()] for name in names for at in re.finditer("/", name)} | FOLDERS
    problems = []
    if lines[-1] or None in matches or names != sorted(set(names)):
        problems.append(f"{SUMS} is not as the runbook writes it: one line a file, sorted, each name once.")
    for name in sorted({*present, *sealed}):
        kind = present.get(name, "missing")
        if kind == "folder" and name not in wanted:
            problems.append(f"The folder {name} {late}.")
        if kind not in ("folder", "file", "missing"):
            problems.append(
                f"{name} is {kind}, where a file was sealed." * (name in sealed) or f"{name} {late}: {kind}."
            )
        elif name in sealed and kind != "file":
            problems.append(f"{name} is missing.")
        elif kind == "file" and name not in sealed:
            problems.append(f"{name} {late}.")
        elif kind == "file" and digest(folder / name) != sealed[name]:
            problems.append(f"{name} was changed after the bundle was sealed.")
    return problems


class Statement:
    """The signed statement of a bundle: the SHA-256 that it is about, its run, the run before, and its signatures."""

    def __init__(self, folder: Path) -> None:
        """Read the statement; raise one of WRONG if the file holds none."""
        text = content(folder / ENVELOPE).decode()
        envelope = parsed(text)
        kind, payload = envelope["payloadType"], base64.b64decode(envelope["payload"], validate=True)
        pairs = [(one["keyid"], base64.b64decode(one["sig"], validate=True)) for one in envelope["signatures"]]
        self.signatures = unique(pairs)
        self.message = b"DSSEv1 %d %b %d %b" % (len(kind.encode()), kind.encode(), len(payload), payload)
        statement = parsed(payload.decode())
        predicate, self.sha256 = statement["predicate"], statement["subject"][0]["digest"]["sha256"]
        self.run = predicate["runDetails"]["metadata"]["invocationId"]
        materials = predicate["buildDefinition"]["resolvedDependencies"]
        before = [one for one in materials if one["name"] == BEFORE and "uri" in one]
        self.previous = {"run": before[0]["uri"], "sha256": before[0]["digest"]["sha256"]} if before else None
        if not all(isinstance(one, str) for one in (self.sha256, self.run, *(self.previous or {}).values())):
            raise ValueError("the statement has other values than texts")
        signatures = [{"keyid": name, "sig": base64.b64encode(sig).decode()} for name, sig in pairs]
        written = {"payload": base64.b64encode(payload).decode(), "payloadType": kind, "signatures": signatures}
        self.extra = ""  # what nobody signed
        if kind != PAYLOAD:
            self.extra = f"its payloadType is {kind}, expected {PAYLOAD}"
        elif len(pairs) != 1:
            self.extra = f"it has {len(pairs)} signatures, expected one"
        elif text != json.dumps(written, indent=1) + "\n":
            self.extra = "it has fields or spaces that `sign` does not write, and that nobody signed"

    def signer(self, keys: list[bytes]) -> bytes | None:
        """Return the first of the keys that signed it, None if none did."""
        by = [(key, self.signatures.get(fingerprint(key), b"")) for key in keys]
        return next((key for key, signature in by if signed(key, self.message, signature)), None)


def fingerprint(key: bytes) -> str:
    """Return the SHA-256 of a public key's DER, as the project names keys."""
    return hashlib.sha256(DER + key).hexdigest()


def public_keys(path: Path) -> list[bytes]:
    """Return the 32 bytes of the Ed25519 public key in a PEM file in a list, [] if there is none."""
    try:
        pem = re.search("-----BEGIN PUBLIC KEY-----([^-]*)-----END PUBLIC KEY-----", content(path).decode())
        data = base64.b64decode("".join(pem[1].split()), validate=True) if pem else b""
    except ValueError:
        return []
    return [data[len(DER) :]] if data[: len(DER)] == DER and len(data) == len(DER) + 32 else []


def link(folder: Path, keys: list[bytes]) -> tuple[str, str, dict | None, bool]:
    """Return a run's state in the chain, its SHA-256, the run before it, and whether a trusted key signed it."""
    sums = digest(folder / SUMS)
    try:
        stated = Statement(folder)
    except WRONG:
        return "broken" if (folder / SUMS).exists() else "open", "", None, False
    trusted = stated.signer(keys) is not None
    if stated.run != folder.name or not (trusted or stated.signer(public_keys(folder / KEY))):
        return "broken", "", None, False
    state = "cut" if not sums else "sealed" if sums == stated.sha256 else "broken"
    return state, sums or stated.sha256, stated.previous, trusted


def chain(folder: Path, name: str, previous: dict | None, keys: list[bytes]) -> tuple[list[str], list[str]]:
    """Return the problems and notes of the runs beside a run: walk back to the first, look at those that name it."""
    beside = sorted(one for one in folder.parent.iterdir() if one.is_dir() and not one.is_symlink())
    known = {one.name: link(one, keys) for one in beside if not one.name.startswith(".")}
    runs = {key: one for key, one in known.items() if key != name and one[0] in ("sealed", "cut")}
    others = {key: before for key, (_, _, before, trusted) in runs.items() if trusted}
    problems, passed, by = list[str](), list[str](), "this run"
    notes = [] if runs else ["no other run is beside it, so a run that was removed would not be noticed"]
    while previous and not problems and not notes:
        at, before = previous["run"], f"{previous['run']}, the run before {'this one' if by == 'this run' else by},"
        state, sha256, older, trusted = known.get(at, ("removed", "", None, False))
        if at >= (passed[-1] if passed else name):
            problems.append(f"{by} names {at} as the run before it, which is not older.")
        elif state == "removed" and not any(one < at for one in others):
            notes.append(f"the runs up to {at}, which {by} names, are not here: old runs were pruned")
        elif state in ("removed", "open"):
            problems.append(f"{before} {'was removed' if state == 'removed' else 'has lost its seal'}.")
        elif state == "broken" or sha256 != previous["sha256"]:
            problems.append(f"{before} was replaced after {by} was sealed.")
        elif state == "cut":
            problems.append(f"{at} was sealed (its statement is there), but its {SUMS} was removed.")
        elif not trusted:
            notes.append(f"{at} is signed by a key that is not trusted, so the chain before it was not walked")
        passed, previous, by = [*passed, at], older, at
    if not problems and not notes:
        for stray in (one for one in others if one < name and one not in passed):
            newer = min((one for one in passed if one > stray), default="this run")
            older_run = max((one for one in passed if one < stray), default="")
            inserted = f"{stray} was inserted between {older_run} and {newer}."
            first = f"{newer} says that it is its environment's first run, but {stray} is older."
            problems.append(inserted if older_run else first)
    for key, other in others.items():
        if other and other["run"] == name and other["sha256"] != digest(folder / SUMS):
            problems.append(f"This run was replaced: {key}, the next run, names another {SUMS} for it.")
    return problems, notes


def signature_problems(folder: Path, stated: Statement, keys: list[bytes]) -> list[str]:
    """Return what is wrong with the signature, and whose it is if nobody trusts its key."""
    problems = [f"{ENVELOPE} is not as it was signed: {stated.extra}."] if stated.extra else []
    if digest(folder / SUMS) != stated.sha256:
        problems.append(f"{SUMS} was changed after it was signed: the files that it lists are not the signed files.")
    enclosed, names = public_keys(folder / KEY), ", ".join(fingerprint(one)[:16] for one in keys) or "none"
    if key := stated.signer(keys):
        pem = f"-----BEGIN PUBLIC KEY-----\n{base64.b64encode(DER + key).decode()}\n-----END PUBLIC KEY-----\n"
        if digest(folder / KEY) != hashlib.sha256(pem.encode()).hexdigest():
            problems.append(f"{KEY} is not the key that signed the bundle, which is {fingerprint(key)}.")
        return problems
    if not stated.signer(enclosed):
        return [*problems, f"The signature of {ENVELOPE} is not valid for any known key (trusted: {names})."]
    ask = "Ask the signer for the fingerprint, over another way than this bundle, and name it: --key FINGERPRINT."
    whose = f"The bundle is signed by {fingerprint(enclosed[0])}, which is not a trusted key (trusted: {names})."
    return [*problems, f"{whose} {ask}"]


def time_stamp(folder: Path, asked: dict | None) -> tuple[list[str], list[str]]:
    """Return what is wrong with the presence of a time stamp, and notes: its content needs more than Python has."""
    there = (folder / STAMP).is_file()
    if not asked or "missing" in asked:
        added = [f"{STAMP} was added after the bundle was sealed."] if there else []
        return added, [f"the time by an authority: {str(asked['missing']).rstrip('.')}"] if asked else []
    if not there:
        return [f"{STAMP} is missing."], []
    how = f"openssl ts -verify -data {ENVELOPE} -in {STAMP} -CAfile ROOT.pem (the root of an authority that you trust)"
    return [], [f"{STAMP}, the time stamp. OpenSSL checks it: {how}; openssl ts -reply -in {STAMP} -text has the time"]


def verify(folder: Path, keys: list[bytes]) -> tuple[list[str], list[str]]:
    """Return the problems of a bundle and notes on what was not checked. No input raises an exception."""
    folder, notes = folder.resolve(), list[str]()
    if (folder / SUMS).is_symlink() or not (folder / SUMS).is_file():
        return [f"There is no {SUMS} in {folder}: the bundle is incomplete."], []
    problems = file_problems(folder)
    try:
        stated = Statement(folder)
    except WRONG as error:
        word = f"{ENVELOPE} holds no signed statement ({type(error).__name__}: {error})."
        return [*problems, f"{word} Nobody vouches for this bundle."], []
    problems += signature_problems(folder, stated, keys)
    try:
        run = parsed(content(folder / RUN).decode())
        if (run["run"], run["previous"]) != (stated.run, stated.previous):
            problems.append(f"{ENVELOPE} and {RUN} state different facts.")
        if folder.name != run["run"]:
            taken = f"but the run in it is {run['run']}: another run took its place."
            problems.append(f"The folder is named {folder.name}, {taken}")
        undated, notes = time_stamp(folder, run.get("time_stamp"))
        problems += undated
        more, unlinked = chain(folder, run["run"], run["previous"], keys)
        problems, notes = problems + more, notes + unlinked
    except WRONG as error:
        problems.append(f"{RUN} is not readable: {error}.")
    except OSError as error:
        notes = [*notes, f"the folder of its runs cannot be listed ({type(error).__name__})"]
    return problems, notes


def main() -> int:
    """Print each problem of a bundle; return 0 without a problem, else 1."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="the bundle, unpacked; its folder keeps its name")
    trust = "the fingerprint (64 hex digits) or the PEM file of a signer that you trust, not from a bundle"
    parser.add_argument("--key", action="append", default=[], help=trust)
    args = parser.parse_args()
    keys = [key for one in args.key for key in public_keys(Path(one))]
    keys += [key for key in public_keys(args.folder / KEY) if fingerprint(key) in args.key]
    problems, notes = verify(args.folder, keys)
    signers = [] if problems else [key for key in keys if Statement(args.folder).signer([key])]
    word = f"complete and unchanged, signed by {fingerprint(signers[0])}" if signers else "not as it was sealed"
    for line in [
        *problems,
        *(f"(not checked: {note})" for note in notes),
        f"{args.folder.resolve().name}: {word}",
        NOT_DONE,
    ]:
        print(ascii(line)[1:-1])  # nothing that a terminal obeys
    return 0 if signers else 1


if __name__ == "__main__":
    sys.exit(main())
