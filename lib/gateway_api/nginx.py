"""Which Ingresses ingress-nginx reads, and what its ConfigMap sets for all of them.

Source: https://kubernetes.github.io/ingress-nginx/user-guide/nginx-configuration/configmap/
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lib.errors import LegacyError
from lib.legacy.write import Translated

HARMLESS = ("proxy-body-size", "proxy-buffer-size", "proxy-buffering", "proxy-buffers-number", "proxy-read-timeout",
            "proxy-send-timeout", "proxy-connect-timeout", "client-body-buffer-size")  # fmt: skip
SNIPPETS = ("allow-snippet-annotations", "annotations-risk-level")  # what Ingresses may do; here they may nothing
CONTROLLER = "ingress-nginx"
NO_MAP = (
    "The controller's ConfigMap is not in the files. Its global-auth-url, denylist-source-range and the like have no "
    "equal here. Look at it: kubectl get configmap -A -l app.kubernetes.io/name=ingress-nginx -o yaml."
)
OTHER = "{0} is not of the class nginx and was left out. Its hosts, paths and auth-url are nowhere in this output."


def is_ingress(manifest: Mapping) -> bool:
    """Return whether an object is an Ingress that ingress-nginx read."""
    metadata, spec = manifest.get("metadata") or {}, manifest.get("spec") or {}
    old = (metadata.get("annotations") or {}).get("kubernetes.io/ingress.class", "nginx")
    return manifest.get("kind") == "Ingress" and spec.get("ingressClassName", old) == "nginx"


def controller(objects: Sequence[Mapping]) -> list[Translated]:
    """Return a note if the files do not have the controller's ConfigMap.

    Raises:
        LegacyError: The ConfigMap sets something for all Ingresses.
    """
    seen = False
    for one in [each for each in objects if each["kind"] == "ConfigMap"]:
        metadata, data = one["metadata"], one.get("data") or {}
        own = (metadata.get("labels") or {}).get("app.kubernetes.io/name") == CONTROLLER or "global-auth-url" in data
        if not own and CONTROLLER not in metadata["name"] and metadata["name"] != "nginx-configuration":
            continue
        seen = True
        for key in data:
            if key not in HARMLESS and key not in SNIPPETS:
                raise LegacyError(
                    f"ConfigMap {metadata['namespace']}/{metadata['name']} sets {key} for all Ingresses, which has no "
                    "equal here. Remove it, and write its work with Istio."
                )
    return [] if seen else [Translated({}, [NO_MAP])]
