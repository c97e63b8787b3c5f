"""One run of a watch, in the cluster: send the probes, keep the proofs in a ConfigMap, report changes as Events."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from lib.errors import RunbookError
from lib.kubernetes.cluster import Cluster
from lib.names import WATCH
from lib.printable import printable
from lib.probes.reporting import tables
from lib.probes.reporting.results import Result
from lib.probes.targets import remote
from lib.record.verdicts import ERROR, EXIT_CODES, PASS
from lib.redact import clean
from lib.watch import proofs, reports
from lib.watch.proofs import Proofs

CONFIG_MAP, HISTORY, METRICS = "proofs", "proofs.json", "metrics.prom"
MESSAGE = 1024  # characters of an Event's message, at most: events.k8s.io/v1, note
Ask = Callable[[Path], Sequence[Result]]


def prove(cluster: Cluster, mesh: Path, hours: float, ask: Ask | None = None) -> int:
    """Send the probes once, and keep the proofs; return the exit code: 0, 1 if a probe is red, 2 if none was sent.

    Args:
        cluster: Where the ConfigMap is.
        mesh: The params file of the probes (docs/probes.md).
        hours: The age at which a proof is stale.
        ask: Sends the probes of a params file; by default `send`.
    """
    before = read(cluster)
    try:
        found = (ask or send)(mesh)
    except (RunbookError, OSError) as error:
        reason = printable(clean(str(error)))
        after, lines = before.after_error(reason, _now()), [f"The probes could not be sent: {reason}"]
        news = lines if not before.runs or before.runs[-1].verdict != ERROR else []
    else:
        after, lines = before.after(found, _now()), [tables.summary(found), *map(line, tables.red(found))]
        news = proofs.changes(before, found)
    print("\n".join(lines))
    _keep(cluster, after, timedelta(hours=hours))
    if news:
        cluster.create(_event(news, after))
    return EXIT_CODES[after.runs[-1].verdict]


def send(mesh: Path) -> Sequence[Result]:
    """Send the probes to the mesh of a params file; raise RunbookError if no answer by HTTP came."""
    settings = remote.settings({}, mesh)
    found = remote.ask_all(settings)
    if not any(one.status_line for one in found):
        raise RunbookError(f"Nothing answered by HTTP at {settings.address}. Is the gateway up?")
    return found


def line(one: Result) -> str:
    """Return a result as a line: the probe, what was expected, what came."""
    return f"{one.id} {one.title}: expected {one.expected}, got {one.got}"


def read(cluster: Cluster) -> Proofs:
    """Return the proofs that the ConfigMap holds; none if it is new."""
    text = cluster.get("v1", "ConfigMap", CONFIG_MAP, WATCH).get("data", {}).get(HISTORY, "{}")
    return Proofs.model_validate_json(text)


def config_map() -> dict:
    """Return the ConfigMap of the proofs, without data."""
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": CONFIG_MAP, "namespace": WATCH}}


def _keep(cluster: Cluster, kept: Proofs, stale_after: timedelta) -> None:
    """Write the proofs and their metrics into the ConfigMap."""
    data = {HISTORY: kept.model_dump_json(), METRICS: reports.metrics(kept, stale_after)}
    cluster.apply({**config_map(), "data": data})


def _event(news: Sequence[str], after: Proofs) -> dict:
    """Return an Event about the ConfigMap that says what changed: a Warning if a probe is red or none was sent.

    Source: https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/event-v1/
    """
    last = after.runs[-1]
    at = last.at.strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"generateName": "proofs.", "namespace": WATCH},
        "involvedObject": {"apiVersion": "v1", "kind": "ConfigMap", "name": CONFIG_MAP, "namespace": WATCH},
        "type": "Normal" if last.verdict == PASS else "Warning",
        "reason": "ProofChanged",
        "message": "; ".join(news)[:MESSAGE],
        "source": {"component": "runbook-watch"},
        "firstTimestamp": at,
        "lastTimestamp": at,
        "count": 1,
    }


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)
