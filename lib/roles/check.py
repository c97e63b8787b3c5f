"""A matrix against a mesh of somebody else: one request for each cell, with a token for each role."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import Field
from rich.box import SIMPLE_HEAD
from rich.table import Table

from lib import spreadsheet
from lib.errors import ParamsError
from lib.probes.targets.address import MeshAddress, read_settings, transport
from lib.probes.targets.remote import token_of
from lib.probes.transport.messages import Transport
from lib.record import verdicts
from lib.record.junit import TestCase, document
from lib.roles import proof
from lib.roles.matrix import NO_TOKEN, Cell, Matrix
from lib.roles.proof import Outcome

COLUMNS = ("caller", "method", "path", "expected", "actual", "got", "verdict", "tries", "latency_ms")


class CheckSettings(MeshAddress):
    """The options of the command, which are also the keys of its params file."""

    tokens: dict[str, str] = Field({}, description="for each role, and for `no role`, a command that prints a token")


def settings(given: dict, file: Path | None = None) -> CheckSettings:
    """Return the settings of the params file and of `given`, which wins; ParamsError if they are not valid."""
    return read_settings(CheckSettings, given, file, "docs/roles.md")


def plan(found: Matrix, given: CheckSettings) -> tuple[list[Cell], dict[str, str]]:
    """Return the cells that can be asked, and for each caller that cannot be asked the reason.

    Raises:
        ParamsError: a token is given for a name that is no column of the matrix, or no cell can be asked.
    """
    if unknown := sorted(set(given.tokens) - set(found.callers)):
        raise ParamsError(f"expected tokens for {', '.join(found.callers)}, got one for {unknown[0]}; correct --token.")
    left = {name: "no --token is given for it" for name in found.callers if name not in (NO_TOKEN, *given.tokens)}
    prefix = urlsplit(given.url).path.rstrip("/")
    cells = [cell for cell in found.moved("", prefix).cells() if cell.caller not in left]
    if not cells:
        raise ParamsError(
            "expected a token for at least one column of the matrix, got none; give --token NAME=COMMAND."
        )
    if len(cells) > given.budget:
        raise ParamsError(f"expected a budget of {len(cells)} requests, got {given.budget}; raise --budget.")
    return cells, left


def ask(
    cells: Sequence[Cell],
    given: CheckSettings,
    command: Callable[[str], str] = token_of,
    send: Transport | None = None,
) -> list[Outcome]:
    """Send one request for each cell, to the URL's host alone, within rate and budget.

    Raises:
        ParamsError: a command prints no token, or the certificate of the host cannot be trusted. Nothing was sent.
    """
    tokens = {name: command(line) for name, line in given.tokens.items()}
    return proof.ask(send or transport(given), cells, tokens.get, given.name)


def verdict(one: Outcome) -> str:
    """Return the verdict of an outcome: `error` if no server answered."""
    return verdicts.of(one.right, one.actual not in (proof.ALLOWED, proof.REFUSED))


def table(found: Matrix, outcomes: Sequence[Outcome]) -> Table:
    """Return the matrix as the mesh has it, for a terminal; a cell that differs has ✗ and the answer."""
    made = Table(box=SIMPLE_HEAD)
    for name in ("path", "method", *found.callers):
        made.add_column(name, overflow="fold")
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for one in outcomes:
        text = ("yes" if one.cell.may else "no") if one.right else f"[bold red]✗ {one.got}[/]"
        rows.setdefault((one.cell.path, one.cell.method), {})[one.cell.caller] = text
    for place, cells in rows.items():
        made.add_row(*place, *(cells.get(name, "[dim]–[/]") for name in found.callers))
    return made


def write_csv(outcomes: Sequence[Outcome], file: Path) -> None:
    """Write one row for each cell that was asked."""
    lines = (
        (*(one.cell.caller, one.cell.method, one.cell.path), one.expected, one.actual, one.got)
        + (verdict(one), one.tries, one.latency_ms)
        for one in outcomes
    )
    file.write_text(spreadsheet.text(COLUMNS, lines), encoding="utf-8")


def junit(outcomes: Sequence[Outcome]) -> str:
    """Return the outcomes as JUnit XML, one suite for each caller."""
    return document((_case(one) for one in outcomes), "roles")


def _case(one: Outcome) -> TestCase:
    message = "" if one.right else f"expected {one.expected}, got {one.got}"
    title = f"{one.cell.method} {one.cell.path}"
    return TestCase(one.cell.caller, "roles", title, one.latency_ms / 1000, verdict(one), message, message)
