"""A witness keeps the digest of each run outside of the runs' folder: a file, git notes, or objects in S3.

A run that goes, or that another run replaces, is noticed, also the newest one. The witness must stand where those who
can change the runs cannot change it: a bucket with object lock, a repository that refuses to rewrite notes, a file of
another user's or of another machine.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from lib import strict
from lib.aws import session as aws_session
from lib.bundle import archive
from lib.bundle.derived import SUMS
from lib.errors import BundleError
from lib.files import PUBLIC
from lib.params import ROOT, Params

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

S3, GIT = "s3://", "git:"
NOTES = "refs/notes/witness"
ENTRY = 4096  # bytes of one entry
MANY = 100_000  # entries that are read
LONGEST = 60  # seconds that git may take
QUIET = {"GIT_TERMINAL_PROMPT": "0"}
NO_COMMIT = (
    "4b825dc642cb6eb9a060e54bf8d69288fbee4904"  # git's empty tree: what the note of a run without a commit is about
)
AUTHOR = ("-c", "user.name=runbook", "-c", "user.email=runbook@localhost")

TIMES = {"connect_timeout": 5, "read_timeout": 20}  # seconds; a call that gets no answer is repeated six times

Client = Callable[[], "S3Client"]


def client(params: Params) -> S3Client:
    """Return an S3 client with the environment's region and credentials."""
    session = aws_session.session(params.region, params.aws_profile, params.aws_credentials_file)
    return aws_session.client(session, "s3", params.aws_endpoint_url, **TIMES)


def tell(place: str, folder: Path, run: dict, s3: Client) -> str:
    """Add a sealed run to the witness and return a sentence about it.

    Args:
        place: a file, s3://bucket/prefix, or git:repository, its path or URL. A relative path is
            relative to this project.
        folder: the bundle.
        run: the content of its run.json.
        s3: returns a boto3 client.

    Raises:
        BundleError: the witness cannot be written.
        AwsError: S3 refused the request.
    """
    entry = {"env": run["env"], "run": run["run"], "sha256": strict.digest(folder / SUMS), "finished": run["finished"]}
    line = json.dumps(entry) + "\n"
    if place.startswith(S3):
        with TemporaryDirectory() as scratch:
            file = Path(scratch) / f"{run['run']}.json"
            file.write_text(line, encoding="utf-8")
            target = f"{place.rstrip('/')}/{run['env']}"
            return f"Witness: {archive.upload(file, target, s3())}"
    if place.startswith(GIT):
        return _add_note(place.removeprefix(GIT), run["commit"], line)
    path = _path(place)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, PUBLIC)
        with open(descriptor, "w", encoding="utf-8") as lines:
            lines.write(line)
    except OSError as error:
        raise BundleError(f"The witness {path} cannot be written: {error}. Name another file in `witness`.") from None
    return f"Witness: {path} has the SHA-256 of this run's {SUMS}"


def known(place: str, env: str, s3: Client) -> dict[str, str]:
    """Return what a witness knows of an environment: the SHA-256 of each run's SHA256SUMS, by the run's name.

    The first entry about a run counts: a later one could be another run in its place.

    Raises:
        BundleError: the witness cannot be read.
        AwsError: S3 refused the request.
    """
    runs: dict[str, str] = {}
    for number, text in enumerate(_entries(place, env, s3)):
        if number >= MANY:
            raise BundleError(f"The witness {place} has more than {MANY} entries. Name another one in `witness`.")
        try:
            entry = strict.json_value(text)
            about, name, sha256 = entry["env"], entry["run"], entry["sha256"]
        except (ValueError, KeyError, TypeError):
            raise BundleError(
                f"Entry {number + 1} of the witness {place} is not readable. Look who changed it."
            ) from None
        if about == env and isinstance(name, str) and isinstance(sha256, str):
            runs.setdefault(name, sha256)
    return runs


def _entries(place: str, env: str, s3: Client) -> Iterable[str]:
    if place.startswith(S3):
        return _objects(place, env, s3())
    return _notes(place.removeprefix(GIT)) if place.startswith(GIT) else _lines(place)


def _add_note(remote: str, commit: str, line: str) -> str:
    """Add a line to the remote's note about a commit. The remote decides whether notes may be rewritten."""
    with TemporaryDirectory() as scratch:
        git = _fetched(remote, scratch)
        git(*AUTHOR, "notes", "--ref", NOTES, "append", "-m", line, commit or NO_COMMIT)
        git("push", "--quiet", "--", remote, NOTES)
    return f"Witness: a git note in {remote} has the SHA-256 of this run's {SUMS}"


def _notes(remote: str) -> list[str]:
    """Return each line that was ever added to a note, oldest first: git keeps a line that somebody took out later."""
    with TemporaryDirectory() as scratch:
        git = _fetched(remote, scratch)
        if not git("for-each-ref", NOTES):
            raise BundleError(f"{remote} has no {NOTES}, so it knows no run. Name another place in `witness`.")
        changes = git(
            "log", "--reverse", "--format=", "--patch", "--text", "--no-textconv", "--no-renames", NOTES, "--"
        )
    return [line[1:] for line in changes.split("\n") if line.startswith("+{")]


def _fetched(remote: str, scratch: str) -> Callable[..., str]:
    """Fetch a remote's notes into a new repository and return what runs git there."""
    git = partial(_git, scratch)
    git("init", "--quiet", "--bare")
    git("fetch", "--quiet", "--", remote, f"{NOTES}*:{NOTES}*")  # with `*`, no notes are no mistake
    return git


def _git(repository: str, *arguments: str) -> str:
    """Return what git prints, run in a repository; a path among the arguments is relative to this project."""
    command = ["git", f"--git-dir={repository}", *arguments]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=LONGEST, cwd=ROOT, env=os.environ | QUIET
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BundleError(f"The witness's git did not answer: {error}. Name another place in `witness`.") from None
    if done.returncode:
        reason = " ".join(done.stderr.split())[-ENTRY:]
        raise BundleError(f"The witness's git failed: {reason}. Look at the repository that `witness` names.")
    return done.stdout


def _path(place: str) -> Path:
    return ROOT / Path(place).expanduser()


def _lines(place: str) -> list[str]:
    try:
        return [line for line in strict.text(_path(place)).split("\n") if line]
    except ValueError as error:
        raise BundleError(
            f"The witness {_path(place)} cannot be read: {error}. Name another file in `witness`."
        ) from None


def _objects(place: str, env: str, s3: S3Client) -> Iterator[str]:
    """Yield the first version of each object: with object lock it stays, whatever came after it."""
    bucket, prefix = archive.bucket_and_key(place, env)
    with aws_session.aws_errors():
        oldest: dict[str, str] = {}
        pages = s3.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=f"{prefix}/")
        for version in (version for page in pages for version in page.get("Versions", [])):
            if len(oldest) > MANY:
                raise BundleError(f"The witness {place} has more than {MANY} entries. Name another one in `witness`.")
            oldest[version["Key"]] = version["VersionId"]  # S3 lists the versions of a key newest first
        for key, version_id in sorted(oldest.items()):
            body = s3.get_object(Bucket=bucket, Key=key, VersionId=version_id)["Body"]
            yield body.read(ENTRY).decode("utf-8", "replace")
