"""Callers inside a cluster of the fleet: two pods for as long as their probes take, in a namespace of their own.

image/fleet-callers.yaml makes the namespace, the pods' accounts and the rights. One pod has a sidecar: its account has
the name of one that Figure 1 lets in, in another namespace. The other pod has no sidecar.
"""

from __future__ import annotations

import re
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from lib.errors import ClusterError
from lib.fleet.standing import START, reason
from lib.istio import proxy
from lib.istio.access_log import PROXY
from lib.kubernetes import manifests
from lib.kubernetes.cluster import Cluster, Execute
from lib.kubernetes.status import is_ready
from lib.names import CALLERS
from lib.polling import wait
from lib.probes.model import load
from lib.probes.reporting.results import Result
from lib.probes.runner import Target, run_probes
from lib.probes.scenarios import peers
from lib.probes.targets import remote
from lib.probes.transport.curl import over_curl
from lib.run import MANIFESTS

SLEEP = "sleep"  # the account and the app of the pod with a sidecar
PODS = {"stranger": SLEEP, "outsider": "outsider"}  # their accounts and apps, by the callers' names in the tables
LIFETIME = 180  # seconds until Kubernetes ends a pod that nobody has deleted; image/fleet-callers.yaml demands it
LABEL = "runbook/fleet"  # of the pods; its value is the fleet's name
GONE = 60  # seconds that the deletion of pods may take
# From another service of the mesh, and from a pod with no certificate or a worthless one. They need no other object
PROBES = ("A06", "A06b", "A06c", "G01a", "G01b", "G01c", "G02", "G03", "G04a", "G04b")
INSIDE = re.compile(r"http://([a-z0-9-]+\.([a-z0-9-]+)[a-z0-9.-]*:\d{1,5})")  # <service>.<namespace>[.…]:<port>
NO_PLACE = "Apply image/fleet-callers.yaml to this cluster."


def ask(cluster: Cluster, image: str, fleet: str, inside: str, given: remote.RemoteSettings) -> list[Result]:
    """Send the probes between workloads from pods of their own, and delete the pods; return the results.

    Args:
        cluster: Where the pods are made.
        image: The pods' image, which has curl.
        fleet: The fleet's name.
        inside: The workload's URL inside the cluster, as in http://httpbin.foo:8000.
        given: The mesh's settings as the probes from outside have them.

    Raises:
        ClusterError: `inside` is no such URL, the pods cannot be made, or a probe got no answer because of an error.
    """
    if not (place := INSIDE.fullmatch(inside)):
        raise ClusterError(f"expected the workload's URL in the ConfigMap mesh, got {inside!r}. Run make watch again.")
    host, home = place.groups()
    token = remote.token_source(given)
    probes = [probe.model_copy(update={"path": remote.path_of(probe, given)}) for probe in load() if probe.id in PROBES]
    with standing(cluster, image, fleet) as labels:
        execute = {name: cluster.execute(of_pod, CALLERS, "curl") for name, of_pod in labels.items()}
        sidecar = cluster.execute(labels["stranger"], CALLERS, PROXY)
        address, (own, *_) = endpoint(sidecar, host), proxy.spiffe_ids(sidecar)
        identity = own.replace(f"/ns/{CALLERS}/", f"/ns/{home}/")  # the account that Figure 1 lets in
        scenarios = peers.without_authority(lambda: execute["outsider"], lambda _: address, identity)
        target = Target(given.profile, host, {name: over_curl(run, inside) for name, run in execute.items()})
        found = run_probes(probes, [target], token, scenarios=scenarios, retry=remote.RETRY)
    if unasked := [one for one in found if not one.got]:
        raise ClusterError(f"A caller in {CALLERS} could not send {unasked[0].id}: {unasked[0].note}")
    return found


@contextmanager
def standing(cluster: Cluster, image: str, fleet: str, start: float = START) -> Iterator[dict[str, str]]:
    """Make the pods, and yield their labels by the callers' names when they are ready; delete them at the end.

    They have `start` seconds to get ready. SIGTERM ends this process with their deletion. Pods that a killed index left
    are deleted first.
    """
    previous = signal.signal(signal.SIGTERM, lambda *_: sys.exit("The index was stopped (SIGTERM)."))
    try:
        _remove_earlier(cluster, fleet)
        try:
            for app in PODS.values():
                _create(cluster, pod(app, image, fleet))
            wait("the callers to be ready", lambda: _missing(cluster, fleet), lambda text: not text, deadline=start)
            yield {name: f"app={app},{LABEL}={fleet}" for name, app in PODS.items()}
        finally:
            _delete(cluster, fleet)
    finally:
        signal.signal(signal.SIGTERM, previous)


def pod(app: str, image: str, fleet: str) -> dict:
    """Return a caller's pod: that of the runbook's callers, which ends by itself and has no token of the API."""
    inject = str(app == SLEEP).lower()
    made = manifests.load(MANIFESTS / "caller.yaml", name=app, home=CALLERS, inject=inject, sleep_image=image)
    (template,) = (one["spec"]["template"] for one in made if one["kind"] == "Deployment")
    metadata = {**template["metadata"], "name": f"{app}-{fleet}", "namespace": CALLERS}
    metadata["labels"] = {**metadata["labels"], LABEL: fleet}
    ends = {"restartPolicy": "Never", "activeDeadlineSeconds": LIFETIME, "automountServiceAccountToken": False}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {**template["spec"], **ends}}


def endpoint(execute: Execute, host: str) -> str:
    """Return ip:port of a pod of a Service, as a sidecar has it from istiod; `host` is <name>.<namespace>:<port>."""
    name, _, port = host.partition(":")
    line = rf"^outbound\|{port}\|\|{re.escape(name)}(\.[^:]*)?::([\d.]+:\d+|\[[\da-f:]+\]:\d+)::"
    found = re.search(line, proxy.admin_page(execute, "clusters"), re.MULTILINE)
    if not found:
        raise ClusterError(f"The sidecar of a caller in {CALLERS} knows no pod of {host}. Is the workload up?")
    return found[2]


def _create(cluster: Cluster, one: dict) -> None:
    made = cluster.create(one)
    if made["metadata"]["labels"]["app"] == SLEEP and not proxy.has_proxy(made):
        raise ClusterError(f"A pod in {CALLERS} got no sidecar. Label that namespace as image/fleet-callers.yaml says.")


def _remove_earlier(cluster: Cluster, fleet: str) -> None:
    """Delete the pods that a killed index left, and wait until they are gone."""
    try:
        _delete(cluster, fleet)
    except ClusterError as error:
        advice = f" {NO_PLACE}" if error.status == 403 else ""
        raise ClusterError(f"{error}{advice}", error.status) from None
    wait("earlier callers to be gone", lambda: not _pods(cluster, fleet), deadline=GONE)


def _delete(cluster: Cluster, fleet: str) -> None:
    for one in _pods(cluster, fleet):
        cluster.delete("v1", "Pod", one["metadata"]["name"], CALLERS)


def _pods(cluster: Cluster, fleet: str) -> list[dict]:
    return cluster.items("v1", "Pod", CALLERS, f"{LABEL}={fleet}")


def _missing(cluster: Cluster, fleet: str) -> str:
    """Return which callers are not ready, and why; "" if all are."""
    waiting = [one for one in _pods(cluster, fleet) if not is_ready(one)]
    return "; ".join(f"{one['metadata']['name']}: {reason([one])}" for one in waiting)
