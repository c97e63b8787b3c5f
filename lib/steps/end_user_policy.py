"""Step 10: the two objects of end-user authentication, and whether istiod and Envoy can get the issuer's keys."""

from __future__ import annotations

import json
from typing import NamedTuple

from lib.istio import policies, proxy
from lib.run import Run
from lib.steps import callers, endpoints


class Policy(NamedTuple):
    """The objects that step 10 applies, in that order: an ALLOW policy alone refuses everybody."""

    authentication: list[dict]
    authorization: list[dict]


def objects(run: Run, workload: str = "httpbin") -> Policy:
    """Return the RequestAuthentication and the AuthorizationPolicy of Figure 2 for a workload."""
    names = {"name": workload, "issuer": endpoints.issuer(run), "jwks_uri": endpoints.jwks_uri(run)}
    return Policy(run.load("request-authentication.yaml", **names), run.load("figure-2.yaml", **names))


def update_issuer(run: Run) -> None:
    """Update step 10's policies, if the cluster has them, to Keycloak's current issuer.

    With another issuer every token is refused. Each object is replaced, none is deleted, so nothing is open meanwhile.
    """
    policy = objects(run)
    run.apply([manifest for manifest in (*policy.authentication, *policy.authorization) if _exists(run, manifest)])


def check_keys_reachable(run: Run) -> None:
    """Record whether istiod can fetch the realm's keys, and whether a pod sees the issuer that users see.

    The pod `outsider` asks: it has istiod's namespace, no sidecar, and trusts the CAs that istiod trusts.
    """
    outsider = callers.from_pod(run, "outsider", endpoints.jwks_uri(run))
    run.check_until("keys are within istiod's reach", 200, outsider.status, run.params.streak)
    run.check("a pod sees the same issuer", endpoints.issuer(run), issuer_inside(run))


def check_no_hairpin(run: Run, authentication: list[dict]) -> None:
    """Record whether a RequestAuthentication makes istiod fetch keys at the issuer's public address."""
    run.check("issuers whose keys are fetched by their public address", [], policies.hairpins(authentication))


def check_sidecar_keys(run: Run, workload: str) -> None:
    """Record whether the workload's sidecar holds the keys that the realm publishes."""
    run.check_until("Envoy holds the issuer's keys", "the issuer's", lambda: sidecar_keys(run, workload))


def sidecar_keys(run: Run, workload: str) -> str:
    """Return whose keys the workload's sidecar verifies tokens with (see proxy.key_state)."""
    execute = run.cluster.execute(f"app={workload}", run.params.namespace, "istio-proxy")
    return proxy.key_state(proxy.jwks(execute).get(endpoints.issuer(run)), endpoints.published_keys(run))


def issuer_inside(run: Run) -> str:
    """Return the issuer that Keycloak's discovery gives to a pod, or the status and reason if there is none."""
    discovery = f"{endpoints.inside_url(run)}/realms/{run.params.realm}/.well-known/openid-configuration"
    answer = callers.from_pod(run, "outsider", discovery)()
    return json.loads(answer.body)["issuer"] if answer.status == 200 else f"{answer.status} {answer.reason}"


def _exists(run: Run, manifest: dict) -> bool:
    metadata = manifest["metadata"]
    found = run.cluster.find(manifest["apiVersion"], manifest["kind"], metadata["name"], metadata["namespace"])
    return found is not None
