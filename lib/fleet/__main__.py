"""The commands of a fleet: `python -m lib.fleet put | gather | index`.

Exit code 0: each cluster is proved; 1: one is not; 2: the command could not run.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

from lib.errors import ParamsError, RunbookError
from lib.files import require_folder
from lib.printable import printable_lines
from lib.redact import clean

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    from lib.fleet.model import Fleet, Round
    from lib.params import Params
    from lib.run import Run


class Opened(NamedTuple):
    """What `put` and `gather` work on; a test gives its own.

    Attributes:
        fleet: The params of the fleet.
        run: The run of its control cluster.
        one: The round, with all clusters.
        s3: boto3's client for the bucket.
        folder: Where the page and the JSON of the round go.
    """

    fleet: Fleet
    run: Run
    one: Round
    s3: Any
    folder: Path


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    args = _parser().parse_args(arguments)
    try:
        return args.command(args)
    except (RunbookError, OSError) as error:
        print(" ".join(printable_lines(clean(str(error))).split("\n")), file=sys.stderr)
        return 2


def put(args: argparse.Namespace, given: Opened | None = None) -> int:
    """Ask the clusters of a fleet that have no bundle in this round, and print the fleet's matrix."""
    from lib.fleet import gather, standing

    opened = given or _opened(args)
    require_folder(opened.folder)
    fleet, run, one = opened.fleet, opened.run, opened.one
    bundles = gather.stored(opened.s3, one.place).get(one.round, {})
    left = [member for member in one.clusters if member.name not in bundles]
    key = standing.signer(run)
    if left:
        standing.start(run, fleet, one.model_copy(update={"clusters": left}), args.image)
        print(f"Round {one.round} of the fleet {fleet.name}: asking {len(left)} of {len(one.clusters)} clusters.")
        standing.wait_end(run.cluster, fleet.name)
    return _report(opened, key, args.since)


def report(args: argparse.Namespace, given: Opened | None = None) -> int:
    """Print the matrix of a round without asking a cluster."""
    from lib.bundle import signing_key
    from lib.fleet import standing

    opened = given or _opened(args)
    require_folder(opened.folder)
    key = signing_key.public_key(args.key) if args.key else standing.signer(opened.run, ensure=False)
    return _report(opened, key, args.since)


def index(args: argparse.Namespace, environment: Mapping[str, str] = os.environ) -> int:
    """Ask the cluster of this pod's index, and put its bundle into S3: what the Job runs."""
    from lib.aws import session as aws_session
    from lib.bundle import signing_key
    from lib.fleet import prove
    from lib.fleet.model import Round

    one = Round.model_validate_json(args.round.read_text())
    number = environment.get("JOB_COMPLETION_INDEX", "")
    if not number.isdecimal() or int(number) >= len(one.clusters):
        raise ParamsError(f"expected an index below {len(one.clusters)} in JOB_COMPLETION_INDEX, got {number!r}.")
    s3 = aws_session.client(aws_session.session(one.region), "s3", **prove.QUICK)
    with TemporaryDirectory() as scratch:
        key = signing_key.ensure_key(environment)
        ask = partial(prove.ask, one)
        print(prove.prove(one, one.clusters[int(number)], ask, s3, key, Path(scratch)))
    return 0


def _opened(args: argparse.Namespace) -> Opened:
    from lib import params
    from lib.bundle import time_stamp
    from lib.fleet import model
    from lib.record.events import Record
    from lib.run import Run

    fleet = model.load(args.fleet)
    values = params.load(fleet.control)

    clusters = model.members(fleet, partial(client, values, "eks"))
    one = model.round_of(fleet, args.round, clusters, time_stamp.authority(values))
    folder = params.ROOT / "outputs" / "fleet" / fleet.name
    return Opened(fleet, Run("fleet", values, Record()), one, client(values, "s3", fleet.region), folder)


def client(values: Params, service: str, region: str, role: str | None = None) -> Any:
    """Return boto3's client of a service by the AWS values of an environment, or for a role of another account."""
    from lib.aws import session as aws_session
    from lib.fleet.prove import QUICK, assumed

    session = aws_session.session(region, values.aws_profile, values.aws_credentials_file)
    if role:
        session = assumed(session, role, region, values.aws_endpoint_url)
    return aws_session.client(session, service, values.aws_endpoint_url, **QUICK)


def _report(opened: Opened, key: Ed25519PublicKey, since: str) -> int:
    """Gather a round, compare it with an earlier one, print the matrix, write the page; return the exit code."""
    import pandas as pd

    from lib.fleet import gather, reports, standing
    from lib.runner.terminal import show_table

    fleet, run, one, s3, folder = opened
    now, late = datetime.now(UTC), timedelta(hours=fleet.late_after)
    found = gather.stored(s3, one.place)
    known = standing.reasons(run.cluster, fleet.name, one.round)
    rows = gather.gather(one, found, s3, [key], late, now, known)
    before, previous = gather.before(one, found, s3, [key], now, since)
    changed = reports.changes(previous, rows) if before else []
    files = reports.write(folder, one, rows, before, changed, now)
    show_table(pd.DataFrame(reports.table(rows)))
    print("Lines of evidence: " + ", ".join(f"{name} {count}" for name, count in reports.evidence(rows).items()) + ".")
    for change in changed:
        print(printable_lines(f"{change['cluster']}: {change['what']}"))
    print("\n".join(map(os.path.relpath, files)))
    return 0 if all(row.state == gather.PROVED for row in rows) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m lib.fleet", description=(__doc__ or "").partition("\n")[0])
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    one = commands.add_parser("put", help=put.__doc__)
    one.add_argument("--image", required=True, help="the image of the runbook: docs/image.md")
    one.set_defaults(command=put)
    other = commands.add_parser("gather", help=report.__doc__)
    other.add_argument("--key", type=Path, metavar="FILE", help="who signs, as PEM; by default the Secret's key")
    other.set_defaults(command=report)
    for each in (one, other):
        each.add_argument("--fleet", type=Path, required=True, metavar="FILE", help="the params: docs/fleet.md")
        each.add_argument("--round", default=f"{datetime.now(UTC):%Y-%m-%d}", help="its name; by default the date")
        each.add_argument("--since", default="", metavar="ROUND", help="compare with this one, not with the one before")
    last = commands.add_parser("index", help=index.__doc__)
    last.add_argument("--round", type=Path, required=True, metavar="FILE", help="the file fleet.json of the ConfigMap")
    last.set_defaults(command=index)
    return parser


if __name__ == "__main__":
    sys.exit(main())
