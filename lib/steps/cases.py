"""The short tables of both figures: caller, token and expected answer, and the check that asks each case.

The answers are those of Istio 1.22 and later. ARTICLE has the answers of the article's Istio if they differ: a missing
token was 401 then. It is 403 now, because RequestAuthentication accepts it and AuthorizationPolicy refuses it.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import pandas as pd

from lib.http_client import Answer, peer
from lib.istio.answers import JWT, RBAC
from lib.polling import until
from lib.record import verdicts
from lib.run import Run
from lib.steps import callers, endpoints

WORKERS = 8  # cases asked at once
FORM = JWT["J1"].removesuffix(" with two dots and 3 sections")

TOKENS = {
    "none": "no token at all",
    "valid": "alice's token through the client istio",
    "tampered": "the valid token with one bit of its signature changed",
    "garbage": "not a JWT",
    "unsigned": "the valid token's claims under alg none, with an empty signature (RFC 8725, 3.1)",
    "expired": "a real token that lived for one second, over a minute ago",
    "other realm": "a real token of another realm of the same Keycloak",
    "wrong audience": "a real token of a client without the audience mapper",
    "no subject": "a real token of a client without the scope basic, so without sub",
}

CALLERS = {
    "user": "outside, through the ingress gateway",
    "sleep": "the service sleep, in the mesh",
    "visitor": "another service in the mesh, with its own identity",
    "outsider": "a pod without a sidecar, so without mutual TLS",
}

_BAD_TOKENS = [
    ("tampered", 401, JWT["J18"]),
    ("garbage", 401, FORM),
    ("unsigned", 401, FORM),
    ("expired", 401, JWT["J15"]),
    ("other realm", 401, JWT["J13"]),
    ("wrong audience", 403, JWT["J16"]),
    ("no subject", 403, RBAC),
]

_COMMON = [
    ("user", "none", 403, RBAC),
    ("user", "valid", 200, ""),
    *(("user", token, status, text) for token, status, text in _BAD_TOKENS),
    ("sleep", "valid", 200, ""),
    ("sleep", "tampered", 401, JWT["J18"]),
    ("visitor", "none", 403, RBAC),
    ("outsider", "none", 0, "connection reset"),
    ("outsider", "valid", 0, "connection reset"),
]


@dataclass(frozen=True)
class Case:
    """One row of a figure's table.

    Args:
        name: The name of its check, after the figure's name.
        caller: A key of CALLERS.
        token: A key of TOKENS.
        expected: The HTTP status; 0 is a connection that is reset before any HTTP.
        reason: A text that the answer's body or reason must contain; empty accepts any.
    """

    name: str
    caller: str
    token: str
    expected: int
    reason: str = ""


def _cases(rows: list[tuple[str, str, int, str]]) -> list[Case]:
    return [Case(f"{caller}, {token}", caller, token, status, text) for caller, token, status, text in rows]


# The article's result: a token and mutual TLS from everybody.
FIGURE_2 = _cases([*_COMMON, ("sleep", "none", 403, RBAC), ("visitor", "valid", 200, "")])

# The article's goal: users by token only, the service sleep by mutual TLS only.
FIGURE_1 = _cases([*_COMMON, ("sleep", "none", 200, ""), ("visitor", "valid", 403, RBAC)])

# The answers of the article's Istio (1.4 and before) under Figure 2's Policy, if they differ.
ARTICLE = {"user, none": 401, "sleep, none": 401, "visitor, none": 401}


def check_cases(run: Run, figure: str, workload: str, cases: list[Case], known: dict[str, str | None]) -> pd.DataFrame:
    """Ask every case until its answer holds, record a check for each, and return them as a table.

    An answer holds if it comes `params.streak` times in a row, each on a new connection. A 200 must also come from the
    expected peer: httpbin echoes the SPIFFE id that its sidecar verified.

    Args:
        run: The step's run.
        figure: The figure's name, which the checks' names begin with.
        workload: The workload that gets the requests.
        cases: FIGURE_1 or FIGURE_2.
        known: The tokens by name (tokens.test_tokens).
    """
    askers = {name: callers.caller(run, name, workload) for name in CALLERS}
    ids = {"user": f"spiffe://{endpoints.gateway_principal(run)}"}
    ids |= {name: f"spiffe://{endpoints.principal(run, run.params.namespace, name)}" for name in ("sleep", "visitor")}

    limit, missing = run.patience, run.params.missing_token

    def one(case: Case) -> dict:
        return _check(run, figure, case, askers[case.caller], known[case.token], ids.get(case.caller, ""), limit)

    with ThreadPoolExecutor(WORKERS) as pool:
        rows = list(pool.map(one, [with_answer(case, missing) for case in cases]))
    columns = ["", "caller", "token", "expected", "got", "reason", "latency_ms", "seconds", "tries"]
    return pd.DataFrame([{"": verdicts.MARKS[row["verdict"]], **row} for row in rows], columns=columns)


def with_answer(case: Case, missing: int) -> Case:
    """Return the case of a user without a token with the answer that the params ask for; other cases unchanged."""
    return replace(case, expected=missing) if (case.caller, case.token) == ("user", "none") else case


def changed_since_article(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of a table of check_cases that the article's Istio answered otherwise, with its answer."""
    answers = (table["caller"] + ", " + table["token"]).map(ARTICLE).dropna().astype(int)
    return table.loc[answers.index].assign(article=answers)[["caller", "token", "article", "got"]]


def side_by_side(figure_2: pd.DataFrame, figure_1: pd.DataFrame) -> pd.DataFrame:
    """Return the statuses of both figures by caller and token; ◀ marks the rows that differ."""
    both = figure_2.merge(figure_1, on=["caller", "token"], suffixes=(" figure 2", " figure 1"))
    both = both[["caller", "token", "got figure 2", "got figure 1"]].sort_values(["caller", "token"])
    return both.assign(differs=both["got figure 2"].ne(both["got figure 1"]).map({True: "◀", False: ""}))


def _check(
    run: Run, figure: str, case: Case, caller: callers.Caller, token: str | None, identity: str, limit: float
) -> dict:
    answer = until(
        lambda: caller(token),
        lambda got: _as_expected(case, got, identity),
        streak=run.params.streak,
        deadline=limit,
        hopeless=lambda: caller.hopeless(token, case.expected),
    )
    got = answer.value or Answer(0, answer.error, 0.0)
    reason = peer(got) if got.status == 200 else got.reason
    row = {
        "figure": figure,
        "request": "GET /headers",
        "caller": case.caller,
        "token": case.token,
        "expected": case.expected,
        "got": got.status,
        "reason": reason,
        "latency_ms": got.latency_ms,
    }
    wanted = f"{case.expected} {case.reason or identity}".strip()
    diagnosis = "" if answer.held else caller.why(token)
    verdict = verdicts.of(answer.held, bool(answer.error))
    actual, name = f"{got.status} {reason}".strip(), f"{figure}: {case.name}"
    check = run.keep(name, wanted, actual, verdict, answer.seconds, answer.tries, diagnosis, row)
    return {**check.row(), **row}


def _as_expected(case: Case, got: Answer, identity: str) -> bool:
    if got.status != case.expected:
        return False
    return peer(got) == identity if got.status == 200 else case.reason in (got.body or got.reason)
