"""Step 10: the two objects of end-user authentication, and whether istiod and Envoy have the issuer's keys."""

from __future__ import annotations

import json

from lib.http_client import over_exec
from lib.istio import proxy
from lib.kubernetes.cluster import Execute
from lib.run import Run
from lib.steps import endpoints


def update_issuer(run: Run) -> None:
    """Tell what step 10 applied, where it is there already, the issuer that Keycloak has by now.

    Until then nobody's token is good. Each object is replaced, none taken away, so nothing is open meanwhile.
    """
    names = {"name": "httpbin", "issuer": endpoints.issuer(run), "jwks_uri": endpoints.jwks_uri(run)}
    wanted = [*run.load("request-authentication.yaml", **names), *run.load("figure-2.yaml", **names)]
    place = lambda thing: (thing["metadata"]["name"], thing["metadata"]["namespace"])  # noqa: E731
    run.apply([one for one in wanted if run.cluster.find(one["apiVersion"], one["kind"], *place(one))])


def sidecar_keys(run: Run, workload: str) -> str:
    """Return whose keys the workload's sidecar checks tokens with: it must be 'the issuer's' (lib.istio.key_state)."""
    execute = run.cluster.execute(f"app={workload}", run.params.namespace, "istio-proxy")
    return proxy.key_state(proxy.jwks(execute).get(endpoints.issuer(run)), endpoints.published_keys(run))


def issuer_inside(run: Run, execute: Execute) -> str:
    """Return the issuer that Keycloak tells a pod of, asked by its name inside; else what came instead."""
    inside = f"{endpoints.inside_url(run)}/realms/{run.params.realm}/.well-known/openid-configuration"
    said = over_exec(execute, inside)
    return json.loads(said.body)["issuer"] if said.status == 200 else f"{said.status} {said.reason}"
