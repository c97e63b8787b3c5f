"""What external authorizers know about a request: the decision in their log, by the request's id, or why none is ready.

A decision is a line of JSON with `decision_id`, `engine`, `allowed`, `rule`, `reason`, `wants` and `microseconds`, or
`error`, as the runbook's authorizer writes it. Another authorizer's log is not read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from lib.diagnose.pods import application_container, workload_of
from lib.errors import RunbookError
from lib.istio import routes
from lib.kubernetes.cluster import Cluster


@dataclass(frozen=True)
class Authorizer:
    """An authorizer of the mesh: its provider's name, its Service, why no pod is ready ("" if one is), its decision."""

    provider: str
    service: str
    problem: str = ""
    decision: Mapping[str, Any] | None = None


def collect(
    cluster: Cluster, pods: Sequence[Mapping], providers: Mapping[str, str], request_id: str, since_seconds: int
) -> list[Authorizer]:
    """Return the mesh's authorizers that have a Service, the first with a decision about this request first.

    Args:
        cluster: The cluster.
        pods: Its pods.
        providers: The Service's host of each provider, by the provider's name.
        request_id: The request's id.
        since_seconds: How much of a log to read.
    """
    services, found = cluster.items("v1", "Service"), []
    for provider, host in providers.items():
        service = routes.by_host(services, host, "")
        if not service:
            continue
        metadata, workload = service["metadata"], workload_of(routes.selected(pods, service))
        problem = workload.problem if workload else "its Service selects no pod"
        decision = None
        if workload and not problem:
            with suppress(RunbookError):
                container = application_container(workload, pods)
                log = cluster.logs(workload.pod, workload.namespace, container, since_seconds)
                decision = _decision(log, request_id)
        found.append(Authorizer(provider, f"{metadata['namespace']}/{metadata['name']}", problem, decision))
    return sorted(found, key=lambda one: one.decision is None)


def _decision(log: str, request_id: str) -> Mapping[str, Any] | None:
    for line in log.splitlines():
        if request_id and request_id in line:
            with suppress(ValueError):
                found = json.loads(line)
                if isinstance(found, dict) and found.get("decision_id") == request_id:
                    return found
    return None
