"""The external authorizers that the mesh knows: a policy with the action CUSTOM names one of them."""

from __future__ import annotations

from typing import Any

from lib.names import LOGIN, ROLES

OAUTH2_PROXY, DENY_LIST = "oauth2-proxy", "deny-list"
AUTHORIZER = "authorizer"  # of step 15: the provider, its Service and its Deployment
FAIL_OPEN = "authorizer-fail-open"  # the same, but Envoy lets a request in if the authorizer fails: a hole, for drills
INTROSPECTION = "introspection"  # of notebook 90: it asks Keycloak about each token
GRPC_PORT = 9191


def _authorizer(name: str, service: str, timeout: str = "1s", fail_open: bool = False) -> dict[str, Any]:
    service = f"{service}.svc.cluster.local"
    # Without a timeout Envoy waits for 10 minutes
    return {
        "name": name,
        "envoyExtAuthzGrpc": {"service": service, "port": GRPC_PORT, "timeout": timeout, "failOpen": fail_open},
    }


# meshConfig.extensionProviders. Envoy calls none that no policy names: each is here, with or without its Service.
# Source: https://istio.io/latest/docs/reference/config/istio.mesh.v1alpha1/#MeshConfig-ExtensionProvider
PROVIDERS: list[dict[str, Any]] = [
    {
        "name": OAUTH2_PROXY,
        "envoyExtAuthzHttp": {
            "service": f"{OAUTH2_PROXY}.{LOGIN}.svc.cluster.local",
            "port": 4180,
            "timeout": "10s",  # a refresh includes a request to Keycloak
            # Only these headers reach the authorizer: what else a caller claims does not count
            "includeRequestHeadersInCheck": ["cookie", "accept"],
            "headersToUpstreamOnAllow": ["authorization"],
            "headersToDownstreamOnAllow": ["set-cookie"],
            "headersToDownstreamOnDeny": ["content-type", "location", "set-cookie"],
        },
    },
    _authorizer(AUTHORIZER, f"{AUTHORIZER}.{ROLES}"),
    _authorizer(FAIL_OPEN, f"{AUTHORIZER}.{ROLES}", fail_open=True),
    _authorizer(INTROSPECTION, f"{INTROSPECTION}.{LOGIN}", "5s"),  # an answer includes a request to Keycloak
    {
        "name": DENY_LIST,
        "envoyExtAuthzHttp": {
            "service": f"{DENY_LIST}.{LOGIN}.svc.cluster.local",
            "port": 8000,
            "timeout": "1s",
            "statusOnError": "503",  # not failOpen: nobody gets in if the list is down
            "includeRequestHeadersInCheck": ["authorization", "accept"],
            "headersToDownstreamOnDeny": ["content-type", "location", "www-authenticate"],
        },
    },
]
