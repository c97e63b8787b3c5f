"""Find who answered: join the access logs of gateway and sidecar by the request's label, its User-Agent."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from lib.istio import proxy
from lib.kubernetes.cluster import Cluster
from lib.kubernetes.rest import Object
from lib.kubernetes.status import is_running
from lib.polling import until

GATEWAY, SIDECAR, APPLICATION, NOBODY = "gateway", "sidecar", "application", "nobody"
PROXY = "istio-proxy"  # the container, of gateways too
PATIENCE = 5  # seconds
FLUSH = 1.0  # seconds that Envoy keeps a line back: istio/istio 1.31, pkg/envoy/proxy.go
SLACK = 0.1  # seconds from Envoy's write of a line until kubelet has it
QUIET = 0.4  # seconds without a new line, where one that is awaited may never come
LOOK = 0.5  # seconds between two reads of the logs: each reads the logs of some twenty pods
READERS = 8  # logs that are read at once

# Istio's default text format: EnvoyTextLogFormat in pilot/pkg/model/telemetry_logging.go. A "-" is an empty field.
# The client chooses method and path, which may contain anything. So the pattern starts at the protocol.
LINE = re.compile(
    r'^\[[^\]]+\] ".*? (?:HTTP/[\d.]+|-)" (?P<code>\d+) (?P<flags>\S+) (?P<details>\S+) \S+ ".*?" \d+ \d+ \d+ \S+ '
    r'".*?" "(?P<label>.*?)" "(?P<request_id>.*?)" ".*?" "(?P<upstream>[^"]*)" '
    r"(?:\S+ \S+ (?P<local>\S+) (?P<client>\S+) (?P<sni>\S+))?"
)
# Envoy's command operators that a hop needs, and the keys of Istio's JSON log for the same
OPERATORS = {
    "RESPONSE_CODE": "code",
    "RESPONSE_FLAGS": "flags",
    "RESPONSE_CODE_DETAILS": "details",
    "REQ(USER-AGENT)": "label",
    "REQ(X-REQUEST-ID)": "request_id",
    "UPSTREAM_HOST": "upstream",
    "DOWNSTREAM_LOCAL_ADDRESS": "local",
    "DOWNSTREAM_REMOTE_ADDRESS": "client",
    "REQUESTED_SERVER_NAME": "sni",
}
JSON_KEYS = {
    "response_code": "code",
    "response_flags": "flags",
    "response_code_details": "details",
    "user_agent": "label",
    "request_id": "request_id",
    "upstream_host": "upstream",
    "downstream_local_address": "local",
    "downstream_remote_address": "client",
    "requested_server_name": "sni",
}
INTERVAL = re.compile(r'"fileFlushInterval": ?"([\d.]+)s"')
OPERATOR = re.compile(r"%([A-Z_]+)(?:\(([^)]*)\))?(?::\d+)?%")


@dataclass(frozen=True)
class Hop:
    """One proxy's log line of one request; `upstream` is the address that it passed the request to, or "".

    `flags` and `details` are Envoy's %RESPONSE_FLAGS% and %RESPONSE_CODE_DETAILS%, "" for none. `local` is the address
    that the connection came to, `client` the client's (of X-Forwarded-For, if Envoy trusts it), each with its port;
    `sni` is the server name of the TLS connection.
    """

    name: str
    code: int
    flags: str
    details: str
    request_id: str
    upstream: str
    local: str = field(default="", compare=False)
    client: str = field(default="", compare=False)
    sni: str = field(default="", compare=False)


@dataclass(frozen=True)
class Trail:
    """One request's hops, who answered it, and why the hops do not belong together, or ""."""

    gateway: Hop | None
    sidecar: Hop | None
    answered: str
    mismatch: str = ""


def read(lines: Iterable[str], name: str = GATEWAY, log_format: str = "") -> dict[str, Hop]:
    """Return the hops of access log lines by the request's label (its User-Agent); the last line of a label counts.

    Reads Istio's text and JSON, and the text format that `log_format` states (meshConfig.accessLogFormat). Other
    lines, such as the proxy's own messages, are skipped.
    """
    pattern = pattern_of(log_format) if log_format and not log_format.lstrip().startswith("{") else LINE
    keys = _json_keys(log_format)
    found = [_of_json(line, keys) if line.startswith("{") else _of_text(line, pattern) for line in lines]
    return {one["label"]: _hop(name, one) for one in found if one and one.get("label") and one.get("code", "-") != "-"}


def pattern_of(log_format: str) -> re.Pattern[str]:
    """Return the pattern of a line in a text format with Envoy's command operators."""
    made, end, seen = "^", 0, set()
    for one in OPERATOR.finditer(log_format):
        made += re.escape(log_format[end : one.start()])
        group = _operator(one)
        made += f"(?P<{group}>.*?)" if group and group not in seen else ".*?"
        seen.add(group)
        end = one.end()
    return re.compile(made + re.escape(log_format[end:].rstrip("\n")) + "$")


def _operator(one: re.Match) -> str:
    argument = (one[2] or "").partition("?")[0].upper()
    return OPERATORS.get(f"{one[1]}({argument})" if argument else one[1], "")


def _json_keys(log_format: str) -> Mapping[str, str]:
    """Return which key of a JSON log has which of a hop's fields: Istio's, or those of a JSON format."""
    try:
        stated = json.loads(log_format) if log_format.lstrip().startswith("{") else {}
    except ValueError:
        stated = {}
    own = {key: _operator(one) for key, text in stated.items() if (one := OPERATOR.fullmatch(str(text)))}
    return {key: field for key, field in own.items() if field} or JSON_KEYS


def _of_text(line: str, pattern: re.Pattern[str]) -> dict[str, str] | None:
    match = pattern.match(line)
    return {key: value or "-" for key, value in match.groupdict().items()} if match else None


def _of_json(line: str, keys: Mapping[str, str]) -> dict[str, str] | None:
    try:
        stated = json.loads(line)
    except ValueError:
        return None
    return {field: str(stated[key]) for key, field in keys.items() if stated.get(key) is not None}


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


def fetch(
    cluster: Cluster, labels: str, namespace: str, since_seconds: int, name: str = GATEWAY, log_format: str = ""
) -> dict[str, Hop]:
    """Return the hops that the proxies of all running pods with these labels logged in the last seconds."""
    return read(raw_lines(cluster, labels, namespace, since_seconds), name, log_format)


def raw_lines(cluster: Cluster, labels: str, namespace: str, since_seconds: int) -> list[str]:
    """Return the lines that the proxies of all running pods with these labels wrote in the last seconds."""
    return lines_of(cluster, running(cluster, labels, namespace), since_seconds)


def running(cluster: Cluster, labels: str, namespace: str) -> list[Object]:
    """Return the running pods with these labels."""
    return [pod for pod in cluster.items("v1", "Pod", namespace, labels) if is_running(pod)]


def flush(pod: Object) -> float:
    """Return the seconds that a pod's proxy keeps a line back: `fileFlushInterval` when the pod was made, or FLUSH."""
    stated = {one["name"]: one.get("value", "") for one in (proxy.container(pod) or {}).get("env", [])}
    found = INTERVAL.search(stated.get("PROXY_CONFIG", ""))
    return float(found[1]) if found else FLUSH


def lines_of(cluster: Cluster, pods: Iterable[Object], since_seconds: int) -> list[str]:
    """Return the lines that the proxies of these pods wrote in the last seconds; reads several logs at once."""

    def read_log(pod: Object) -> str:
        about = pod["metadata"]
        return cluster.logs(about["name"], about["namespace"], PROXY, since_seconds)

    with ThreadPoolExecutor(READERS) as pool:
        return [line for log in pool.map(read_log, pods) for line in log.splitlines()]


def wait_for(
    ask: Callable[[], dict[str, Trail]],
    wanted: Mapping[str, bool],
    held: float,
    deadline: float = PATIENCE,
    quiet: float = QUIET,
    slack: float = SLACK,
    clock: Callable[[], float] = time.monotonic,
) -> dict[str, Trail]:
    """Return `ask()` once each wanted label has the lines of all its proxies, or no new line came for some time.

    After `deadline` seconds this returns the lines so far: a request that broke before a proxy read its headers leaves
    no label. All requests have ended when this is called, so the first look comes when all lines are written.

    Args:
        ask: reads the logs.
        wanted: the labels, and whether the request came through a gateway.
        held: seconds that a proxy keeps a line back.
        deadline: seconds.
        quiet: seconds, besides `held`, without a new line.
        slack: seconds, besides `held`, until the first look.
        clock: returns seconds.
    """
    last, since, pause = None, clock(), held + slack
    until(clock, lambda now: now >= since + pause, deadline=deadline, pause=pause)

    def settled(trails: dict[str, Trail]) -> bool:
        nonlocal last, since
        if trails != last:
            last, since = trails, clock()
        if not wanted.keys() <= trails.keys():
            return False
        return all(_whole(trails[one], wanted[one]) for one in wanted) or clock() - since >= held + quiet

    return until(ask, settled, deadline=deadline, pause=LOOK).value or {}


def _whole(trail: Trail, outside: bool) -> bool:
    """Return whether no proxy's line is missing: a gateway that passed the request on, and then a sidecar, has one."""
    if trail.gateway is None:
        return not outside
    return trail.sidecar is not None or not trail.gateway.upstream


def _hop(name: str, found: Mapping[str, str]) -> Hop:
    texts = ("flags", "details", "request_id", "upstream", "local", "client", "sni")
    fields = {key: "" if found.get(key, "-") == "-" else found[key] for key in texts}
    return Hop(name, int(found["code"]), **fields)
