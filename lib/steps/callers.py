"""Callers of a workload: the user outside, and pods inside the cluster with and without a sidecar."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from lib import diagnose
from lib.diagnose.diagnosis import Diagnosis
from lib.errors import RunbookError
from lib.http_client import Answer, over_exec, over_http, peer
from lib.istio import installation
from lib.kubernetes.cluster import Execute
from lib.polling import PAUSE
from lib.run import Run
from lib.steps import endpoints

# Causes by policies that stand as they are, not by some that are on their way to the proxies. A request that is allowed
# is not among them: its token may end in a minute
STANDING = {"nothing-demanded", "selector", "wrong-namespace", "deny-all", "caller-not-listed", "claim-missing",
            "path-not-allowed"}  # fmt: skip


@dataclass(frozen=True)
class Caller:
    """A caller of one URL, on a fresh connection each time.

    Attributes:
        host: the Host header of a request from this machine.
        pod: namespace/app of a pod that asks.
        execute: runs curl in that pod; None for a request from this machine.
    """

    run: Run
    url: str
    host: str = ""
    pod: str = ""
    execute: Execute | None = None

    def __call__(self, token: str | None = None) -> Answer:
        """Return the answer to a request with this token, or without a token."""
        if self.execute:
            return over_exec(self.execute, self.url, token=token)
        return over_http(self.url, token=token, host=self.host)

    def status(self, token: str | None = None) -> int:
        """Return the status of the answer, 0 if no HTTP came back."""
        return self(token).status

    def reason(self, token: str | None = None) -> str:
        """Return why the request was refused: the answer's body, or what ended the connection."""
        return self(token).reason

    def why(self, token: str | None) -> str:
        """Return three sentences: who refused the request, why, and what to change (lib.diagnose)."""
        try:
            return self._diagnosis(token).one_line()
        except RunbookError as error:
            return f"no diagnosis: {error}"

    def hopeless(self, token: str | None, expected: int) -> bool:
        """Return whether the policies demand another answer than this status, so that no further try can help."""
        try:
            found = self._diagnosis(token)
        except RunbookError:
            return False
        return stands(found, expected)

    def _diagnosis(self, token: str | None) -> Diagnosis:
        return diagnose.ask(self.run.cluster, self.url, token, self.pod, self.host)


def stands(found: Diagnosis, expected: int) -> bool:
    """Return whether a diagnosis is of another status than this, and by policies that stand as they are."""
    return found.cause in STANDING and f": {expected}" not in found.refused


def caller(run: Run, name: str, workload: str, path: str = "/headers") -> Caller:
    """Return a caller of a workload: "user" asks through the ingress gateway; the others are pods that ask directly."""
    if name == "user":
        return Caller(run, f"{endpoints.ingress_url(run)}{path}", f"{workload}.example")
    return from_pod(run, name, f"http://{workload}.{run.params.namespace}:8000{path}")


def from_pod(run: Run, name: str, url: str) -> Caller:
    """Return a caller that asks any URL from inside a pod: "sleep", "visitor" or "outsider"."""
    namespace = _namespaces(run)[name]
    return Caller(run, url, pod=f"{namespace}/{name}", execute=run.cluster.execute(f"app={name}", namespace, "curl"))


def executors(run: Run) -> dict[str, Execute]:
    """Return, for each caller inside the cluster, a function that runs a command in its pod."""
    return {name: run.cluster.execute(f"app={name}", home, "curl") for name, home in _namespaces(run).items()}


def check_status(
    run: Run, name: str, caller: Caller, token: str | None, expected: int, reason: str = "", *, pause: float = PAUSE
) -> None:
    """Ask until the status is `expected`, and record it. A red check says who refused the request, and why."""
    why, hopeless = partial(caller.why, token), partial(caller.hopeless, token, expected)
    ask = partial(caller.status, token)
    run.check_until(name, expected, ask, run.params.streak, reason, why, pause=pause, hopeless=hopeless)


def check_statuses(run: Run, *rows: tuple[str, Caller, str | None, int, str], pause: float = PAUSE) -> None:
    """Check several requests at once: for each its name, caller, token, expected status, and a red check's reason."""
    with ThreadPoolExecutor(len(rows)) as pool:
        list(pool.map(lambda row: check_status(run, *row, pause=pause), rows))


def check_reason(run: Run, name: str, caller: Caller, token: str | None, expected: str) -> None:
    """Ask until the reason of the refusal is `expected`, and record it."""
    run.check_until(name, expected, lambda: caller.reason(token), run.params.streak, why=lambda: caller.why(token))


def check_peer(run: Run, name: str, caller: Caller, token: str | None, account: str) -> None:
    """Ask until httpbin reports the caller's SPIFFE id, and record it.

    httpbin echoes the header X-Forwarded-Client-Cert. Its sidecar writes there the identity from the certificate that
    the sidecar verified.
    """
    expected = f"spiffe://{endpoints.principal(run, run.params.namespace, account)}"
    run.check_until(name, expected, lambda: peer(caller(token)), run.params.streak, why=lambda: caller.why(token))


def _namespaces(run: Run) -> dict[str, str]:
    return {"sleep": run.params.namespace, "visitor": run.params.namespace, "outsider": installation.ROOT_NAMESPACE}
