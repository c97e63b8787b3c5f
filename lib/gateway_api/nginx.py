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
NO_SERVICE = (
    "The controller's Service is not in the files, so it is not known who reached it. This Gateway's Service is of the "
    "type ClusterIP, which nobody outside the cluster reaches. Give the Service: kubectl get service -A -l "
    "app.kubernetes.io/name=ingress-nginx -o yaml."
)
OTHER = "{0} is not of the class nginx and was left out. Its hosts, paths and auth-url are nowhere in this output."


def is_ingress(manifest: Mapping) -> bool:
    """Return whether an object is an Ingress that ingress-nginx read."""
    metadata, spec = manifest.get("metadata") or {}, manifest.get("spec") or {}
    old = (metadata.get("annotations") or {}).get("kubernetes.io/ingress.class", "nginx")
    return manifest.get("kind") == "Ingress" and spec.get("ingressClassName", old) == "nginx"


def service(services: Sequence[Mapping], wanted: set[int]) -> Mapping | None:
    """Return the controller's Service, None if the files do not have it.

    Raises:
        LegacyError: The files have several, or it does not publish the wanted ports.
    """
    found = [one for one in services if _is_own(one) and any(map(_is_web, one["spec"].get("ports") or []))]
    if len(found) > 1:
        raise LegacyError("the files have several Services of the controller. Give the one that clients use.")
    if found and (closed := wanted - {one["port"] for one in found[0]["spec"]["ports"]}):
        raise LegacyError(
            f"the controller's Service does not publish port {min(closed)}, and the new Gateway's would. Add it, or "
            "translate these Ingresses by hand."
        )
    return found[0] if found else None


def _is_own(one: Mapping) -> bool:
    metadata = one["metadata"]
    label = (metadata.get("labels") or {}).get("app.kubernetes.io/name")
    return label == CONTROLLER or CONTROLLER in metadata["name"]


def _is_web(port: Mapping) -> bool:
    """Return whether a port is for clients: not the webhook's, which is 443 too, nor that of the metrics."""
    return port["port"] in (80, 443) and port.get("targetPort") != "webhook"


def controller(objects: Sequence[Mapping]) -> list[Translated]:
    """Return a note if the files do not have the controller's ConfigMap.

    Raises:
        LegacyError: The ConfigMap sets something for all Ingresses.
    """
    seen = False
    for one in [each for each in objects if each["kind"] == "ConfigMap"]:
        metadata, data = one["metadata"], one.get("data") or {}
        if not _is_own(one) and "global-auth-url" not in data and metadata["name"] != "nginx-configuration":
            continue
        seen = True
        for key in data:
            if key not in HARMLESS and key not in SNIPPETS:
                raise LegacyError(
                    f"ConfigMap {metadata['namespace']}/{metadata['name']} sets {key} for all Ingresses, which has no "
                    "equal here. Remove it, and write its work with Istio."
                )
    return [] if seen else [Translated({}, [NO_MAP])]
