"""Step 10: the two objects of end-user authentication, and whether istiod and Envoy can get the issuer's keys."""

from __future__ import annotations

import json
from typing import NamedTuple

from lib.istio import policies, proxy
from lib.names import HARDENED
from lib.run import Run
from lib.steps import callers, endpoints

CHALLENGED = 401  # the value of `missing_token` that asks for a challenge
CHALLENGE = "missing-token.yaml"


class Policy(NamedTuple):
    """The objects that step 10 applies, in that order: an ALLOW policy alone refuses everybody."""

    authentication: list[dict]
    authorization: list[dict]


def objects(run: Run, workload: str = "httpbin") -> Policy:
    """Return the RequestAuthentication and the AuthorizationPolicy of Figure 2 for a workload."""
    names = {"name": workload, "issuer": endpoints.issuer(run), "jwks_uri": endpoints.jwks_uri(run)}
    return Policy(run.load("request-authentication.yaml", **names), run.load("figure-2.yaml", **names))


def challenge(run: Run, namespace: str = "") -> list[dict]:
    """Return what answers a user without a token by 401 and `WWW-Authenticate`; nothing unless the params ask for it.

    It rewrites RBAC's 403 at the sidecars of a namespace, by default that of the params. It does so for requests of the
    ingress gateway only: a service of the mesh needs more than a token. In the hardened profile the gateway refuses.

    Source: RFC 6750, 3; RFC 9110, 15.5.2; Envoy's LocalReplyConfig, which knows only answers that Envoy itself made.
    """
    if run.params.missing_token != CHALLENGED:
        return []
    gateway = namespace == HARDENED
    context, peer = ("GATEWAY", "") if gateway else ("SIDECAR_INBOUND", f"spiffe://{endpoints.gateway_principal(run)}")
    return run.load(CHALLENGE, namespace=namespace or run.params.namespace, context=context, peer=peer)


def delete_challenge(run: Run, namespace: str = "") -> None:
    """Delete what `challenge` returned in an earlier run, unless the params still ask for it."""
    (manifest,) = run.load(CHALLENGE, namespace=namespace or run.params.namespace, context="ANY", peer="")
    if run.params.missing_token != CHALLENGED and _exists(run, manifest):
        run.delete(manifest)


def check_challenge(run: Run, user: callers.Caller) -> None:
    """Record whether the answer to a user without a token has the challenge; nothing unless the params ask for it."""
    if run.params.missing_token == CHALLENGED:
        expected = f'Bearer realm="{run.params.realm}"'
        answer = lambda: user().headers.get("www-authenticate")  # noqa: E731
        run.check_until("the answer to a missing token has a challenge", expected, answer, run.params.streak)


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
