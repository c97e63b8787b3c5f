"""Gathers a round: lists the bundles in S3, verifies each, and makes a row for each cluster. It trusts no text.

One listing returns the objects of all rounds, a thousand a call, and each bundle costs one GetObject.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pydantic import BaseModel, ConfigDict

from lib.aws import session as aws_session
from lib.bundle import archive, seal
from lib.bundle.verify import verify
from lib.errors import BundleError, ParamsError, RunbookError
from lib.fleet.model import NAME, ROUND, Member, Round
from lib.fleet.prove import STEP, params
from lib.parallel import at_once
from lib.printable import printable
from lib.probes.reporting import results
from lib.record.event_shape import is_time
from lib.record.verdicts import PASS
from lib.watch.proofs import Proofs

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

LARGEST = 8 * 2**20  # bytes of a packed bundle; one of the probes has some 300 KB
SKEW = timedelta(hours=1)  # between the clock of a pod and S3's; a larger one is a note
UNTRUSTED, RED, LATE, MISSING, PROVED = STATES = ("not trusted", "red", "late", "missing", "proved")  # worst first
KEY = re.compile(rf"(?P<round>{ROUND})/(?P<name>{NAME})\.zip")


@dataclass(frozen=True)
class Stored:
    """A bundle in S3: its key, its size in bytes, and when S3 took it."""

    key: str
    size: int
    at: datetime


Bundles = Mapping[str, Mapping[str, Stored]]  # by round and cluster


class Row(BaseModel):
    """A cluster in a round. `at` is when S3 took its newest bundle of any round; `note` says what is wrong."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    region: str
    state: str
    at: datetime | None = None
    note: str = ""
    proofs: Proofs = Proofs()

    @property
    def red(self) -> list[str]:
        """The red probes, by their ids."""
        return sorted({id for proof in self.proofs.controls.values() for id in proof.red})


def stored(s3: S3Client, place: str) -> dict[str, dict[str, Stored]]:
    """Return the bundles below s3://bucket/prefix, by round and cluster; an object with another name is left out."""
    name, key = archive.bucket_and_key(place, "x")
    prefix = key[:-1]
    found: dict[str, dict[str, Stored]] = {}
    with aws_session.aws_errors():
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=name, Prefix=prefix):
            for one in page.get("Contents", []):
                if match := KEY.fullmatch(one["Key"].removeprefix(prefix)):
                    bundle = Stored(one["Key"], one["Size"], one["LastModified"])
                    found.setdefault(match["round"], {})[match["name"]] = bundle
    return found


def gather(
    one: Round,
    found: Bundles,
    s3: S3Client,
    trusted: Sequence[Ed25519PublicKey],
    late_after: timedelta,
    now: datetime,
    reasons: Mapping[str, str],
) -> list[Row]:
    """Return a row for each cluster of a round, worst first.

    Args:
        one: The round, with all clusters of the fleet.
        found: What `stored` returns.
        s3: boto3's client for the bucket.
        trusted: The keys that sign the fleet's bundles.
        late_after: The age from which a cluster's newest bundle is late, by S3's clock.
        now: The time.
        reasons: By cluster, why it left no bundle.
    """
    of_round = found.get(one.round, {})
    jobs = [partial(_row, one, member, of_round.get(member.name), s3, trusted) for member in one.clusters]
    rows = [_dated(row, found, now, late_after, reasons) for row in at_once(jobs)]
    return sorted(rows, key=lambda row: (STATES.index(row.state), -len(row.red), row.name))


def before(
    one: Round, found: Bundles, s3: S3Client, trusted: Sequence[Ed25519PublicKey], now: datetime, since: str = ""
) -> tuple[str, list[Row]]:
    """Return the name of the round `since`, by default the round before, and its rows; "" if there is none.

    The other arguments are those of `gather`. A cluster without a bundle in this round or an earlier one has no row.
    A cluster that left the fleet has a row without a state.

    Raises:
        ParamsError: No bundle is of the round `since`, or that round is no earlier one.
    """
    earlier = [round for round in found if round < one.round and round <= (since or one.round)]
    if since and since not in earlier:
        rounds = ", ".join(sorted(round for round in found if round < one.round)[-10:]) or "none"
        raise ParamsError(f"expected a round before {one.round} to compare with, got {since}; the last are {rounds}.")
    if not earlier:
        return "", []
    known = {name for round in earlier for name in found[round]}
    members = [member for member in one.clusters if member.name in known]
    last = one.model_copy(update={"round": max(earlier), "clusters": members})
    rows = gather(last, found, s3, trusted, timedelta.max, now, {})
    left = {*found[last.round]} - {member.name for member in one.clusters}
    return last.round, [*rows, *(Row(name=name, region="", state="") for name in left)]


def _row(one: Round, member: Member, place: Stored | None, s3: S3Client, trusted: Sequence[Ed25519PublicKey]) -> Row:
    """Return a cluster's row by its bundle in this round."""
    row = partial(Row, name=member.name, region=member.region)
    if not place:
        return row(state=MISSING)
    try:
        proofs, note = _proofs(one, member, place, s3, trusted)
    except BundleError as error:
        return row(state=UNTRUSTED, note=printable(error))
    except RunbookError as error:
        return row(state=MISSING, note=printable(f"its bundle could not be read: {error}"))
    return row(state=PROVED if proofs.runs[-1].verdict == PASS else RED, note=note, proofs=proofs)


def _dated(row: Row, found: Bundles, now: datetime, late_after: timedelta, reasons: Mapping[str, str]) -> Row:
    """Return the row with the time of its cluster's newest bundle, late if that is old, and why this round has none."""
    at = max((of_round[row.name].at for of_round in found.values() if row.name in of_round), default=None)
    late = row.state in (MISSING, PROVED) and (not at or now - at > late_after)
    none = row.state == MISSING and not row.note
    note = reasons.get(row.name, "it left no bundle in this round") if none else row.note
    return row.model_copy(update={"at": at, "note": note, **({"state": LATE} if late else {})})


def _proofs(
    one: Round, member: Member, place: Stored, s3: S3Client, trusted: Sequence[Ed25519PublicKey]
) -> tuple[Proofs, str]:
    """Download and verify a bundle; return what it proves, and a note on its time.

    Raises:
        BundleError: The bundle is not one that this fleet's key signed for this cluster and this round.
        AwsError: S3 refuses the download.
    """
    with TemporaryDirectory() as scratch:
        file = Path(scratch) / f"{member.name}.zip"
        _download(s3, one.bucket, place, file)
        folder = archive.unpack(file, Path(scratch) / "bundle")
        file.unlink()
        verified = verify(folder, trusted, alone=True, roots=one.authority.roots if one.authority else ())
        if verified.problems:
            raise BundleError(verified.problems[0])
        run = seal.read_run(folder)
        expected = (member.name, params(one, member), [STEP])
        if (run["env"], run["params"], [step["step"] for step in run["steps"]]) != expected:
            raise BundleError(f"The bundle is of {run['env']} and {run['params']}, not of this cluster and round.")
        found = results.read(folder / "responses.csv")  # `verify` has parsed it already
    if not any(one.got for one in found) or not is_time(run["finished"]):
        raise BundleError("The bundle has no answer of a probe.")
    at = datetime.fromisoformat(run["finished"])
    skew = abs(at - place.at)
    clock = f"its clock and S3's differ by {skew.total_seconds() / 3600:.1f} hours" if skew > SKEW else ""
    missing = run.get("time_stamp", {}).get("missing", "" if "time_stamp" in run else "its index asked for none")
    stamp = printable(f"no time stamp: {missing}") if one.authority and missing else ""
    return Proofs().after(found, at), "; ".join(filter(None, (clock, stamp)))


def _download(s3: S3Client, address: str, place: Stored, file: Path) -> None:
    """Write an object of S3 into a file; raise BundleError if it is too large, by the listing or in fact."""
    bucket, _ = archive.bucket_and_key(address, "x")
    data, size = b"", place.size
    if size <= LARGEST:
        with aws_session.aws_errors():
            data = s3.get_object(Bucket=bucket, Key=place.key)["Body"].read(LARGEST + 1)
        size = len(data)
    if size > LARGEST:
        raise BundleError(f"The bundle has more than {LARGEST} bytes.")
    file.write_bytes(data)
