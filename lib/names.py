"""Names that several layers share: the namespaces, and the tags of AWS objects. This module imports nothing of lib."""

from __future__ import annotations

PROJECT = "istio-keycloak-runbook"  # the value of the tag Project

# Namespaces
ISTIO_SYSTEM = "istio-system"
ISTIO_INGRESS = "istio-ingress"  # the ingress gateway, if the Gateway API's kinds make it
KEYCLOAK, KEYCLOAK_EDGE = "keycloak", "keycloak-edge"  # Keycloak and its database; the public gateway in front of it
HARDENED = "hardened"  # the hardened profile of httpbin; the profile has the namespace's name
PROBES, STRANGERS = "probes", "bar"  # workloads with policies for single probes; callers that no policy lists
LABS = "labs"
ROLES = "roles"  # the application of step 15, whose callers have roles
WATCH = "runbook"  # the Jobs of the runbook's image
CALLERS = "runbook-callers"  # the pods that ask for a fleet from inside a cluster
LOGIN = "login"  # the application that people reach with a browser, and its gateway


GATEWAY_GROUP = "gateway.networking.k8s.io"  # of the Kubernetes Gateway API's kinds


def tags(cluster_name: str) -> dict[str, str]:
    """Return the tags that mark, and later find, every AWS object that the runbook creates for a cluster."""
    return {"Project": PROJECT, "Cluster": cluster_name}
