"""The command `python -m lib.roles check FILE --url …`: a matrix of roles against any mesh.

Exit code 0: the mesh does what the matrix says; 1: a cell differs; 2: could not run, or no server answered.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from lib.errors import RunbookError
from lib.files import require_folders_of
from lib.probes.targets.address import add_options
from lib.record import verdicts
from lib.redact import clean
from lib.roles import check, matrix
from lib.roles.check import CheckSettings


def main(arguments: Sequence[str] | None = None, console: Console | None = None) -> int:
    """Run the command and return its exit code."""
    given = _parser().parse_args(arguments)
    try:
        return check_matrix(given, console or Console())
    except (RunbookError, OSError) as error:
        print(clean(str(error)), file=sys.stderr)
        return 2


def check_matrix(given: argparse.Namespace, console: Console) -> int:
    """Send a request for each cell, or print the requests of a dry run."""
    names = set(CheckSettings.model_fields)
    options = {name: value for name, value in vars(given).items() if name in names and value is not None}
    settings, found = check.settings(options, given.params), matrix.read(given.file)
    cells, left = check.plan(found, settings)
    for name, why in left.items():
        console.print(escape(f"The column {name!r} is not asked: {why}."), highlight=False)
    if given.dry_run:
        for cell in cells:
            expected = "allowed" if cell.may else "refused"
            console.print(escape(f"{cell.caller}: {cell.method} {cell.path}, expected {expected}"), highlight=False)
        console.print(f"{len(cells)} requests to {settings.address}; nothing was sent.", highlight=False)
        return 0
    require_folders_of(given.csv, given.junit)
    outcomes = check.ask(cells, settings)
    if given.csv:
        check.write_csv(outcomes, given.csv)
    if given.junit:
        given.junit.write_text(check.junit(outcomes))
    console.print(check.table(found, outcomes))
    return _summary(outcomes, console)


def _summary(outcomes: Sequence[check.Outcome], console: Console) -> int:
    results = [check.verdict(one) for one in outcomes]
    wrong = results.count(verdicts.FAIL)
    console.print(f"{len(outcomes)} cells, {wrong} differ.", highlight=False)
    if verdicts.ERROR in results:
        console.print(f"{results.count(verdicts.ERROR)} cells got no answer of an application.", style="bold red")
        return 2
    return 1 if wrong else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m lib.roles", description=(__doc__ or "").partition("\n")[0])
    made = parser.add_subparsers(required=True, metavar="COMMAND").add_parser("check", help=check_matrix.__doc__)
    made.add_argument("file", type=Path, metavar="FILE", help="the matrix, as notebooks/roles/matrix.csv")
    add_options(made, CheckSettings, "the token of a column of the matrix")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
