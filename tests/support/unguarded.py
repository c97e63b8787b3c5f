"""Holes for a while, which the probes must find: httpbin without its AuthorizationPolicy, a mesh without STRICT."""

from collections.abc import Iterator
from contextlib import contextmanager

from lib.istio import policies
from lib.polling import wait
from lib.run import Run
from lib.steps import callers

KEPT = ("name", "namespace", "labels", "annotations")  # of the metadata; the API server makes the rest


@contextmanager
def unguarded(run: Run) -> Iterator[None]:
    """Delete the policy, and wait until a user gets in without a token; at the end put the policy back, and wait."""
    policy = run.cluster.get(policies.API, policies.RULES, "httpbin", run.params.namespace)
    metadata = {key: value for key, value in policy["metadata"].items() if key in KEPT}
    user = callers.caller(run, "user", "httpbin")
    run.delete(policy)
    try:
        wait("the hole", user.status, lambda status: status == 200, streak=10, deadline=60, pause=0.1)
        yield
    finally:
        run.apply([{**policy, "metadata": metadata}])
        wait("the policy", user.status, lambda status: status == 403, streak=20, deadline=60, pause=0.1)


def permit_plain_text(run: Run) -> None:
    """Let the mesh take plain text beside mutual TLS."""
    (strict,) = run.load("peer-authentication.yaml")
    run.apply([{**strict, "spec": {"mtls": {"mode": "PERMISSIVE"}}}])


@contextmanager
def permissive(run: Run) -> Iterator[None]:
    """Let the mesh take plain text, and wait until a pod without a sidecar gets in; at the end put STRICT back."""
    (strict,) = run.load("peer-authentication.yaml")
    outsider = callers.caller(run, "outsider", "httpbin")
    permit_plain_text(run)
    try:
        wait("the hole", outsider.status, bool, streak=10, deadline=60, pause=0.1)
        yield
    finally:
        run.apply([strict])
        wait("STRICT", outsider.status, lambda status: not status, streak=20, deadline=60, pause=0.1)
