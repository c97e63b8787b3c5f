"""A result is a probe with its answer: expected, got, who answered, and the verdict."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from lib import spreadsheet
from lib.istio import answers
from lib.istio.access_log import APPLICATION, Hop, Trail
from lib.probes.model import FIGURE_2, Probe
from lib.probes.transport.messages import Reply
from lib.record.verdicts import ERROR, FAIL, PASS, SKIPPED
from lib.redact import clean
from lib.redact.shapes import TOKEN

UNMEASURED = "unmeasured"  # beside the record's verdicts: a measured probe without a baseline
REASON = 120  # characters of a refusal's body that are kept
UPGRADED = "101 app"
READ = 4096  # characters of a body that are cleaned before they are cut to REASON


@dataclass(frozen=True)
class Result:
    """One probe under one profile. `profile` holds the world's name if the probe has one; `token` is the token's name.

    `got` is the short answer (lib.istio.answers) and `reason` the beginning of a refusal's body. `details`, `flags` and
    `hop` come from the access log, or are "" if it was not read. `latency_ms` is the last request's, in milliseconds.
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
        """Status and code of the last answer; "" and "" if there is none."""
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
    """Return the result of a probe that was sent.

    Args:
        probe: The row of the table.
        profile: The profile or world that was asked.
        got: The answer, or a scenario's answers.
        reply: The last reply, for its status line, reason and latency.
        trails: The access log's trails of the requests, none if it was not read.
        baseline: What a measured probe is compared with; without it, the verdict is UNMEASURED.
        tries: How often the probe was sent.
        secrets: Texts to mask, besides whatever looks like a token.
    """
    answered = _refined([got] if isinstance(got, str) else got, trails)
    wanted = expected(probe, profile, baseline)
    faults = [*_difference(answered, wanted), *_log_differences(answered, trails), *_body_faults(probe, reply)]
    unmeasured = probe.measured and not baseline
    if unmeasured:
        faults = [
            f"no baseline for {probe.id} under {profile}; predicted was {wanted}",
            *_log_differences(answered, trails),
        ]
    last = _last(trails)
    return Result(
        **_about(probe, profile),
        expected=wanted,
        got=answered,
        status_line=clean(reply.line, secrets)[:REASON] if reply else "",
        reason=_reason(reply, secrets),
        details=", ".join(hop.details for trail in trails if (hop := _last([trail]))),
        flags=last.flags if last else "",
        hop=_hop(answered, trails),
        latency_ms=reply.latency_ms if reply else 0.0,
        tries=tries,
        verdict=UNMEASURED if unmeasured else FAIL if faults else PASS,
        note="; ".join([*faults, *(trail.mismatch for trail in trails if trail.mismatch)]),
    )


def skipped(probe: Probe, profile: str, why: str) -> Result:
    """Return the result of a probe that was not sent, with the reason as its note."""
    return Result(**_about(probe, profile), expected=probe.expected(profile), verdict=SKIPPED, note=why)


def failed(probe: Probe, profile: str, why: str, secrets: Iterable[str] = ()) -> Result:
    """Return the result of a probe that got no answer because of an error, with the reason."""
    return Result(**_about(probe, profile), expected=probe.expected(profile), verdict=ERROR, note=clean(why, secrets))


def expected(probe: Probe, profile: str, baseline: str = "") -> str:
    """Return what a probe is compared with: a measured one with its baseline, if any, else with its prediction."""
    return baseline if probe.measured and baseline else probe.expected(profile)


def write(results: Iterable[Result], path: Path) -> None:
    """Write the results as CSV with a header row of field names."""
    columns = [field.name for field in fields(Result)]
    lines = ([*asdict(result).values()] for result in results)
    path.write_text(spreadsheet.text(columns, lines), encoding="utf-8")


def read(path: Path) -> list[Result]:
    """Return the results in a CSV of `write` or in a bundle's responses.csv; ValueError for other files."""
    text = path.read_text(encoding="utf-8")
    names = [field.name for field in fields(Result)]
    if {"probe", "figure"} <= {*text.partition("\n")[0].split(",")}:
        return [from_row(row) for row in spreadsheet.rows(text) if row["probe"]]
    if not text.startswith(",".join(names)):
        found = text.partition("\n")[0]
        raise ValueError(f"expected the columns {','.join(names)}, got {found}; give a CSV of results.")
    return [_result(row) for row in spreadsheet.rows(text)]


def from_row(row: dict) -> Result:
    """Return the result in a row of a bundle's responses.csv.

    That file has the columns `probe` and `figure` for id and profile, and the verdict skipped for UNMEASURED.
    """
    verdict = UNMEASURED if row["verdict"] == SKIPPED and row["got"] else row["verdict"]
    return _result({**row, "id": row["probe"], "profile": row["figure"], "verdict": verdict})


def to_row(one: Result) -> dict[str, Any]:
    """Return a result as the fields of a `response` event; an unmeasured one counts as skipped."""
    row = {key: value for key, value in vars(one).items() if key not in ("id", "profile", "family")}
    verdict = SKIPPED if one.verdict == UNMEASURED else one.verdict
    return {**row, "probe": one.id, "figure": one.profile, "verdict": verdict}


def _result(row: dict) -> Result:
    kinds: dict[str, Callable[[str], Any]] = {"latency_ms": float, "tries": int}
    values = {**row, "family": row["id"][:1]}
    return Result(**{one.name: kinds.get(one.name, str)(values[one.name]) for one in fields(Result)})


def _about(probe: Probe, profile: str) -> dict[str, Any]:
    """Return the probe's fields of a result; the request keeps {token}, and a closed finding is left out."""
    own: tuple[str, ...] = ("id", "title", "family", "caller", "token", "source")
    if probe.expected(profile) == probe.expected(FIGURE_2):
        own += ("finding", "closed_by")
    request = f"{probe.method} {probe.path}" if probe.how == "http" else probe.how
    shown = request if len(request) <= REASON else f"{request[: REASON - 1]}…"
    return {**{name: getattr(probe, name) for name in own}, "profile": profile, "request": shown}


def _difference(got: str, wanted: str) -> list[str]:
    return [] if answers.fits(got, wanted) else [f"expected {wanted}, got {got}"]


def _refined(got: Sequence[str], trails: Sequence[Trail]) -> str:
    """Return the answers in one line; the access log completes bare ones if it has a trail for every answer."""
    if len(got) != len(trails):
        return ", ".join(got)
    details = (last.details if (last := _last([trail])) else "" for trail in trails)
    return ", ".join(answers.refined(*pair) for pair in zip(got, details, strict=True))


def _log_differences(got: str, trails: Sequence[Trail]) -> list[str]:
    """Return where Envoy's log has another reason than the answer. Of an upgrade it logs only the end, so skip that."""
    parts = got.split(", ")
    if len(parts) != len(trails):
        return []
    hops = [(part, _last([one])) for part, one in zip(parts, trails, strict=True) if part != UPGRADED]
    pairs = [(answers.details(part.partition(" ")[2]), hop) for part, hop in hops]
    return [
        f"the access log says {hop.details or 'nothing'}, which does not fit {got}"
        for pattern, hop in pairs
        if pattern and hop and not re.match(pattern, hop.details)
    ]


def _hop(got: str, trails: Sequence[Trail]) -> str:
    if not trails:
        return ""
    return APPLICATION if got.endswith(UPGRADED) else trails[-1].answered


def _body_faults(probe: Probe, reply: Reply | None) -> list[str]:
    """Return what the application saw by mistake or did not see. Tokens do not count: 4 in 1,000 have "h2c" in them."""
    body = TOKEN.sub("", reply.body) if reply else ""
    missing = [f"the application did not see {probe.sees!r}"] if probe.sees and probe.sees not in body else []
    unwanted = probe.sees_not and probe.sees_not in body
    return missing + ([f"the application saw {probe.sees_not!r}"] if unwanted else [])


def _reason(reply: Reply | None, secrets: Iterable[str]) -> str:
    if reply is None or 0 < reply.status < 400:
        return ""
    text = clean(reply.body[:READ], secrets) if reply.status else reply.reason
    return " ".join(text.split())[:REASON]


def _last(trails: Sequence[Trail]) -> Hop | None:
    """Return the hop nearest to the application in the last trail, or None."""
    return (trails[-1].sidecar or trails[-1].gateway) if trails else None
