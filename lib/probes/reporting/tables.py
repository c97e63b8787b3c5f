"""Results as tables: side by side, what hardening closes, who gets in with what; for notebooks, terminals and CI."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from lib.probes.model import FIGURE_2, HARDENED, PROFILES, Probe
from lib.probes.reporting.results import UNMEASURED, Result
from lib.record.junit import TestCase, document
from lib.record.verdicts import ERROR, FAIL, PASS, RED, SKIPPED, WAIVED

if TYPE_CHECKING:  # the command of the probes needs no pandas: the functions for notebooks import it
    import pandas as pd

OWN = "own policy"  # the column of worlds
MARKS = {PASS: "", FAIL: " ✗", ERROR: " !", SKIPPED: "–", WAIVED: " ~", UNMEASURED: " ?"}
STYLES = {
    PASS: "green", FAIL: "bold red", ERROR: "bold yellow", SKIPPED: "dim", WAIVED: "magenta", UNMEASURED: "yellow",
}  # fmt: skip
RARE = {ERROR: "could not be asked", WAIVED: "waived"}
WIDTHS = {"id": 4, "ms": 3, "verdict": 10, "sent": 14, "note": 12}  # characters, at least


def one(results: Iterable[Result], id: str) -> pd.DataFrame:
    """Return one probe's results in full: a row for each field that is set, a column for each profile or world."""
    import pandas as pd

    rows = {one.profile: {name: value for name, value in vars(one).items() if value} for one in results if one.id == id}
    return pd.DataFrame(rows).fillna("")


def of_profile(results: Iterable[Result], profile: str) -> list[Result]:
    """Return the results of one profile or world."""
    return [one for one in results if one.profile == profile]


def expected(probes: Iterable[Probe], profile: str) -> pd.DataFrame:
    """Return the probes' titles and the answers that they expect under a profile or world."""
    import pandas as pd

    return pd.DataFrame(
        [(probe.id, probe.title, probe.expected(profile)) for probe in probes],
        columns=["id", "what is done", "expected"],
    )


def with_notes(results: Iterable[Result]) -> pd.DataFrame:
    """Return the results with their notes, which hold a scenario's durations."""
    import pandas as pd

    return pd.DataFrame([vars(one) for one in results])[["id", "title", "expected", "got", "verdict", "note"]]


def side_by_side(results: Iterable[Result]) -> pd.DataFrame:
    """Return one row for each probe: expected and got under each profile. ✗ is red, ? has no baseline.

    Probes of a world, a workload with a policy of its own, have their answers in the columns `own policy`.
    """
    rows: dict[str, dict] = {}
    for one in results:
        column = one.profile if one.profile in PROFILES else OWN
        row = rows.setdefault(one.id, {"id": one.id, "title": one.title, "caller": one.caller, "where": ""})
        row["where"] = one.profile if column == OWN else "each profile"
        row |= {f"{column} expected": one.expected, f"{column} got": one.got + MARKS[one.verdict]}
    order = [f"{name} {what}" for name in (*PROFILES, OWN) for what in ("expected", "got")]
    present = [name for name in order if any(name in row for row in rows.values())]
    return _frame(rows.values(), ["id", "title", "caller", "where", *present])


def closed(results: Iterable[Result], before: str = FIGURE_2, after: str = HARDENED) -> pd.DataFrame:
    """Return the probes that reach the application under `before` but not under `after`."""
    old, new = _by_profile(results, before), _by_profile(results, after)
    rows = [
        {"id": id, "title": one.title, "caller": one.caller, before: one.got, after: new[id].got, "by": one.closed_by}
        for id, one in old.items()
        if id in new and one.passed_through and new[id].got and not new[id].passed_through
    ]
    return _frame(rows, ["id", "title", "caller", before, after, "by"])


def findings(results: Iterable[Result], after: str = "") -> pd.DataFrame:
    """Return the undesirable answers that the mesh gives by design, each with what closes it.

    With `after`, one more column has the probe's answer under that profile, or "" if it was not sent there.
    """
    results = list(results)
    new = _by_profile(results, after)
    rows: dict[str, dict] = {}
    for one in results:
        if one.finding and one.got and one.profile != after:
            row = {"id": one.id, "what is sent": one.title, "got": one.got, "finding": one.finding}
            then = {"closed by": one.closed_by, after: new[one.id].got if one.id in new else ""}
            rows.setdefault(one.id, row | then)
    return _frame(rows.values(), ["id", "what is sent", "got", "finding", "closed by", *filter(None, [after])])


def matrix(
    results: Iterable[Result],
    probes: Iterable[Probe],
    profile: str,
    bad: Collection[str] = ("tampered", "garbage", "expired"),
) -> pd.DataFrame:
    """Return the answers under a profile by caller (rows) and credential (nothing, good token, bad token).

    Only plain requests count: GET /headers with the token in the Authorization header, or without one.
    """
    plain = {probe.id for probe in probes if _plain(probe)}
    kinds = {"": "nothing", "good": "good token", **dict.fromkeys(bad, "bad token")}
    cells: dict[str, dict[str, set[str]]] = {}
    for one in results:
        if one.id in plain and one.profile == profile and one.token in kinds and one.got:
            cells.setdefault(one.caller, {}).setdefault(kinds[one.token], set()).add(one.got)
    names = ["nothing", "good token", "bad token"]
    rows = [
        {"caller": caller, **{name: " / ".join(sorted(got.get(name, ()))) for name in names}}
        for caller, got in cells.items()
    ]
    return _frame(rows, ["caller", *names])


def counts(results: Iterable[Result]) -> pd.DataFrame:
    """Return the number of results by profile or world (rows) and verdict; rare verdicts only if they occur."""
    every = Counter((one.profile, one.verdict) for one in results)
    names = sorted({profile for profile, _ in every}, key=_order)
    kinds = [kind for kind in STYLES if kind not in RARE or any(every[name, kind] for name in names)]
    rows = [{"profile": name, **{kind: every[name, kind] for kind in kinds}} for name in names]
    return _frame(rows, ["profile", *kinds])


def red(results: Iterable[Result]) -> list[Result]:
    """Return the red results."""
    return [one for one in results if one.verdict in RED]


def summary(results: Sequence[Result]) -> str:
    """Return the number of results by verdict, as a sentence."""
    every = Counter(one.verdict for one in results)
    words = {PASS: "as expected", FAIL: "red", UNMEASURED: "without a baseline", SKIPPED: "skipped"}
    words |= {kind: word for kind, word in RARE.items() if every[kind]}
    return f"{len(results)} probes: " + ", ".join(f"{every[kind]} {word}" for kind, word in words.items()) + "."


def table(results: Iterable[Result]) -> Table:
    """Return the results as a table for a terminal; a single profile is its title."""
    results = list(results)
    names = sorted({one.profile for one in results}, key=_order)
    shown = Table(box=SIMPLE_HEAD, title=names[0] if len(names) == 1 else None, title_justify="left")
    short = ["id", *(["profile"] if len(names) > 1 else []), "expected", "got", "ms", "verdict"]
    for name in (*short, "sent", "note"):
        shown.add_column(name, min_width=WIDTHS.get(name, 7), max_width=22 if name in ("expected", "got") else None)
    for one in results:
        cells = {**vars(one), "ms": f"{one.latency_ms:.0f}" if one.got else "", "sent": one.title}
        shown.add_row(*(escape(cells[name]) for name in (*short, "sent", "note")), style=STYLES[one.verdict])
    return shown


def junit(results: Iterable[Result], name: str = "probes") -> str:
    """Return the results as JUnit XML: a suite for each profile or world, a case for each probe, times in seconds.

    An unmeasured result counts as skipped.
    """
    return document(map(_case, results), name)


def _case(one: Result) -> TestCase:
    answer = f"{one.status_line}\n{one.reason}".strip()
    about = (one.profile, f"{one.profile}.{one.family}", f"{one.id} {one.title}", one.latency_ms / 1000)
    return TestCase(*about, one.verdict, one.note, answer)


def _plain(probe: Probe) -> bool:
    sent = (probe.method, probe.path, probe.how, probe.version, probe.body, probe.world)
    return sent == ("GET", "/headers", "http", "HTTP/1.1", "", "") and not probe.headers


def _by_profile(results: Iterable[Result], profile: str) -> dict[str, Result]:
    return {one.id: one for one in results if one.profile == profile}


def _order(name: str) -> tuple[int, str]:
    return (PROFILES.index(name) if name in PROFILES else len(PROFILES), name)


def _frame(rows: Iterable[dict], columns: list[str]) -> pd.DataFrame:
    """Return a table whose first column is the index; the index's name stands in the row of column names."""
    import pandas as pd

    table = pd.DataFrame(list(rows), columns=columns).fillna("").set_index(columns[0])
    return table.rename_axis(index=None, columns=columns[0])
