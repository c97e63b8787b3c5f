"""Explain one request: who answered it, why, and what to change, with the evidence.

from lib import diagnose
print(diagnose.ask(run.cluster, url, token=token))
"""

from __future__ import annotations

from collections.abc import Mapping

from lib.diagnose import allowed, authorization, connectivity, jwt, login, refusers
from lib.diagnose.collect import collect
from lib.diagnose.diagnosis import Diagnosis, explain
from lib.diagnose.evidence import Evidence
from lib.diagnose.request import Request
from lib.kubernetes.cluster import Cluster

CAUSES = (
    login.find_cause,
    refusers.find_cause,
    connectivity.find_cause,
    jwt.find_cause,
    authorization.find_cause,
    refusers.filter_answer,
    allowed.find_cause,
)


def ask(
    cluster: Cluster,
    url: str,
    token: str | None = None,
    caller: str = "",
    host: str = "",
    method: str = "GET",
    to: str = "",
    headers: Mapping[str, str] | None = None,
    data: str = "",
) -> Diagnosis:
    """Send one request; return who refused it (or let it through), why, and what to change.

    Args:
        cluster: The cluster that the URL leads to. Nothing in it is changed.
        url: As the caller writes it, for example `http://httpbin.foo:8000/headers`.
        token: A bearer token. The diagnosis never contains it.
        caller: The pod that sends the request: its app label, or namespace/app. "" sends it from this machine.
        host: The Host header, if it is not the URL's host.
        method: The HTTP method.
        to: An address to connect to in place of the URL's host.
        headers: Further headers. The diagnosis contains no value of a header that may be a secret.
        data: The request's body.

    Raises:
        RunbookError: The caller's pod does not exist.
    """
    return diagnose(collect(cluster, Request(url, token, host, method, to, headers or {}, data), caller))


def diagnose(evidence: Evidence) -> Diagnosis:
    """Return the first cause that explains the evidence."""
    for find_cause in CAUSES:
        if found := find_cause(evidence):
            return found
    why = "no policy refused the request: this is the application's own answer"
    return explain(evidence, "application", why, "look into the application's log")
