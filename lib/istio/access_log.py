"""Who answered: Envoy's access logs of the gateway and of the sidecar, joined by what the request called itself."""

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
LOOK = 0.5  # seconds between two looks at the logs: each reads those of some twenty pods

# Istio's default text format: EnvoyTextLogFormat in pilot/pkg/model/telemetry_logging.go. A "-" stands for nothing.
# Method and path are the client's own, and may hold anything; so the line is read from the protocol on.
LINE = re.compile(
    r'^\[[^\]]+\] ".*? (?:HTTP/[\d.]+|-)" (?P<code>\d+) (?P<flags>\S+) (?P<details>\S+) \S+ ".*?" \d+ \d+ \d+ \S+ '
    r'".*?" "(?P<label>.*?)" "(?P<request_id>.*?)" ".*?" "(?P<upstream>[^"]*)" '
)


@dataclass(frozen=True)
class Hop:
    """What one proxy wrote of one request; `upstream` is the address that it passed the request to, or "".

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
    """One request's way: its hops, who answered it, and in words if the hops do not belong together."""

    gateway: Hop | None
    sidecar: Hop | None
    answered: str
    mismatch: str = ""


def read(lines: Iterable[str], name: str = GATEWAY) -> dict[str, Hop]:
    """Return the hops of access log lines by the request's label (its User-Agent); of two with one label the last.

    Lines in another format, the proxy's own messages among them, are passed over.
    """
    found = (LINE.match(line) for line in lines)
    return {one["label"]: _hop(name, one) for one in found if one}


def who_answered(gateway: Hop | None, sidecar: Hop | None) -> str:
    """Return whose answer it was: gateway, sidecar, application or nobody (no proxy heard of it, or none answered).

    Where the sidecar wrote nothing, what the gateway got from upstream counts as the application's. What a codec
    refuses has no label in the log, so nobody has heard of it: the answer `codec` itself says that it was a proxy.
    """
    last = sidecar or gateway
    if last is None or not last.code:
        return NOBODY
    return APPLICATION if last.details == "via_upstream" else last.name


def mismatch(gateway: Hop | None, sidecar: Hop | None) -> str:
    """Return what does not fit between two hops of one label, or "": their request ids must be the same."""
    if gateway and sidecar and gateway.request_id != sidecar.request_id:
        return f"request ids differ: gateway {gateway.request_id}, sidecar {sidecar.request_id}"
    return ""


def join(gateways: dict[str, Hop], sidecars: dict[str, Hop]) -> dict[str, Trail]:
    """Return every label's trail. A sidecar's hop without a gateway's is a caller inside the mesh."""
    return {
        label: Trail(first, last, who_answered(first, last), mismatch(first, last))
        for label in {**gateways, **sidecars}
        for first, last in [(gateways.get(label), sidecars.get(label))]
    }


def fetch(cluster: Cluster, labels: str, namespace: str, since_seconds: int, name: str = GATEWAY) -> dict[str, Hop]:
    """Return what the proxies of all running pods with these labels wrote in the last seconds."""
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
    """Return `ask()` once it has every wanted label and nothing new came for `quiet` seconds.

    The first proxy's line brings a label, and the next proxy writes its own line later. After `deadline` seconds this
    returns the lines so far: a request that broke before a proxy read its headers leaves no label.
    """
    names, seen, since = set(wanted), None, clock()

    def settled(found: dict[str, Trail]) -> bool:
        nonlocal seen, since
        if found != seen:
            seen, since = found, clock()
        return names <= found.keys() and clock() - since >= quiet

    return until(ask, settled, deadline=deadline, pause=LOOK).value or {}


def _hop(name: str, one: re.Match) -> Hop:
    fields = {key: "" if one[key] == "-" else one[key] for key in ("flags", "details", "request_id", "upstream")}
    return Hop(name, int(one["code"]), **fields)
