"""Callers of a workload: the user outside, and pods inside the cluster with and without a sidecar."""

from __future__ import annotations

from dataclasses import dataclass

from lib import diagnose
from lib.errors import RunbookError
from lib.http_client import Answer, over_exec, over_http
from lib.istio import installation
from lib.kubernetes.cluster import Execute
from lib.run import Run
from lib.steps import endpoints


def executors(run: Run) -> dict[str, Execute]:
    """Return, by caller inside the cluster, a function that runs a command in its pod."""
    return {name: run.cluster.execute(f"app={name}", home, "curl") for name, home in _namespaces(run).items()}


@dataclass(frozen=True)
class Caller:
    """One who asks a workload, each time on a fresh connection: from here as `host`, or from a pod by its curl."""

    run: Run
    url: str
    host: str = ""
    pod: str = ""  # namespace/app
    execute: Execute | None = None

    def __call__(self, token: str | None) -> Answer:
        """Return the answer to a request with this token, or without one."""
        if self.execute:
            return over_exec(self.execute, self.url, token=token)
        return over_http(self.url, token=token, host=self.host)

    def why(self, token: str | None) -> str:
        """Return in three sentences who refused it, why, and what to change (lib.diagnose); why that cannot be told."""
        try:
            return diagnose.ask(self.run.cluster, self.url, token, self.pod, self.host).one_line()
        except RunbookError as error:
            return f"why cannot be told: {error}"


def caller(run: Run, name: str, workload: str, path: str = "/headers") -> Caller:
    """Return the caller `name` of a workload: "user" asks through the ingress gateway, the others from their pods."""
    if name == "user":
        return Caller(run, f"{endpoints.ingress_url(run)}{path}", f"{workload}.example")
    url = f"http://{workload}.{run.params.namespace}:8000{path}"
    namespace = _namespaces(run)[name]
    return Caller(run, url, pod=f"{namespace}/{name}", execute=run.cluster.execute(f"app={name}", namespace, "curl"))


def check_status(run: Run, name: str, caller: Caller, token: str | None, expected: int, reason: str = "") -> None:
    """Ask until the status is the expected one, and record that; where it is not, with who refused it and why."""
    ask, told = lambda: caller(token).status, lambda: caller.why(token)
    run.check_until(name, expected, ask, run.params.streak, reason, told)


def _namespaces(run: Run) -> dict[str, str]:
    return {"sleep": run.params.namespace, "visitor": run.params.namespace, "outsider": installation.ROOT_NAMESPACE}
