"""The external authorizers that the mesh knows: a policy with the action CUSTOM names one of them."""

from __future__ import annotations

from typing import Any

from lib.names import LOGIN, ROLES

OAUTH2_PROXY, DENY_LIST = "oauth2-proxy", "deny-list"
AUTHORIZER = "authorizer"  # of step 15: the provider, its Service and its Deployment
FAIL_OPEN = "authorizer-fail-open"  # the same, but Envoy lets a request in if the authorizer fails: a hole, for drills
GRPC_PORT = 9191


def _authorizer(name: str, fail_open: bool) -> dict[str, Any]:
    service = f"{AUTHORIZER}.{ROLES}.svc.cluster.local"
    # Without a timeout Envoy waits for 10 minutes
    return {
        "name": name,
        "envoyExtAuthzGrpc": {"service": service, "port": GRPC_PORT, "timeout": "1s", "failOpen": fail_open},
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
    _authorizer(AUTHORIZER, fail_open=False),
    _authorizer(FAIL_OPEN, fail_open=True),
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
