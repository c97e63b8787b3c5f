"""Who asks with which token, and what must come back: the two figures as tables.

Status and text are those of Istio today (1.22 and later). Where the article's Istio answered otherwise,
`ARTICLE` says how: a missing token was 401 then and is 403 now, since RequestAuthentication lets it pass and
AuthorizationPolicy refuses.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pandas as pd

from lib.http_client import Answer, Case, peer
from lib.polling import until
from lib.record import verdicts
from lib.run import Run
from lib.steps import callers, endpoints

WORKERS = 8  # cases asked at once
RBAC = "RBAC: access denied"

TOKENS = {
    "none": "no token at all",
    "valid": "what Keycloak gives to alice through the client istio",
    "tampered": "the valid one with one bit of its signature flipped",
    "garbage": "not a JWT",
    "unsigned": "the valid one's claims under alg none, with an empty signature (RFC 8725, 3.1)",
    "expired": "a real one from a client with a lifespan of one second, over a minute ago",
    "other realm": "a real one from another realm of the same Keycloak",
    "wrong audience": "a real one from a client without the audience mapper",
    "no subject": "a real one from a client without the scope basic, so without sub",
}

CALLERS = {
    "user": "outside, through the ingress gateway",
    "sleep": "the service sleep, in the mesh",
    "visitor": "another service in the mesh, with an identity of its own",
    "outsider": "a pod without a sidecar, so without mutual TLS",
}

_BAD_TOKENS = [
    ("tampered", 401, "Jwt verification fails"),
    ("garbage", 401, "Jwt is not in the form of Header.Payload.Signature"),
    ("unsigned", 401, "Jwt is not in the form of Header.Payload.Signature"),
    ("expired", 401, "Jwt is expired"),
    ("other realm", 401, "Jwt issuer is not configured"),
    ("wrong audience", 403, "Audiences in Jwt are not allowed"),
    ("no subject", 403, RBAC),
]

_COMMON = [
    ("user", "none", 403, RBAC),
    ("user", "valid", 200, ""),
    *(("user", token, status, text) for token, status, text in _BAD_TOKENS),
    ("sleep", "valid", 200, ""),
    ("sleep", "tampered", 401, "Jwt verification fails"),
    ("visitor", "none", 403, RBAC),
    ("outsider", "none", 0, "connection reset"),
    ("outsider", "valid", 0, "connection reset"),
]


def _cases(rows: list[tuple[str, str, int, str]]) -> list[Case]:
    return [Case(f"{caller}, {token}", caller, token, status, text) for caller, token, status, text in rows]


# What the article got: a token and mutual TLS, from everybody.
FIGURE_2 = _cases([*_COMMON, ("sleep", "none", 403, RBAC), ("visitor", "valid", 200, "")])

# What it wanted: users by token only, the service sleep by mutual TLS only.
FIGURE_1 = _cases([*_COMMON, ("sleep", "none", 200, ""), ("visitor", "valid", 403, RBAC)])

# How the article's Istio (1.4 and before, under Figure 2's Policy) answered, where that differs.
ARTICLE = {"user, none": 401, "sleep, none": 401, "visitor, none": 401}


def check_cases(run: Run, figure: str, workload: str, cases: list[Case], known: dict[str, str | None]) -> pd.DataFrame:
    """Ask every case until its answer holds (params.streak times in a row, fresh connections); return the table.

    Each 200 must also come from whom it should: httpbin tells the SPIFFE id that the last proxy vouched for.
    """
    ways = {name: callers.caller(run, name, workload) for name in CALLERS}
    ids = {"user": f"spiffe://{endpoints.gateway_principal(run)}"}
    ids |= {name: f"spiffe://{endpoints.principal(run, run.params.namespace, name)}" for name in ("sleep", "visitor")}

    limit = run.patience

    def one(case: Case) -> dict:
        return _settled(run, figure, case, ways[case.caller], known[case.token], ids.get(case.caller, ""), limit)

    with ThreadPoolExecutor(WORKERS) as pool:
        rows = list(pool.map(one, cases))
    columns = ["", "caller", "token", "expected", "got", "reason", "latency_ms", "seconds", "tries"]
    return pd.DataFrame([{"": verdicts.MARKS[row["verdict"]], **row} for row in rows], columns=columns)


def _settled(
    run: Run, figure: str, case: Case, caller: callers.Caller, token: str | None, identity: str, limit: float
) -> dict:
    fits = lambda got: _as_expected(case, got, identity)  # noqa: E731
    answer = until(lambda: caller(token), fits, streak=run.params.streak, deadline=limit)
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
    means = "" if answer.held else caller.why(token)
    verdict = verdicts.of(answer.held, bool(answer.error))
    actual, name = f"{got.status} {reason}".strip(), f"{figure}: {case.name}"
    check = run.keep(name, wanted, actual, verdict, answer.seconds, answer.tries, means, row)
    return {**check.row(), **row}


def _as_expected(case: Case, got: Answer, identity: str) -> bool:
    if got.status != case.expected:
        return False
    return peer(got) == identity if got.status == 200 else case.reason in (got.body or got.reason)
