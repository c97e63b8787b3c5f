"""Many requests from a pod with one run of curl, each sent as it is written."""

from __future__ import annotations

import json
import uuid

from lib.http_client import curl_settings, run_curl, trailer


def send(execute, requests: list[tuple], variables: str) -> list[tuple[dict, str]]:
    """Return for each request what curl says of the answer, and its body.

    Args:
        execute: Runs a command in the pod (Cluster.execute).
        requests: The URL with the host and port, the method, the path and the headers by name of each.
        variables: The JSON of curl's variables that comes back for each.
    """
    mark = f"--{uuid.uuid4().hex}--"
    parts = [
        [("url", url), ("request-target", path), ("request", method),
         *(("header", f"{name}: {value}" if value else f"{name};") for name, value in headers.items()),
         ("max-time", "10"), ("output", "-"), ("write-out", trailer(mark, variables)), ("silent", ""),
         ("path-as-is", ""), ("noproxy", "*")]
        for url, method, path, headers in requests
    ]  # fmt: skip
    config = "next\n".join(curl_settings(part) for part in parts)
    return [(json.loads(about), body) for body, about in run_curl(execute, config, mark, len(parts))]
