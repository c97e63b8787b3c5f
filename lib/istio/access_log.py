"""Find who answered: join the access logs of gateway and sidecar by the request's label, its User-Agent."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from lib.kubernetes.cluster import Cluster
from lib.kubernetes.status import is_running
from lib.polling import until

GATEWAY, SIDECAR, APPLICATION, NOBODY = "gateway", "sidecar", "application", "nobody"
PROXY = "istio-proxy"  # the container, of gateways too
PATIENCE = 5  # seconds
QUIET = 1.4  # seconds without a new line: each Envoy keeps its lines back for one second
LOOK = 0.5  # seconds between two reads of the logs: each reads the logs of some twenty pods

# Istio's default text format: EnvoyTextLogFormat in pilot/pkg/model/telemetry_logging.go. A "-" is an empty field.
# The client chooses method and path, which may contain anything. So the pattern starts at the protocol.
LINE = re.compile(
    r'^\[[^\]]+\] ".*? (?:HTTP/[\d.]+|-)" (?P<code>\d+) (?P<flags>\S+) (?P<details>\S+) \S+ ".*?" \d+ \d+ \d+ \S+ '
    r'".*?" "(?P<label>.*?)" "(?P<request_id>.*?)" ".*?" "(?P<upstream>[^"]*)" '
)


@dataclass(frozen=True)
class Hop:
    """One proxy's log line of one request; `upstream` is the address that it passed the request to, or "".

    `flags` and `details` are Envoy's %RESPONSE_FLAGS% and %RESPONSE_CODE_DETAILS%, "" for none.
    """

    name: str
    code: int
    flags: str
    details: str
    request_id: str
    upstream: str


@dataclass(frozen=True)
class Trail:
    """One request's hops, who answered it, and why the hops do not belong together, or ""."""

    gateway: Hop | None
    sidecar: Hop | None
    answered: str
    mismatch: str = ""


def read(lines: Iterable[str], name: str = GATEWAY) -> dict[str, Hop]:
    """Return the hops of access log lines by the request's label (its User-Agent); the last line of a label counts.

    Lines in another format, such as the proxy's own messages, are skipped.
    """
    matches = (LINE.match(line) for line in lines)
    return {match["label"]: _hop(name, match) for match in matches if match}


def who_answered(gateway: Hop | None, sidecar: Hop | None) -> str:
    """Return who answered: gateway, sidecar, application, or nobody (no proxy logged the request, or none answered).

    If the sidecar logged nothing, the gateway's answer from upstream counts as the application's. A request that a
    codec refuses has no label in the log, so this returns nobody: the answer `codec` shows that it was a proxy.
    """
    last = sidecar or gateway
    if last is None or not last.code:
        return NOBODY
    return APPLICATION if last.details == "via_upstream" else last.name


def mismatch(gateway: Hop | None, sidecar: Hop | None) -> str:
    """Return why two hops of one label do not belong together, or "": their request ids must be equal."""
    if gateway and sidecar and gateway.request_id != sidecar.request_id:
        return f"request ids differ: gateway {gateway.request_id}, sidecar {sidecar.request_id}"
    return ""


def join(gateways: dict[str, Hop], sidecars: dict[str, Hop]) -> dict[str, Trail]:
    """Return each label's trail. A sidecar's hop without a gateway's is from a caller inside the mesh."""
    return {
        label: Trail(first, last, who_answered(first, last), mismatch(first, last))
        for label in {**gateways, **sidecars}
        for first, last in [(gateways.get(label), sidecars.get(label))]
    }


def fetch(cluster: Cluster, labels: str, namespace: str, since_seconds: int, name: str = GATEWAY) -> dict[str, Hop]:
    """Return the hops that the proxies of all running pods with these labels logged in the last seconds."""
    return read(raw_lines(cluster, labels, namespace, since_seconds), name)


def raw_lines(cluster: Cluster, labels: str, namespace: str, since_seconds: int) -> list[str]:
    """Return the lines that the proxies of all running pods with these labels wrote in the last seconds."""
    pods = [pod["metadata"]["name"] for pod in cluster.items("v1", "Pod", namespace, labels) if is_running(pod)]
    return [line for pod in pods for line in cluster.logs(pod, namespace, PROXY, since_seconds).splitlines()]


def wait_for(
    ask: Callable[[], dict[str, Trail]],
    wanted: Iterable[str],
    deadline: float = PATIENCE,
    quiet: float = QUIET,
    clock: Callable[[], float] = time.monotonic,
) -> dict[str, Trail]:
    """Return `ask()` once it has every wanted label and no new line came for `quiet` seconds.

    The first proxy's line brings a label, and the next proxy writes its own line later. After `deadline` seconds this
    returns the lines so far: a request that broke before a proxy read its headers leaves no label.
    """
    labels, last, since = set(wanted), None, clock()

    def settled(trails: dict[str, Trail]) -> bool:
        nonlocal last, since
        if trails != last:
            last, since = trails, clock()
        return labels <= trails.keys() and clock() - since >= quiet

    return until(ask, settled, deadline=deadline, pause=LOOK).value or {}


def _hop(name: str, match: re.Match) -> Hop:
    fields = {key: "" if match[key] == "-" else match[key] for key in ("flags", "details", "request_id", "upstream")}
    return Hop(name, int(match["code"]), **fields)
