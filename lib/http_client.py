"""HTTP requests and their answers: from this machine, or from inside a pod by its curl."""

from __future__ import annotations

import http.client
import json
import re
import socket
import ssl
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, urlsplit

from lib.crypto import trust_store
from lib.errors import ClusterError
from lib.redact import clean

REASON = 120  # characters of a refusal's body that are kept as its reason

# Counted, since Kubernetes' exec may leave standard input open, and curl reads its config to the end.
CURL = ("sh", "-c", 'head -c "$1" | curl --disable --config -', "curl")

EXITS = {  # curl's exit codes (libcurl-errors(3))
    6: "name not found",
    7: "refused",
    18: "cut off",
    28: "timeout",
    35: "TLS failed",
    52: "closed without an answer",
    55: "connection reset",
    56: "connection reset",
    58: "TLS failed",
    60: "certificate not trusted",
}


@dataclass(frozen=True)
class Answer:
    """What came back: status 0 where no whole answer did, then with why in `reason`; tokens in it are masked.

    `reason` is the first 120 characters of the body of a refusal (status >= 400). `headers` have lower-case names.
    """

    status: int
    reason: str
    latency_ms: float
    headers: dict[str, str] = field(default_factory=dict)
    body: str = ""


def over_http(
    url: str,
    *,
    token: str | None = None,
    host: str | None = None,
    method: str = "GET",
    timeout: float = 5,
    agent: str = "",
    to: str = "",
    headers: Mapping[str, str] | None = None,
    data: str = "",
) -> Answer:
    """Ask on one fresh connection, without proxy or redirects; `timeout` in seconds holds for each step of it.

    Over https the server's certificate is verified (lib.trust), by the URL's host whatever `host` says.
    `agent` is the User-Agent: it identifies the request in access logs. `to` is an address to connect to in
    place of the URL's host, which is asked for and verified all the same (`--connect-to` of curl). `headers` are
    further headers, and `data` is the request's body.
    """
    place = urlsplit(url)
    connection = connect(place, timeout, to)
    target = (place.path or "/") + (f"?{place.query}" if place.query else "")
    start = time.perf_counter()
    try:
        sent = {**_headers(token, host, agent, headers), "Connection": "close"}
        connection.request(method, target, body=data.encode() or None, headers=sent)
        got = connection.getresponse()
        status, found, body = got.status, _joined(got.getheaders()), got.read().decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        return _none(why(error), _ms(start))
    finally:
        connection.close()
    return _answer(status, found, body, _ms(start))


def over_exec(
    execute: Callable[[list[str], str], tuple[str, int]],
    url: str,
    *,
    token: str | None = None,
    host: str | None = None,
    method: str = "GET",
    timeout: float = 5,
    agent: str = "",
    headers: Mapping[str, str] | None = None,
    data: str = "",
) -> Answer:
    """Ask from inside a pod: `execute(argv, stdin)` runs its curl (7.83 or newer) and gives (stdout, exit code).

    The token goes by standard input, never by argv. `timeout` in seconds is for the whole request. ClusterError
    where curl itself did not run.
    """
    mark = f"--{uuid.uuid4().hex}--"
    sent = _headers(token, host, agent, headers)
    ((body, about_json),) = run_curl(execute, _config(url, method, sent, timeout, mark, data), mark, 1)
    meta = json.loads(about_json, strict=False)
    about, latency = meta["curl"], round(meta["curl"]["time_total"] * 1000, 1)
    if about["exitcode"]:
        return _none(EXITS.get(about["exitcode"]) or about["errormsg"], latency)
    found = _joined((name, value) for name, values in meta["headers"].items() for value in values)
    return _answer(about["http_code"], found, body, latency)


def run_curl(
    execute: Callable[[list[str], str], tuple[str, int]], config: str, mark: str, replies: int
) -> list[tuple[str, str]]:
    """Run curl in a pod with a config of one or more requests.

    Args:
        execute: Runs a command with standard input in the pod; returns its output and exit code.
        config: curl's config. Each request's write-out ends its reply with trailer(mark, …).
        mark: A text that no reply contains.
        replies: The number of requests in the config.

    Returns:
        For each request, the reply as curl printed it, and curl's JSON about it.

    Raises:
        ClusterError: curl did not run, or stopped early.
    """
    output, code = execute([*CURL, str(len(config.encode()))], config)
    parts = output.split(mark)[:-1]
    if len(parts) != 2 * replies:
        raise ClusterError(
            f"expected {replies} answers of curl in the pod, got {len(parts) // 2}, exit code {code} and "
            f"{clean(output)[-REASON:]!r}; check that the pod is ready and that its image has curl."
        )
    return [(reply.removesuffix("\n"), about) for reply, about in zip(parts[::2], parts[1::2], strict=True)]


def trailer(mark: str, variables: str) -> str:
    """Return the write-out that ends a reply: the mark, JSON of these curl variables, and the mark again."""
    return f"\n{mark}{variables}\n{mark}"


def curl_settings(settings: Iterable[tuple[str, str]]) -> str:
    """Return settings as lines of curl's config; a setting without a value is a flag."""
    return "".join(f"{name} = {quoted(value)}\n" if value else f"{name}\n" for name, value in settings)


def port(url: SplitResult) -> int:
    """Return the port that a URL leads to: its own, or that of its scheme (RFC 9110, section 4.2)."""
    return url.port or (443 if url.scheme == "https" else 80)


def peer(answer: Answer) -> str:
    """Return the SPIFFE id of httpbin's caller, from the X-Forwarded-Client-Cert in its /headers; "" without one.

    Of several proxies' entries the last counts: the one of the connection that reached the pod.
    """
    try:
        headers = json.loads(answer.body)["headers"]
    except (ValueError, KeyError, TypeError):
        return ""
    values = next((value for name, value in headers.items() if name.lower() == "x-forwarded-client-cert"), "")
    text = values if isinstance(values, str) else ",".join(values)
    last = re.sub(r'"(\\.|[^"\\])*"', '""', text).rsplit(",", 1)[-1]  # a quoted Subject may hold anything
    return next((part[4:] for part in last.split(";") if part.upper().startswith("URI=")), "")


def quoted(value: str) -> str:
    """Return a value as curl's config file wants it, control characters that curl has an escape for among it."""
    for plain, written in (("\\", "\\\\"), ('"', '\\"'), ("\n", "\\n"), ("\r", "\\r"), ("\t", "\\t")):
        value = value.replace(plain, written)
    return f'"{value}"'


def why(error: Exception) -> str:
    """Return in a few words why no whole answer came."""
    kinds = (
        (http.client.RemoteDisconnected, "closed without an answer"),  # before its parent, the reset
        (socket.gaierror, "name not found"),
        (TimeoutError, "timeout"),
        (ConnectionRefusedError, "refused"),
        ((ConnectionResetError, BrokenPipeError), "connection reset"),
        (ssl.SSLCertVerificationError, "certificate not trusted"),
        (http.client.IncompleteRead, "cut off"),
        (ssl.SSLError, "TLS failed"),
    )
    return next((reason for kind, reason in kinds if isinstance(error, kind)), f"{type(error).__name__}: {error}")


def connect(url: SplitResult, timeout: float, to: str = "") -> http.client.HTTPConnection:
    """Return a connection to a URL's host that opens with its first request; over https the server is verified.

    Args:
        url: its scheme, host and port count.
        timeout: in seconds, of each step.
        to: an address to connect to in place of the host.
    """
    made: Any  # _create_connection, which --connect-to needs, is not among the typed attributes
    if url.scheme == "https":
        made = http.client.HTTPSConnection(url.hostname or "", url.port, timeout=timeout, context=trust_store.context())
    else:
        made = http.client.HTTPConnection(url.hostname or "", url.port, timeout=timeout)
    if to:
        made._create_connection = lambda asked, *rest: socket.create_connection((to, asked[1]), *rest)
    return made


def _headers(
    token: str | None, host: str | None, agent: str = "", more: Mapping[str, str] | None = None
) -> dict[str, str]:
    bearer = {} if token is None else {"Authorization": f"Bearer {_line(token)}"}
    own = bearer | ({"Host": _line(host)} if host else {}) | ({"User-Agent": _line(agent)} if agent else {})
    return own | {_line(name): _line(value) for name, value in (more or {}).items()}


def _config(url: str, method: str, headers: dict[str, str], timeout: float, mark: str, data: str = "") -> str:
    options = [("url", _line(url)), ("request", _line(method))]
    options += [("header", f"{name}: {value}") for name, value in headers.items()]
    options += [("data-raw", data)] if data else []
    options += [
        ("max-time", str(timeout)),
        ("noproxy", "*"),
        ("output", "-"),
        ("write-out", trailer(mark, '{"curl":%{json},"headers":%{header_json}}')),
    ]
    flags = ("silent", "show-error", "globoff", "path-as-is")
    return curl_settings([*options, *((flag, "") for flag in flags)])


def _line(value: str) -> str:
    if not value.isprintable():
        raise ValueError("expected a URL, token and host of one line each, got a control character; take it out.")
    return value


def _answer(status: int, headers: dict[str, str], body: str, latency: float) -> Answer:
    body = clean(body)  # httpbin echoes what it got
    reason = body[:REASON] if status >= 400 else ""
    return Answer(status, reason, latency, {name: clean(value) for name, value in headers.items()}, body)


def _none(reason: str, latency: float) -> Answer:
    return Answer(0, reason, latency)


def _joined(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for name, value in pairs:
        key = name.lower()
        headers[key] = f"{headers[key]}, {value}" if key in headers else value
    return headers


def _ms(start: float) -> float:
    return round((time.perf_counter() - start) * 1000, 1)
