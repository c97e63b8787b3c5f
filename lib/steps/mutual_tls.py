"""Steps 08 and 09: what mutual TLS must do on the receiving side and on the calling side."""

from __future__ import annotations

from lib.istio import proxy
from lib.kubernetes.cluster import Execute
from lib.run import Run
from lib.steps import endpoints

NETWORKING = "networking.istio.io/v1"


def check_certificates(run: Run, apps: list[str]) -> None:
    """Record whether each app's sidecar presents a certificate with the SPIFFE id of its service account."""
    for app in apps:
        expected = f"spiffe://{endpoints.principal(run, run.params.namespace, app)}"
        run.check(f"{app}'s certificate", True, expected in proxy.spiffe_ids(_proxy(run, app)), expected)
    run.fact("envoy", proxy.envoy_version(_proxy(run, apps[0])))


def check_ready(run: Run, app: str) -> None:
    """Record whether an app's pod is ready: the kubelet's probes still reach it."""
    run.check("pods stay ready under STRICT", True, bool(run.cluster.pod(f"app={app}", run.params.namespace)))


def check_no_wide_rule(run: Run) -> None:
    """Record whether a DestinationRule is for a wildcard host: its `tls` block would override auto mTLS."""
    rules = run.cluster.items(NETWORKING, "DestinationRule")
    wide = [rule["metadata"]["name"] for rule in rules if rule["spec"]["host"].startswith("*")]
    run.check("no DestinationRule is wider than a host", [], wide, "delete it: it overrides auto mTLS")


def check_still_valid(run: Run, file: str) -> None:
    """Record whether the API server accepts an object of notebooks/manifests (a dry run: nothing is kept)."""
    run.check("the object is valid today, if needless", "", run.cluster.try_apply(run.load(file)[0]))


def _proxy(run: Run, app: str) -> Execute:
    return run.cluster.execute(f"app={app}", run.params.namespace, "istio-proxy")
