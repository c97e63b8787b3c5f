"""Sends requests from inside a pod: many in one run of its curl, each on a new connection, as raw as curl allows."""

from __future__ import annotations

import json
import random
import re
import uuid
from collections.abc import Iterator

from lib.http_client import EXITS, curl_settings, run_curl, trailer
from lib.kubernetes.cluster import Execute
from lib.probes.transport.messages import Reply, Request, Transport, head
from lib.probes.transport.sockets import LIMIT

BATCH = 40  # requests in one run of curl
FIRST_PORT, LAST_PORT = 32768, 60999  # local ports: Linux's default range (net.ipv4.ip_local_port_range)
ROOM = 1000  # ports above the first one, at least

WORDS = {  # http_client's reasons, as words of answers.MEANINGS
    "name not found": "refused",
    "refused": "refused",
    "timeout": "timeout",
    "TLS failed": "alert",
    "certificate not trusted": "alert",
    "connection reset": "reset",
}

Options = tuple[tuple[str, str], ...]


def over_curl(execute: Execute, url: str, timeout: float = 5, batch: int = BATCH, options: Options = ()) -> Transport:
    """Return a transport from a pod to `url`.

    Requests go to curl by standard input, never by argv. curl cannot send NUL, and sends non-ASCII text as UTF-8. The
    transport raises ClusterError if curl itself did not run; a request that fails does not affect the others.

    Args:
        execute: Runs a command with standard input in the pod, which needs curl 7.83 or newer.
        url: Scheme, host and port.
        timeout: Seconds for one request.
        batch: The number of requests in one run of curl.
        options: Further settings of curl, such as ("cert", "/etc/cert.pem") or ("insecure", "").
    """

    def send(requests: list[Request]) -> list[Reply]:
        groups = [requests[start : start + batch] for start in range(0, len(requests), batch)]
        return [reply for group in groups for reply in _batch(execute, url, group, timeout, options)]

    return send


def config(
    url: str, requests: list[Request], timeout: float, mark: str, options: Options = (), port: int = FIRST_PORT
) -> str:
    """Return curl's config for the requests; curl ends each reply with `mark` and JSON about the reply.

    The first request uses the local `port` or a higher one, and each further request starts one port higher.
    """
    parts = [_one(url, request, start, timeout, mark, options) for start, request in enumerate(requests, port)]
    return "next\n".join(parts)


def _one(url: str, request: Request, port: int, timeout: float, mark: str, options: Options) -> str:
    settings = [
        ("url", url),
        ("request-target", request.target),
        # Each request has another range of ports, since curl reuses a connection only with an equal range
        ("local-port", f"{port}-{LAST_PORT}"),
        ("max-time", str(timeout)),
        ("noproxy", "*"),
        ("output", "-"),
        ("write-out", trailer(mark, "%{json}")),
        *([] if request.method == "HEAD" else [("request", request.method)]),
        *(("header", line) for line in _lines(request)),
        *([("data-raw", request.body)] if request.body else []),
        *options,
    ]
    flags = ["silent", "include", "globoff", "path-as-is", *_version(request.version)]
    flags += ["head"] if request.method == "HEAD" else []
    return curl_settings([*settings, *((flag, "") for flag in flags)])


def _lines(request: Request) -> Iterator[str]:
    """Yield the header lines in curl's syntax: `Name;` is a header without value, `Name:` removes curl's default."""
    names = {line.partition(":")[0].strip().lower() for line in request.headers}
    for line in request.headers:
        name, _, value = line.partition(":")
        yield line if value.strip() else f"{name};"
    for name in ("Host", "User-Agent", "Accept", *(["Content-Type"] if request.body else [])):
        if name.lower() not in names:
            yield f"{name}:"


def _version(version: str) -> list[str]:
    return {"HTTP/1.0": ["http1.0"], "HTTP/2": ["http2-prior-knowledge"]}.get(version, ["http1.1"])


def _batch(execute: Execute, url: str, requests: list[Request], timeout: float, options: Options) -> list[Reply]:
    mark = f"--{uuid.uuid4().hex}--"
    # A random port: for two minutes after a pod is deleted, a node still forwards that pod's old local ports to it
    port = random.randrange(FIRST_PORT, LAST_PORT - ROOM)
    text = config(url, requests, timeout, mark, options, port)
    replies = run_curl(execute, text, mark, len(requests))
    return [_reply(printed, json.loads(about, strict=False)) for printed, about in replies]


def _reply(printed: str, about: dict) -> Reply:
    latency = round(about["time_total"] * 1000, 1)
    blocks = re.split(r"\r?\n\r?\n", printed, maxsplit=1)
    while len(blocks) == 2 and re.match(r"HTTP/\S+ 1(?!01)\d\d", blocks[0]):  # interim responses, such as 100 Continue
        blocks = re.split(r"\r?\n\r?\n", blocks[1], maxsplit=1)
    lines = blocks[0].splitlines() or [""]
    status, headers = head(lines)
    if not status:
        return Reply(0, latency_ms=latency, reason=_why(about))
    return Reply(status, lines[0], headers, (blocks + [""])[1][:LIMIT], latency)


def _why(about: dict) -> str:
    message = (about.get("errormsg") or "").lower()
    causes = {"reset by peer": "reset", "alert": "alert", "connection refused": "refused"}
    cause = next((word for text, word in causes.items() if text in message), "")
    return cause or WORDS.get(EXITS.get(about["exitcode"], ""), "closed")
