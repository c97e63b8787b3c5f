"""A result is a probe with its answer: what was expected, what came, who said it, and whether that is well."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from lib.istio import answers
from lib.istio.access_log import APPLICATION, Trail
from lib.probes.model import FIGURE_2, Probe
from lib.probes.transport.messages import Reply
from lib.record.verdicts import ERROR, FAIL, PASS, SKIPPED
from lib.redact import clean

UNMEASURED = "unmeasured"  # besides the five: a measured probe, and nothing to compare its answer with
REASON = 120  # characters of a refusal's body that are kept
UPGRADED = "101 app"
READ = 4096  # characters of it that are cleaned before


@dataclass(frozen=True)
class Result:
    """One probe under one profile. `profile` is a world's name where the probe has one, `token` the token's name.

    `got` is the answer in short (lib.probes.answers), `reason` the beginning of a refusal's body; `details`, `flags`
    and `hop` are from the access log, "" where it was not read. `latency_ms` is the last request's, in milliseconds.
    """

    id: str
    title: str
    family: str
    profile: str
    caller: str
    request: str
    token: str
    expected: str
    got: str = ""
    status_line: str = ""
    reason: str = ""
    details: str = ""
    flags: str = ""
    hop: str = ""
    latency_ms: float = 0.0
    tries: int = 0
    verdict: str = SKIPPED
    note: str = ""
    finding: str = ""
    closed_by: str = ""
    source: str = ""

    @property
    def passed_through(self) -> bool:
        """Whether the application was reached."""
        return self.got.endswith(" app")

    @property
    def last(self) -> tuple[str, str]:
        """Status and code of the answer, of a sequence the last one's; "" and "" where there is none."""
        status, _, code = self.got.rpartition(", ")[2].partition(" ")
        return status, code


def judge(
    probe: Probe,
    profile: str,
    got: str | Sequence[str],
    reply: Reply | None = None,
    trails: Sequence[Trail] = (),
    baseline: str = "",
    tries: int = 1,
    secrets: Iterable[str] = (),
) -> Result:
    """Return the result of a probe that was asked. `got` is its answer, of a sequence its answers.

    `trails` are what the access log told of its requests, none where it was not read. A measured probe is compared
    with its `baseline`; without one it is unmeasured. Known `secrets` are masked, besides what looks like a token.
    """
    answered = _refined([got] if isinstance(got, str) else got, trails)
    wanted = expected(probe, profile, baseline)
    faults = [*_off(answered, wanted), *_told(answered, trails), *_seen(probe, reply)]
    unmeasured = probe.measured and not baseline
    if unmeasured:
        faults = [f"no baseline for {probe.id} under {profile}; predicted was {wanted}", *_told(answered, trails)]
    last = _last(trails)
    return Result(
        **_about(probe, profile),
        expected=wanted,
        got=answered,
        status_line=clean(reply.line, secrets)[:REASON] if reply else "",
        reason=_reason(reply, secrets),
        details=", ".join(_last([trail]).details for trail in trails if _last([trail])),
        flags=last.flags if last else "",
        hop=_hop(answered, trails),
        latency_ms=reply.latency_ms if reply else 0.0,
        tries=tries,
        verdict=UNMEASURED if unmeasured else FAIL if faults else PASS,
        note="; ".join([*faults, *(trail.mismatch for trail in trails if trail.mismatch)]),
    )


def skipped(probe: Probe, profile: str, why: str) -> Result:
    """Return the result of a probe that was not asked, with the reason as its note."""
    return Result(**_about(probe, profile), expected=probe.expected(profile), verdict=SKIPPED, note=why)


def failed(probe: Probe, profile: str, why: str, secrets: Iterable[str] = ()) -> Result:
    """Return the result of a probe that could not be asked though it should have been: an error, with the reason."""
    return Result(**_about(probe, profile), expected=probe.expected(profile), verdict=ERROR, note=clean(why, secrets))


def expected(probe: Probe, profile: str, baseline: str = "") -> str:
    """Return what a probe is compared with: of a measured one its baseline if there is any, else the prediction."""
    return baseline if probe.measured and baseline else probe.expected(profile)


def write(results: Iterable[Result], path: Path) -> None:
    """Write the results as CSV, one a row, with a head of the fields' names."""
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, [field.name for field in fields(Result)])
        table.writeheader()
        table.writerows(asdict(result) for result in results)


def read(path: Path) -> list[Result]:
    """Return the results of a CSV file of `write`, or of a bundle's responses.csv; ValueError where it is neither."""
    with path.open(newline="") as file:
        rows = csv.DictReader(file)
        names = [field.name for field in fields(Result)]
        if {"probe", "figure"} <= set(rows.fieldnames or ()):
            return [from_row(row) for row in rows if row["probe"]]
        if rows.fieldnames != names:
            raise ValueError(f"expected the columns {', '.join(names)}, got {rows.fieldnames}; take a CSV of results.")
        return [_result(row) for row in rows]


def from_row(row: dict) -> Result:
    """Return the result in a row of a bundle's responses, which calls some of its fields otherwise.

    There an answer with nothing to compare it with counts as skipped.
    """
    verdict = UNMEASURED if row["verdict"] == SKIPPED and row["got"] else row["verdict"]
    return _result({**row, "id": row["probe"], "profile": row["figure"], "verdict": verdict})


def _result(row: dict) -> Result:
    kinds = {"latency_ms": float, "tries": int}
    told = {**row, "family": row["id"][:1]}
    return Result(**{one.name: kinds.get(one.name, str)(told[one.name]) for one in fields(Result)})


def _about(probe: Probe, profile: str) -> dict[str, str]:
    """The request as the table writes it, so with {token} in place of any token; a finding where it is not closed."""
    own = ("id", "title", "family", "caller", "token", "source")
    if probe.expected(profile) == probe.expected(FIGURE_2):
        own += ("finding", "closed_by")
    request = f"{probe.method} {probe.path}" if probe.how == "http" else probe.how
    shown = request if len(request) <= REASON else f"{request[: REASON - 1]}…"
    return {**{name: getattr(probe, name) for name in own}, "profile": profile, "request": shown}


def _off(got: str, wanted: str) -> list[str]:
    return [] if answers.fits(got, wanted) else [f"expected {wanted}, got {got}"]


def _refined(got: Sequence[str], trails: Sequence[Trail]) -> str:
    """Return the answers in a line; what they do not tell themselves is from the log, where it has them all."""
    if len(got) != len(trails):
        return ", ".join(got)
    told = (last.details if (last := _last([trail])) else "" for trail in trails)
    return ", ".join(answers.refined(*pair) for pair in zip(got, told, strict=True))


def _told(got: str, trails: Sequence[Trail]) -> list[str]:
    """Return where Envoy's log tells another reason than the answer did; of an upgrade it tells only how it ended."""
    parts = got.split(", ")
    if len(parts) != len(trails):
        return []
    told = [(part, _last([one])) for part, one in zip(parts, trails, strict=True) if part != UPGRADED]
    pairs = [(answers.details(part.partition(" ")[2]), hop) for part, hop in told]
    return [
        f"the access log says {hop.details or 'nothing'}, which does not fit {got}"
        for pattern, hop in pairs
        if pattern and hop and not re.match(pattern, hop.details)
    ]


def _hop(got: str, trails: Sequence[Trail]) -> str:
    if not trails:
        return ""
    return APPLICATION if got.endswith(UPGRADED) else trails[-1].answered


def _seen(probe: Probe, reply: Reply | None) -> list[str]:
    body = reply.body if reply else ""
    missing = [f"the application did not see {probe.sees!r}"] if probe.sees and probe.sees not in body else []
    there = probe.sees_not and probe.sees_not in body
    return missing + ([f"the application saw {probe.sees_not!r}"] if there else [])


def _reason(reply: Reply | None, secrets: Iterable[str]) -> str:
    if reply is None or 0 < reply.status < 400:
        return ""
    said = clean(reply.body[:READ], secrets) if reply.status else reply.reason
    return " ".join(said.split())[:REASON]


def _last(trails: Sequence[Trail]):
    """Return the hop nearest to the application in the last trail, or None."""
    return (trails[-1].sidecar or trails[-1].gateway) if trails else None
