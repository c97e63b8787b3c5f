"""The runbook's addresses, found in the live cluster: Keycloak's, its issuers', the ingress gateway's; and principals."""

from __future__ import annotations

import requests

from lib.errors import MissingStep
from lib.istio import installation
from lib.keycloak import oidc
from lib.keycloak.admin import Keycloak
from lib.kubernetes import port_forward
from lib.names import KEYCLOAK, KEYCLOAK_EDGE
from lib.run import Run
from lib.steps import authority, gateway_tls

KEYCLOAK_SERVICE = "keycloak-http"  # the public one
INSIDE = f"keycloak.{KEYCLOAK}.svc.cluster.local"  # at which pods and istiod reach Keycloak


def keycloak_host(run: Run) -> str:
    """Return Keycloak's public host: the params', or else its load balancer's address."""
    return run.params.keycloak_host or load_balancer_address(run, KEYCLOAK_SERVICE, KEYCLOAK_EDGE, "03-keycloak")


def keycloak_url(run: Run) -> str:
    """Return Keycloak's public address, the one that every issuer begins with."""
    return f"{gateway_tls.scheme(run)}://{keycloak_host(run)}"


def issuer(run: Run, realm: str = "") -> str:
    """Return a realm's issuer: one name, the same for browsers, pods and istiod."""
    return f"{keycloak_url(run)}/realms/{realm or run.params.realm}"


def jwks_uri(run: Run, realm: str = "") -> str:
    """Return where istiod fetches a realm's keys: inside the cluster, so no way out and back in is needed."""
    return f"{inside_url(run)}/realms/{realm or run.params.realm}/protocol/openid-connect/certs"


def inside_url(run: Run) -> str:
    """Return the address at which pods and istiod reach Keycloak."""
    return f"{gateway_tls.scheme(run)}://{INSIDE}"


def ingress_url(run: Run) -> str:
    """Return the ingress gateway's public address."""
    return f"{gateway_tls.scheme(run)}://{gateway_host(run)}"


def gateway_host(run: Run) -> str:
    """Return the ingress gateway's public host: the params', or else its load balancer's address."""
    return run.params.gateway_host or load_balancer_address(
        run, installation.GATEWAY, installation.ROOT_NAMESPACE, "02-istio"
    )


def load_balancer_address(run: Run, name: str, namespace: str, step: str) -> str:
    """Return the public address of a Service of type LoadBalancer; MissingStep names the step that makes it."""
    run.need("v1", "Service", name, namespace, step=step)
    return run.cluster.wait_address(name, namespace, run.params.deadline)


def keycloak_admin(run: Run) -> Keycloak:
    """Return Keycloak's administration, reached through the Kubernetes API, never by its public address."""
    known = run.read_secret("keycloak-admin", KEYCLOAK)
    return Keycloak(inside_url(run), known["username"], known["password"], keycloak_session(run))


def keycloak_session(run: Run, port: int = 0) -> requests.Session:
    """Return a session whose requests to `inside_url` reach Keycloak's pod through the Kubernetes API."""
    number = port or (8080 if run.params.tls == authority.OFF else 8443)
    return port_forward.session(lambda: run.cluster.connect("app=keycloak", KEYCLOAK, number))


def published_keys(run: Run) -> list[dict]:
    """Return the keys that the realm publishes, as JWKs, by its discovery."""
    return oidc.jwks(oidc.discovery(issuer(run))["jwks_uri"])["keys"]


def require_realm(run: Run) -> None:
    """Raise MissingStep unless the realm answers with this very issuer: a policy that comes first gets no keys."""
    try:
        oidc.discovery(issuer(run))
    except Exception as error:
        raise MissingStep(
            f"expected the realm {run.params.realm} at {issuer(run)}, got: {error}; run 04-realm-and-client first."
        ) from None


def principal(run: Run, namespace: str, account: str) -> str:
    """Return a service account's principal, as AuthorizationPolicy writes it: without spiffe://."""
    return f"{installation.trust_domain(run.cluster)}/ns/{namespace}/sa/{account}"


def gateway_principal(run: Run) -> str:
    """Return the principal of the live ingress gateway: a name written from memory locks users out in silence."""
    live = installation.ingress(run.cluster)
    return principal(run, live["namespace"], live["account"])
