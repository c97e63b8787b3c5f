"""Step 15's application: httpbin in a namespace of its own, with policies made from the matrix, proved cell by cell."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pandas as pd

from lib import diagnose
from lib.errors import ParamsError, RunbookError
from lib.names import ROLES
from lib.parallel import at_once
from lib.params import ROOT
from lib.probes import workloads
from lib.probes.tokens.kit import Kit
from lib.probes.transport.kept import over_kept_sockets
from lib.probes.transport.sockets import over_sockets
from lib.record import verdicts
from lib.roles import matrix, people, policies, proof
from lib.roles.matrix import NO_TOKEN, Cell, Matrix
from lib.roles.policies import Claim
from lib.roles.proof import Outcome
from lib.run import Run
from lib.steps import endpoints, gateway_tls

MATRIX = ROOT / "notebooks" / "roles" / "matrix.csv"
NAME = "roles"  # the application, and the world of its probes
BASE = "/anything"  # httpbin answers below this path whatever the method
EXPLAINED = 4  # wrong cells that get a diagnosis: each costs a second
MARKS = {True: "yes", False: "no"}


def read_matrix(file: Path = MATRIX) -> Matrix:
    """Return the matrix of the file.

    Raises:
        ParamsError: the file is no matrix, or Keycloak has no user for one of its roles.
    """
    found = matrix.read(file)
    if unknown := [role for role in found.roles if role not in people.USERS]:
        raise ParamsError(
            f"{file.name}: expected roles among {', '.join(people.GROUPS)}, got {unknown[0]}; "
            "correct the column, or add the role to GROUPS and USERS in lib/roles/people.py."
        )
    return found


def table(found: Matrix) -> pd.DataFrame:
    """Return the matrix as a table."""
    rows = [{"path": row.path, "method": row.method, **row.may} for row in found.rows]
    return pd.DataFrame(rows).replace(MARKS)


def objects(run: Run, name: str = NAME) -> list[dict]:
    """Return the namespace and the workload with its route and its RequestAuthentication."""
    tokens = {"issuer": endpoints.issuer(run), "jwks_uri": endpoints.jwks_uri(run)}
    first = run.load("namespace.yaml", namespace=ROLES)
    return [*first, *workload(run, name), *run.load("roles/application.yaml", name=name, **tokens)]


def workload(run: Run, name: str) -> list[dict]:
    """Return a copy of httpbin in the namespace, and its route."""
    return [
        *run.load("httpbin.yaml", name=name, namespace=ROLES),
        *gateway_tls.route(run, name, ROLES, [f"{name}.example"]),
    ]


def wait(run: Run, name: str = NAME) -> None:
    """Wait until the workload is ready."""
    run.cluster.wait_rolled_out("Deployment", name, ROLES, run.params.deadline)


def of_claim(found: Matrix, claim: Claim) -> Matrix:
    """Return the matrix as it counts with a claim: with the first at its own paths, with others below /by-<claim>."""
    return found if claim is people.CLAIMS[0] else found.moved(BASE, f"{BASE}/by-{claim.name}")


def authorization(run: Run, found: Matrix) -> list[dict]:
    """Return one AuthorizationPolicy for each claim, made from the matrix."""
    issuer = endpoints.issuer(run)
    return [
        policies.authorization(of_claim(found, claim), claim, issuer, f"{NAME}-{claim.name}", ROLES, NAME)
        for claim in people.CLAIMS
    ]


def prove(run: Run, found: Matrix, known: Kit, name: str = NAME) -> pd.DataFrame:
    """Send every cell of the matrix with every claim, and record each as a check; the first wrong ones say why.

    Args:
        run: The step's run.
        found: The matrix.
        known: Gives the token of each caller by its name.
        name: The workload.

    Returns:
        The matrix as the mesh has it: one row for each claim, path and method, one column for each caller. A cell that
        differs from the file has ✗ and the answer.
    """
    return record(run, known, ask(run, found, known, name), name)


def ask(run: Run, found: Matrix, known: Kit, name: str = NAME) -> list[list[Outcome]]:
    """Send every cell of the matrix, with every claim at once; return the outcomes of each claim. Record nothing."""
    there = workloads.location(run, name)
    held = {caller: known.token(caller) for caller in found.callers if caller != NO_TOKEN}
    send, patience = over_kept_sockets(there.address), run.patience
    matrices = [of_claim(found, claim).cells() for claim in people.CLAIMS]
    return at_once([partial(proof.ask, send, cells, held.get, there.host, patience) for cells in matrices])


def record(run: Run, known: Kit, outcomes: list[list[Outcome]], name: str = NAME) -> pd.DataFrame:
    """Record the outcomes of `ask` as checks; return the table as `prove` does."""
    host, rows, explained = workloads.location(run, name).host, [], 0
    for claim, of_the_claim in zip(people.CLAIMS, outcomes, strict=True):
        for one in of_the_claim:
            explained += not one.right
            token = None if one.cell.caller == NO_TOKEN else known.token(one.cell.caller)
            why = "" if one.right or explained > EXPLAINED else _why(run, one.cell, token, host)
            _keep(run, name, claim, one, why)
        rows += _rows(claim, of_the_claim)
    return pd.DataFrame(rows)


def answer(run: Run, caller: str, method: str, path: str, name: str = NAME) -> str:
    """Return the answer to one request of a caller of the matrix, as in `403 R`."""
    there = workloads.location(run, name)
    sent = None if caller == NO_TOKEN else people.token(run, caller)
    cell = Cell(caller, method, path, True)
    return proof.ask(over_sockets(there.address), [cell], lambda _: sent, there.host)[0].got


def _why(run: Run, cell: Cell, token: str | None, host: str) -> str:
    """Return who answered a cell's request, why, and what to change."""
    url = f"{endpoints.ingress_url(run)}{cell.path}"
    try:
        return diagnose.ask(run.cluster, url, token, host=host, method=cell.method).one_line()
    except RunbookError as error:
        return f"no diagnosis: {error}"


def _keep(run: Run, name: str, claim: Claim, one: Outcome, why: str) -> None:
    cell = one.cell
    title = f"{name}, roles by {claim.name}: {cell.caller}, {cell.method} {cell.path}"
    row = {
        "figure": name,
        "request": f"{cell.method} {cell.path}",
        "caller": "user",
        "token": cell.caller,
        "expected": one.expected,
        "got": one.actual,
        "status_line": one.got,
        "reason": why,
        "latency_ms": one.latency_ms,
    }
    run.keep(title, one.expected, one.actual, verdicts.of(one.right), 0.0, one.tries, why, row)


def _rows(claim: Claim, outcomes: list[Outcome]) -> list[dict]:
    rows: dict[tuple[str, str], dict] = {}
    for one in outcomes:
        key = one.cell.path, one.cell.method
        row = rows.setdefault(key, {"roles by": claim.name, "path": key[0], "method": key[1]})
        row[one.cell.caller] = MARKS[one.cell.may] if one.right else f"✗ {one.got}"
    return list(rows.values())
