"""Who reaches a gateway: the Service of the old one, as what a Gateway says of the Service that istiod makes.

Source: https://istio.io/latest/docs/tasks/traffic-management/ingress/gateway-api/#automated-deployment
"""

from __future__ import annotations

from collections.abc import Mapping

import yaml

from lib.errors import LegacyError
from lib.legacy.write import Translated

SERVICE_TYPE = "networking.istio.io/service-type"
PROXY_CONFIG = "proxy.istio.io/config"
MOST = 8  # labels and annotations of a Gateway's infrastructure
LEFT = ("kubectl.", "meta.helm.", "deployment.")  # annotations about the old object itself
SETTINGS = (
    "loadBalancerSourceRanges",
    "externalTrafficPolicy",
    "loadBalancerClass",
    "loadBalancerIP",
    "ipFamilyPolicy",
)


def infrastructure(
    name: str, space: str, service: Mapping, labels: Mapping[str, str], config: str = ""
) -> tuple[dict, list[Translated]]:
    """Return the infrastructure of a Gateway, {} if it has none, and the ConfigMap that it names.

    Args:
        name: The Gateway's name.
        space: Its namespace.
        service: The old Service.
        labels: The labels of the new pods.
        config: The annotation proxy.istio.io/config of the old pods.

    Raises:
        LegacyError: There are more labels or annotations than a Gateway carries.
    """
    stated = (service["metadata"].get("annotations") or {}).items()
    annotations = {key: value for key, value in stated if not key.startswith(LEFT)}
    kind = service["spec"].get("type", "ClusterIP")
    if kind != "LoadBalancer":
        annotations[SERVICE_TYPE] = kind
    if max(len(labels), len(annotations)) > MOST:
        raise LegacyError(
            f"a Gateway carries at most {MOST} labels and {MOST} annotations. Leave out some of its pods'."
        )
    made = {key: dict(value) for key, value in (("labels", labels), ("annotations", annotations)) if value}
    options = _options(service, config)
    if not options:
        return made, []
    own = {"name": f"{name}-options", "namespace": space}
    reference = {"group": "", "kind": "ConfigMap", "name": own["name"]}
    return {**made, "parametersRef": reference}, [
        Translated({"apiVersion": "v1", "kind": "ConfigMap", "metadata": own, "data": options})
    ]


def _options(service: Mapping, config: str) -> dict[str, str]:
    """Return what a Gateway's ConfigMap says of the Service and the Deployment that istiod makes."""
    spec = {key: service["spec"][key] for key in SETTINGS if service["spec"].get(key)}
    template = {"spec": {"template": {"metadata": {"annotations": {PROXY_CONFIG: config}}}}}
    made = {"service": yaml.safe_dump({"spec": spec})} if spec else {}
    return made | ({"deployment": yaml.safe_dump(template)} if config else {})
