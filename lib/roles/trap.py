"""The trap: Envoy asks a CUSTOM authorizer before its JWT filter, with a token that nobody has verified."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pandas as pd

from lib.probes import workloads
from lib.probes.tokens.kit import Kit
from lib.probes.transport.curl import over_curl
from lib.probes.transport.sockets import over_sockets
from lib.record import verdicts
from lib.roles import engines, proof
from lib.roles.matrix import Cell
from lib.roles.proof import Outcome
from lib.run import Run
from lib.steps import callers

PATH = "/anything/admin/7"  # only an admin may
# request: the token's name, the scheme before it, and whether the request should pass
REQUESTS = {
    "the admin's token": ("admin", "Bearer", True),
    "the reader's token": ("reader", "Bearer", False),
    "admin written into the reader's token": ("role written in", "Bearer", False),
    "all roles, signed by a key of nobody": ("role by a foreign key", "Bearer", False),
    "the same, with the scheme bearer in small letters": ("role by a foreign key", "bearer", False),
}
FORGED = tuple(REQUESTS)[2:]
SETUPS = {
    engines.DECODE: "the policy only decodes",
    engines.WORKLOADS["opa"]: "1: the policy verifies the token with the realm's keys",
    engines.WORKLOADS["cel"]: "2: the authorizer is asked after the JWT filter",
    engines.RULE: "3: the policy only decodes, and a rule of the mesh demands a verified principal",
}


def prove(run: Run, known: Kit) -> pd.DataFrame:
    """Send genuine and forged tokens to each set-up, from outside and from inside the mesh; record each as a check.

    Returns:
        One row for each request and caller, one column for each set-up.
    """
    if not engines.authorizers(run):
        return pd.DataFrame()
    inside = callers.executors(run)["sleep"]
    places = [(name, caller) for name in SETUPS for caller in ("outside", "inside")]
    with ThreadPoolExecutor(len(places)) as pool:
        answers = list(pool.map(lambda place: _ask(run, known, place[0], place[1], inside), places))
    rows: dict[tuple[str, str], dict] = {}
    for (name, caller), outcomes in zip(places, answers, strict=True):
        for one in outcomes:
            row = rows.setdefault((one.cell.caller, caller), {"request": one.cell.caller, "from": caller})
            row[name] = f"{one.actual} ({one.got})"
            hole = "the hole: " if name == engines.DECODE and one.cell.caller in FORGED else ""
            title = f"{hole}{name}, from {caller}: {one.cell.caller}"
            run.keep(title, one.expected, one.actual, verdicts.of(one.right), tries=one.tries, reason=SETUPS[name])
    return pd.DataFrame(rows.values())


def _ask(run: Run, known: Kit, name: str, caller: str, inside: callers.Execute) -> list[Outcome]:
    there = workloads.location(run, name)
    send = over_sockets(there.address) if caller == "outside" else over_curl(inside, there.url)
    host = there.host if caller == "outside" else urlsplit(there.url).netloc
    lets_in = lambda title, may: may or (name == engines.DECODE and title in FORGED)  # noqa: E731
    cells = [Cell(title, "GET", PATH, lets_in(title, may)) for title, (*_, may) in REQUESTS.items()]
    token = lambda title: known.token(REQUESTS[title][0])  # noqa: E731
    scheme = lambda title: REQUESTS[title][1]  # noqa: E731
    return proof.ask(send, cells, token, host, run.patience, scheme=scheme)
