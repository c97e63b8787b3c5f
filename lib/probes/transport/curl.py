"""Requests from inside a pod: many in one run of its curl, each on a fresh connection, as raw as curl lets them be."""

from __future__ import annotations

import json
import random
import re
import uuid
from collections.abc import Iterator

from lib.errors import ClusterError
from lib.http_client import CURL, quoted
from lib.kubernetes.cluster import Execute
from lib.probes.transport.messages import Reply, Request, Transport
from lib.probes.transport.sockets import LIMIT, head
from lib.redact import clean

BATCH = 40  # requests of one run of curl
FIRST_PORT, LAST_PORT = 32768, 60999  # of connections from the pod: Linux' own range
ROOM = 1000  # ports that are left to choose from at least

EXITS = {  # of curl, in words of answers.MEANINGS
    6: "refused",
    7: "refused",
    28: "timeout",
    35: "alert",
    52: "closed",
    55: "reset",
    56: "reset",
    58: "alert",
    60: "alert",
}

Options = tuple[tuple[str, str], ...]


def over_curl(execute: Execute, url: str, timeout: float = 5, batch: int = BATCH, options: Options = ()) -> Transport:
    """Return a way to `url` (scheme, host and port) from a pod: `execute(argv, stdin)` runs its curl, 7.83 or newer.

    `timeout` in seconds is for one request. `options` are more of curl's, such as ("cert", "/etc/cert.pem") or
    ("insecure", ""). All goes by standard input, no token by argv. One request that fails leaves the others alone;
    ClusterError where curl itself did not run. curl cannot carry NUL, and sends what is not ASCII as UTF-8.
    """

    def way(requests: list[Request]) -> list[Reply]:
        groups = [requests[start : start + batch] for start in range(0, len(requests), batch)]
        return [reply for group in groups for reply in _batch(execute, url, group, timeout, options)]

    return way


def config(
    url: str, requests: list[Request], timeout: float, mark: str, options: Options = (), port: int = FIRST_PORT
) -> str:
    """Return curl's config for the requests; after each reply it writes `mark` and what it knows as JSON.

    The first request goes from the pod's `port` or one above it, each further one from the next or above that.
    """
    parts = [_one(url, request, start, timeout, mark, options) for start, request in enumerate(requests, port)]
    return "next\n".join(parts)


def _one(url: str, request: Request, port: int, timeout: float, mark: str, options: Options) -> str:
    settings = [
        ("url", url),
        ("request-target", request.target),
        # A range of ports of its own for each, since curl takes up a connection again only where these are the same
        ("local-port", f"{port}-{LAST_PORT}"),
        ("max-time", str(timeout)),
        ("noproxy", "*"),
        ("output", "-"),
        ("write-out", f"\n{mark}%{{json}}\n{mark}"),
        *([] if request.method == "HEAD" else [("request", request.method)]),
        *(("header", line) for line in _lines(request)),
        *([("data-raw", request.body)] if request.body else []),
        *options,
    ]
    flags = ["silent", "include", "globoff", "path-as-is", *_version(request.version)]
    flags += ["head"] if request.method == "HEAD" else []
    return "".join(f"{name} = {quoted(value)}\n" if value else f"{name}\n" for name, value in settings) + "".join(
        f"{flag}\n" for flag in flags
    )


def _lines(request: Request) -> Iterator[str]:
    """Yield the header lines in curl's own writing: `Name;` is a header without value, `Name:` takes curl's own out."""
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
    # Another port each time: for two minutes a node sends the same one on to a pod that is no more
    port = random.randrange(FIRST_PORT, LAST_PORT - ROOM)
    text = config(url, requests, timeout, mark, options, port)
    said, code = execute([*CURL, str(len(text.encode()))], text)
    parts = said.split(mark)[:-1]
    if len(parts) != 2 * len(requests):
        raise ClusterError(
            f"expected {len(requests)} answers of curl in the pod, got {len(parts) // 2}, exit code {code} and "
            f"{clean(said)[-120:]!r}; check that the pod is ready and that its image has curl."
        )
    return [
        _reply(shown, json.loads(about, strict=False)) for shown, about in zip(parts[::2], parts[1::2], strict=True)
    ]


def _reply(shown: str, about: dict) -> Reply:
    latency = round(about["time_total"] * 1000, 1)
    blocks = re.split(r"\r?\n\r?\n", shown.removesuffix("\n"), maxsplit=1)
    while len(blocks) == 2 and re.match(r"HTTP/\S+ 1(?!01)\d\d", blocks[0]):  # 100 Continue and its like
        blocks = re.split(r"\r?\n\r?\n", blocks[1], maxsplit=1)
    lines = blocks[0].splitlines() or [""]
    status, headers = head(lines)
    if not status:
        return Reply(0, latency_ms=latency, reason=_why(about))
    return Reply(status, lines[0], headers, (blocks + [""])[1][:LIMIT], latency)


def _why(about: dict) -> str:
    said = (about.get("errormsg") or "").lower()
    words = {"reset by peer": "reset", "alert": "alert", "connection refused": "refused"}
    told = next((word for text, word in words.items() if text in said), "")
    return told or EXITS.get(about["exitcode"], "closed")
