"""The commands of a standing proof: `python -m lib.watch put | prove | user-token`.

Exit code 0: all is proved; 1: a control is not, or a probe is red; 2: the command could not run.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lib.errors import RunbookError
from lib.files import require_folder
from lib.printable import printable_lines
from lib.redact import clean

if TYPE_CHECKING:
    from lib.run import Run

HOURS = 3  # the age at which a proof is stale: with a run each hour, two in a row may fail to prove it


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    args = _parser().parse_args(arguments)
    try:
        return args.command(args)
    except (RunbookError, OSError) as error:
        print(printable_lines(clean(str(error))), file=sys.stderr)
        return 2


def put(args: argparse.Namespace, given: Run | None = None, outputs: Path | None = None) -> int:
    """Put a watch into the cluster of an environment, and print each control's last proof; a test gives its own run."""
    import pandas as pd

    from lib import params
    from lib.record.events import Record
    from lib.run import Run
    from lib.runner.terminal import show_table
    from lib.watch import proofs, standing

    run, outputs = given or Run("watch", params.load(args.env), Record()), outputs or standing.OUTPUTS
    if args.off:
        standing.take_away(run)
        return 0
    require_folder(outputs / run.params.env)
    standing.put(run, args.image, args.schedule, args.stale_after)
    rows, note, files = standing.report(run, args.stale_after, outputs)
    show_table(pd.DataFrame(rows))
    print(printable_lines("\n".join([*filter(None, [note]), *map(os.path.relpath, files)])))
    return 0 if rows and all(row["state"] == proofs.PROVED for row in rows) else 1


def prove(args: argparse.Namespace) -> int:
    """Send the probes of a params file, and keep what they prove in the cluster: what the CronJob runs."""
    from lib.kubernetes.cluster import Cluster
    from lib.watch.prove import prove

    return prove(Cluster.existing(), args.params, args.stale_after)


def user_token(args: argparse.Namespace) -> int:
    """Print a token of the user whose Secret is mounted: the token command of the CronJob."""
    from lib.watch.user_token import user_token

    print(user_token(args.user, args.mesh))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m lib.watch", description=(__doc__ or "").partition("\n")[0])
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    one = commands.add_parser("put", help=put.__doc__)
    one.add_argument("--env", required=True, help="the name of a file in params/, without .yml")
    one.add_argument("--image", required=True, help="the image of the runbook: docs/image.md")
    one.add_argument("--schedule", default="17 * * * *", help="when, in cron's form, by UTC; by default each hour")
    one.add_argument("--off", action="store_true", help="take the watch away")
    other = commands.add_parser("prove", help=prove.__doc__)
    other.add_argument("--params", type=Path, required=True, help="the params file of the probes: docs/probes.md")
    for each in (one, other):
        each.add_argument("--stale-after", type=float, default=HOURS, metavar="HOURS", help="when a proof is stale")
    one.set_defaults(command=put)
    other.set_defaults(command=prove)
    last = commands.add_parser("user-token", help=user_token.__doc__)
    last.add_argument("--user", type=Path, default=Path("/user"), help="the folder with the Secret's keys as files")
    last.add_argument("--mesh", type=Path, default=Path("/mesh/mesh.yml"), help="the params file of the probes")
    last.set_defaults(command=user_token)
    return parser


if __name__ == "__main__":
    sys.exit(main())
