"""Addresses and principals of the runbook's own Keycloak and gateway, read from the live cluster."""

from __future__ import annotations

from typing import Any

import requests

from lib.errors import MissingStep
from lib.istio import gateway_api, installation
from lib.keycloak import oidc
from lib.keycloak.admin import Keycloak
from lib.kubernetes import port_forward
from lib.kubernetes.status import public_address
from lib.names import KEYCLOAK
from lib.run import Run
from lib.steps import authority, gateway_tls

ADMIN = "keycloak-admin"  # Secret: the administrator
INSIDE = f"keycloak.{KEYCLOAK}.svc.cluster.local"  # pods and istiod reach Keycloak by this name


def keycloak_host(run: Run) -> str:
    """Return Keycloak's public host: `keycloak_host` of the params, otherwise its load balancer's address."""
    return run.params.keycloak_host or load_balancer_address(run, keycloak_gateway(run), "03-keycloak")


def keycloak_url(run: Run) -> str:
    """Return Keycloak's public URL. Every issuer begins with it."""
    return f"{gateway_tls.scheme(run)}://{keycloak_host(run)}"


def issuer(run: Run, realm: str = "") -> str:
    """Return a realm's issuer. Browsers, pods and istiod all get this one; `realm` defaults to that of the params."""
    return f"{keycloak_url(run)}/realms/{realm or run.params.realm}"


def jwks_uri(run: Run, realm: str = "") -> str:
    """Return the URL at which istiod fetches a realm's keys: Keycloak's Service, so no request leaves the cluster."""
    return f"{inside_url(run)}/realms/{realm or run.params.realm}/protocol/openid-connect/certs"


def inside_url(run: Run) -> str:
    """Return the URL at which pods and istiod reach Keycloak."""
    return f"{gateway_tls.scheme(run)}://{INSIDE}"


def ingress_url(run: Run) -> str:
    """Return the ingress gateway's public URL."""
    return f"{gateway_tls.scheme(run)}://{gateway_host(run)}"


def gateway_host(run: Run) -> str:
    """Return the ingress gateway's public host: `gateway_host` of the params, otherwise its load balancer's address."""
    return run.params.gateway_host or load_balancer_address(run, ingress_gateway(run), "02-istio")


def ingress_gateway(run: Run) -> installation.GatewayService:
    """Return the ingress gateway's Service."""
    return installation.INGRESS[run.params.gateway_api]


def keycloak_gateway(run: Run) -> installation.GatewayService:
    """Return the Service of Keycloak's public gateway."""
    return installation.KEYCLOAK_GATEWAY[run.params.gateway_api]


def ingress_selector(run: Run) -> tuple[str, str]:
    """Return the live ingress gateway's labels as a selector, and its namespace."""
    live = _ingress(run)
    return ",".join(f"{key}={value}" for key, value in live["labels"].items()), live["namespace"]


def load_balancer_address(run: Run, service: installation.GatewayService, step: str) -> str:
    """Wait for the public address of a gateway's Service; return the address.

    Raises:
        MissingStep: the Service does not exist. The message names `step`, the notebook that makes it.
    """
    return run.recently.get(service, lambda: _address(run, service, step))


def _address(run: Run, service: installation.GatewayService, step: str) -> str:
    where = service.name, service.namespace
    live = run.cluster.find("v1", "Service", *where)
    if live is None and not _istiod_makes(run, service):
        run.need("v1", "Service", *where, step=step)
    return (live and public_address(live)) or run.cluster.wait_address(*where, run.params.deadline)


def _istiod_makes(run: Run, service: installation.GatewayService) -> bool:
    """Return whether istiod makes this Service of a Gateway of the Gateway API that is there: it takes a moment."""
    if run.params.gateway_api != installation.GATEWAY_API:
        return False
    name = service.name.removesuffix(f"-{installation.ISTIO}")
    return run.cluster.find(gateway_api.API, "Gateway", name, service.namespace) is not None


def keycloak_admin(run: Run) -> Keycloak:
    """Return Keycloak's admin API. Requests go through the Kubernetes API, never to Keycloak's public address."""
    secret = keycloak_secret(run, ADMIN)
    return Keycloak(inside_url(run), secret["username"], secret["password"], keycloak_session(run))


def keycloak_secret(run: Run, name: str, step: str = "") -> dict[str, str]:
    """Return the values of a Secret beside Keycloak, at most 2 s old; without it, raise MissingStep, naming `step`."""
    return run.recently.get(("Secret", name), lambda: run.read_secret(name, KEYCLOAK, step))


def keycloak_session(run: Run, port: int = 0) -> requests.Session:
    """Return a session whose requests to `inside_url` are port-forwarded to Keycloak's pod."""
    number = port or (8080 if run.params.tls == authority.OFF else 8443)
    return port_forward.session(lambda: run.cluster.connect("app=keycloak", KEYCLOAK, number))


def published_keys(run: Run) -> list[dict[str, Any]]:
    """Return the keys that the realm publishes, as JWKs; discovery names their URL."""
    return oidc.jwks(oidc.discovery(issuer(run))["jwks_uri"])["keys"]


def require_realm(run: Run) -> None:
    """Raise MissingStep unless the realm answers with this issuer. A policy without a reachable realm gets no keys."""
    try:
        oidc.discovery(issuer(run))
    except Exception as error:
        raise MissingStep(
            f"expected the realm {run.params.realm} at {issuer(run)}, got: {error}; run 04-realm-and-client first."
        ) from None


def principal(run: Run, namespace: str, account: str) -> str:
    """Return a service account's principal as AuthorizationPolicy writes it: without `spiffe://`."""
    return f"{installation.trust_domain(run.cluster)}/ns/{namespace}/sa/{account}"


def gateway_principal(run: Run) -> str:
    """Return the principal of the live ingress gateway. It is read, since a wrong name locks all users out."""
    live = _ingress(run)
    return principal(run, live["namespace"], live["account"])


def _ingress(run: Run) -> installation.Ingress:
    service = ingress_gateway(run)
    return run.recently.get(("ingress", service), lambda: installation.ingress(run.cluster, service))
