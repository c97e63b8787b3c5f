"""The commands: `python -m lib.probes --url …` probes a mesh, `python -m lib.probes baseline …` records a baseline.

Exit code 0: all as expected; 1: a probe is red, or a baseline differs; 2: could not run.
"""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from lib.errors import RunbookError
from lib.files import require_folders_of
from lib.probes import model
from lib.probes.model import Probe
from lib.probes.reporting import baselines, results, tables
from lib.probes.reporting.results import Result
from lib.probes.scenarios import waiting
from lib.probes.targets import address, remote
from lib.probes.transport.messages import Request
from lib.redact import clean


def main(arguments: Sequence[str] | None = None, console: Console | None = None) -> int:
    """Run one command and return its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    shown = console or Console()
    try:
        return record_baseline(given[1:], shown) if given[:1] == ["baseline"] else probe_mesh(given, shown)
    except (RunbookError, OSError) as error:
        print(clean(str(error)), file=sys.stderr)
        return 2


def probe_mesh(arguments: Sequence[str], console: Console) -> int:
    """Send the probes to a mesh, or print the requests of a dry run."""
    given = _mesh_parser().parse_args(arguments)
    names = set(remote.RemoteSettings.model_fields)
    options = {name: value for name, value in vars(given).items() if name in names and value is not None}
    settings = remote.settings(options, given.params)
    if given.dry_run:
        plan, left, _ = remote.prepared(settings)
        return _print_plan(plan, left, settings, console)
    require_folders_of(given.csv, given.junit)
    found = remote.ask_all(settings)
    code = _print_results(found, console)  # first: it needs no disk
    _write(found, given.csv, given.junit)
    return code


def record_baseline(arguments: Sequence[str], console: Console) -> int:
    """Record the answers of measured probes as the baseline of three versions."""
    given = _baseline_parser().parse_args(arguments)
    name = baselines.triple(given.istio, given.envoy, given.keycloak)
    every = [*model.load(), *model.load(waiting.FOLDER), *model.load(model.ROLES)]
    ids = {probe.id for probe in every if probe.measured}
    answers = baselines.measured(results.read(given.results), ids)
    changed = baselines.record(name, answers, given.file, given.accept)
    for line in changed:
        console.print(escape(line))
    if changed and not given.accept:
        console.print(f"{len(changed)} answers differ from the baseline of {name}; nothing was written (--accept).")
        return 1
    console.print(f"{sum(map(len, answers.values()))} answers of {len(answers)} probes are the baseline of {name}.")
    return 0


def _print_plan(
    plan: list[tuple[Probe, Request]], left: list[Result], settings: remote.RemoteSettings, console: Console
) -> int:
    console.print(f"To {settings.address}, {settings.rate:g} a second at most; nothing is sent now.", highlight=False)
    for probe, request in plan:
        console.print(escape(f"{probe.id} {probe.title}: expected {probe.expected(settings.profile)}"), highlight=False)
        console.print(escape(textwrap.indent(request.text, "    ")), highlight=False, style="dim")
    console.print(escape(f"{len(plan)} requests; {len(left)} probes are not asked:"), highlight=False)
    for one in left:
        console.print(escape(f"{one.id} {one.note}"), highlight=False)
    return 0


def _write(found: list[Result], csv: Path | None, junit: Path | None) -> None:
    if csv:
        results.write(found, csv)
    if junit:
        junit.write_text(tables.junit(found))


def _print_results(found: list[Result], console: Console) -> int:
    console.print(tables.table(found))
    for one in found:
        if one.finding and one.got:
            console.print(escape(f"{one.id}: {one.finding} Closed by: {one.closed_by}"), highlight=False)
    console.print(tables.summary(found), highlight=False)
    asked = [one for one in found if one.got]
    if not any(one.status_line for one in asked):
        console.print("Nothing answered by HTTP, so nothing is proven; see the column got.", style="bold red")
        return 2
    return 1 if tables.red(found) else 0


def _mesh_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m lib.probes", description=(__doc__ or "").partition("\n")[0])
    address.add_options(parser, remote.RemoteSettings, "a further token, by name")
    return parser


def _baseline_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m lib.probes baseline")
    parser.add_argument("results", type=Path, metavar="CSV", help="results of --csv, or a bundle's responses.csv")
    for name in ("istio", "envoy", "keycloak"):
        parser.add_argument(f"--{name}", required=True, metavar="VERSION")
    parser.add_argument("--file", type=Path, default=baselines.FILE, help="the baselines' file")
    parser.add_argument("--accept", action="store_true", help="write what differs too")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
