"""A round for its readers: what changed since the round before, a table, a page, and a file for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import groupby
from pathlib import Path

from lib.bundle import controls
from lib.fleet.gather import LATE, MISSING, PROVED, RED, STATES, UNTRUSTED, Row
from lib.fleet.model import Round
from lib.record.verdicts import MARKS
from lib.render import rendered
from lib.watch.proofs import Proof, minute

CLASSES = {UNTRUSTED: "fail", RED: "fail", LATE: "error", MISSING: "error", PROVED: "pass"}  # verdicts of style.css

NONE = Proof()


def changes(before: Sequence[Row], rows: Sequence[Row]) -> list[dict[str, str]]:
    """Return what differs between the rows of two rounds, as {cluster, what}: states, answers, new and gone clusters.

    A probe that was asked before and is not asked now is a change too: a cluster that asks less proves less.
    """
    old = {row.name: row for row in before}
    found = [(row.name, what) for row in rows if row.name in old for what in _changes(old[row.name], row)]
    found += [(row.name, "it has its first bundle") for row in rows if row.name not in old and row.proofs.runs]
    found += [(name, "it is no longer in the fleet") for name in sorted({*old} - {row.name for row in rows})]
    return [{"cluster": name, "what": what} for name, what in found]


def _changes(old: Row, new: Row) -> list[str]:
    states = [f"{old.state} is now {new.state}"] if old.state != new.state else []
    was, now = old.proofs.answers, new.proofs.answers
    if not was or not now:
        return states
    other = [f"{id}: {was[id]} is now {now[id]}" for id in sorted(was.keys() & now) if was[id] != now[id]]
    return [*states, *other, *(f"{id} is no longer asked" for id in sorted(was.keys() - now))]


def table(rows: Sequence[Row]) -> list[dict[str, str]]:
    """Return the matrix for a terminal: a row for each cluster, worst first, with a mark for each control."""
    names = columns(rows)
    return [
        {
            "cluster": row.name,
            "state": row.state,
            **{control.name: mark(row.proofs.controls.get(control.id)) for control in names},
            "red": " ".join(row.red),
            "last bundle": minute(row.at),
            "note": row.note,
        }
        for row in rows
    ]


def columns(rows: Sequence[Row]) -> list[controls.Control]:
    """Return the controls that a bundle of the round is evidence of."""
    return [control for control in controls.load() if any(control.id in row.proofs.controls for row in rows)]


def evidence(rows: Sequence[Row]) -> dict[str, str]:
    """Return by a control's name how many of its lines of evidence each bundle is at least, such as 1 of 6."""
    known = [row.proofs.controls for row in rows if row.proofs.runs]
    fewest = {one.id: min((proofs.get(one.id, NONE).lines for proofs in known), default=0) for one in controls.load()}
    return {one.name: f"{fewest[one.id]} of {len(one.evidence)}" for one in controls.load()}


def mark(proof: Proof | None) -> str:
    """Return the sign of a control in one cluster."""
    return MARKS["skipped" if not proof else "fail" if proof.red else "pass"]


def page(one: Round, rows: Sequence[Row], before: str, changed: Sequence[Mapping[str, str]], now: datetime) -> str:
    """Return the round as a page of HTML, which loads nothing; `before` is the round before, or ""."""
    groups = groupby(changed, key=lambda change: change["cluster"])
    by_cluster = [(cluster, [change["what"] for change in lines]) for cluster, lines in groups]
    counts = {state: sum(row.state == state for row in rows) for state in STATES}
    return rendered(
        "fleet.html.j2", one=one, rows=rows, before=before, changed=by_cluster, now=minute(now), counts=counts,
        controls=columns(rows), evidence=evidence(rows), classes=CLASSES, mark=mark, minute=minute, states=STATES,
    )  # fmt: skip


def write(
    folder: Path, one: Round, rows: Sequence[Row], before: str, changed: Sequence[Mapping[str, str]], now: datetime
) -> list[Path]:
    """Write the page and the round's JSON into a folder, and return both paths; arguments as for `page`."""
    folder.mkdir(parents=True, exist_ok=True)
    html, data = folder / "index.html", folder / f"{one.round}.json"
    html.write_text(page(one, rows, before, changed, now), encoding="utf-8")
    content = {
        "fleet": one.fleet,
        "round": one.round,
        "at": now.isoformat(timespec="seconds"),
        "before": before,
        "evidence": evidence(rows),
        "clusters": [row.model_dump(mode="json") for row in rows],
        "changes": [*changed],
    }
    data.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return [html, data]
