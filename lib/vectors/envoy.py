"""A stand-alone Envoy on loopback: its JWT filter before a direct response, with one set of keys for each path."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lib.errors import RunbookError
from lib.polling import until

LOOPBACK = "127.0.0.1"
SKEW = 60  # seconds, Envoy's default; Istio does not change it
ANY_TIME = 2**32 - 1  # seconds, the maximum of the field: 136 years, more than the age of any example
START = 20  # seconds
REFUSED = re.compile(r"Provider '(?P<name>[^']+)' in jwt_authn config has invalid local jwks: (?P<reason>.*)")
FILTERS = "type.googleapis.com/envoy.extensions.filters"
EXTENSION = {
    "manager": f"{FILTERS}.network.http_connection_manager.v3.HttpConnectionManager",
    "jwt": f"{FILTERS}.http.jwt_authn.v3.JwtAuthentication",
    "router": f"{FILTERS}.http.router.v3.Router",
}


@dataclass(frozen=True)
class KeySet:
    """A set of keys with a name: a request to `/<name>` needs a token signed by one of them.

    `jwks` is the text in Envoy's configuration; `skew` is the tolerance in seconds for `exp` and `nbf`.
    """

    name: str
    jwks: str
    skew: int = SKEW


@contextmanager
def running(program: Path, sets: Iterable[KeySet], start: float = START) -> Iterator[str]:
    """Run the Envoy `program` with these sets of keys until the block ends; yield its address (host:port).

    Raises:
        RunbookError: Envoy does not listen within `start` seconds; the message has the log's last line.
    """
    port = free_port()
    with started(program, configuration(sets, port), port, start):
        yield f"{LOOPBACK}:{port}"


@contextmanager
def started(program: Path, bootstrap: Mapping[str, Any], port: int, start: float = START) -> Iterator[None]:
    """Run the Envoy `program` with a bootstrap until the block ends, which begins when Envoy listens at the port.

    Envoy has one worker and no admin port. If the machine has setpriv, Envoy also ends when this process ends.

    Raises:
        RunbookError: Envoy does not listen within `start` seconds; the message has the log's last line.
    """
    with tempfile.TemporaryDirectory(prefix="bare-envoy-") as folder:
        log = Path(folder) / "envoy.log"
        config = Path(folder) / "envoy.json"
        config.write_text(json.dumps(bootstrap))
        with log.open("w") as out:
            process = subprocess.Popen(
                _command(program, config), stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=folder
            )
        try:
            _wait(process, port, log, start)
            yield
        finally:
            process.kill()
            process.wait()


def loadable(program: Path, sets: Iterable[KeySet]) -> tuple[list[KeySet], dict[str, str]]:
    """Return the sets that Envoy accepts, and its reason for each set that it refuses, by name.

    Envoy refuses its whole configuration for one set without a usable key. Each try finds one such set.
    """
    left, refused = {one.name: one for one in sets}, {}
    while refusal := _refusal(program, left.values()):
        name, reason = refusal
        refused[name] = reason
        del left[name]
    return list(left.values()), refused


def _refusal(program: Path, sets: Iterable[KeySet]) -> tuple[str, str] | None:
    with tempfile.TemporaryDirectory(prefix="bare-envoy-") as folder:
        config = Path(folder) / "envoy.json"
        config.write_text(json.dumps(configuration(sets, 0)))
        command = [*_command(program, config), "--mode", "validate"]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=START)
    found = REFUSED.search(done.stdout + done.stderr)
    if not done.returncode:
        return None
    if not found:
        raise RunbookError(f"Envoy refuses its configuration: {(done.stderr or done.stdout)[-300:]}")
    return found["name"], found["reason"].strip()


def configuration(sets: Iterable[KeySet], port: int) -> dict:
    """Return Envoy's bootstrap: one listener on loopback, which answers 200 to what the JWT filter lets through."""
    sets = list(sets)
    routes = [{"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": {"inline_string": "passed\n"}}}]
    manager = {
        "@type": EXTENSION["manager"],
        "stat_prefix": "bare",
        "http_filters": [
            {"name": "jwt", "typed_config": _filter(sets)},
            {"name": "router", "typed_config": {"@type": EXTENSION["router"]}},
        ],
        "route_config": {"virtual_hosts": [{"name": "any", "domains": ["*"], "routes": routes}]},
    }
    listener = {
        "name": "bare",
        "address": {"socket_address": {"address": LOOPBACK, "port_value": port}},
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }
    return {"static_resources": {"listeners": [listener]}}


def _filter(sets: list[KeySet]) -> dict:
    """Return the JWT filter. It requires no issuer and no audience, since the vectors test signatures."""
    providers = {
        one.name: {"local_jwks": {"inline_string": one.jwks}, "clock_skew_seconds": one.skew, "forward": False}
        for one in sets
    }
    rules = [{"match": {"path": f"/{one.name}"}, "requires": {"provider_name": one.name}} for one in sets]
    return {"@type": EXTENSION["jwt"], "providers": providers, "rules": rules}


def _command(program: Path, config: Path) -> list[str]:
    bound = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
    options = ["--concurrency", "1", "--disable-hot-restart", "--log-level", "error"]
    return [*bound, str(program), "-c", str(config), *options]


def _wait(process: subprocess.Popen, port: int, log: Path, seconds: float) -> None:
    until(lambda: process.poll() is not None or _listens(port), deadline=seconds, pause=0.05)
    if process.poll() is not None or not _listens(port):
        lines = log.read_text(errors="replace").splitlines() if log.exists() else []
        last = lines[-1][:300] if lines else "nothing in its log"
        raise RunbookError(
            f"Envoy does not listen on {LOOPBACK}:{port} after {seconds} s. Check the program. Its log: {last}"
        )


def _listens(port: int) -> bool:
    with socket.socket() as one:
        one.settimeout(1)
        return one.connect_ex((LOOPBACK, port)) == 0


def free_port() -> int:
    """Return a port of loopback that no process listens at."""
    with socket.socket() as one:
        one.bind((LOOPBACK, 0))
        return one.getsockname()[1]
