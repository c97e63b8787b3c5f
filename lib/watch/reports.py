"""The proofs of a watch for other readers: as metrics for Prometheus, and as a page. Neither holds a token."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from lib.bundle.index_page import MARKS
from lib.render import rendered
from lib.watch.proofs import Proofs, minute

PREFIX = "istio_keycloak_proof"


def metrics(kept: Proofs, stale_after: timedelta) -> str:
    """Return the proofs in Prometheus' text format, times in seconds since 1970.

    A control that was never proved has the time 0, so that an alert on a proof's age sees it.

    Source: https://prometheus.io/docs/instrumenting/exposition_formats/
    """
    proofs = sorted(kept.controls.items())
    last = kept.runs[-1:]
    families: list[tuple[str, str, Iterable[tuple[str, float]]]] = [
        (
            "timestamp_seconds",
            "the end of the last run that passed all probes of a control",
            [(f'control="{name.upper()}"', proof.at.timestamp() if proof.at else 0) for name, proof in proofs],
        ),
        (
            "red_probes",
            "the red probes of a control in the last run",
            [(f'control="{name.upper()}"', len(proof.red)) for name, proof in proofs],
        ),
        ("run_timestamp_seconds", "the end of the last run", [("", run.at.timestamp()) for run in last]),
        ("run_verdict", "1 for the verdict of the last run", [(f'verdict="{run.verdict}"', 1) for run in last]),
        ("stale_after_seconds", "the age at which a proof is stale", [("", stale_after.total_seconds())]),
    ]
    return "".join(_family(*family) for family in families)


def page(kept: Proofs, env: str, now: datetime, stale_after: timedelta) -> str:
    """Return the controls and the last runs as a page of HTML, which loads nothing."""
    rows = kept.rows(now, stale_after)
    hours = stale_after.total_seconds() / 3600
    return rendered(
        "watch.html.j2", env=env, rows=rows, runs=kept.runs[::-1], marks=MARKS, hours=hours, now=now, minute=minute
    )


def _family(name: str, about: str, samples: Iterable[tuple[str, float]]) -> str:
    full = f"{PREFIX}_{name}"
    lines = [f"{full}{{{labels}}} {value:.0f}" if labels else f"{full} {value:.0f}" for labels, value in samples]
    return "\n".join([f"# HELP {full} {about}", f"# TYPE {full} gauge", *lines, ""])
