"""What a mesh's live configuration says: root namespace, trust domain, revision, external authorizers, access log."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import yaml

from lib.errors import RunbookError
from lib.istio.routes import API, CLUSTER_DOMAIN
from lib.names import ISTIO_SYSTEM

if TYPE_CHECKING:
    from lib.kubernetes.cluster import Cluster

REVISION = "istio.io/rev"  # label of istiod's pods and of objects, annotation of injected pods
DEFAULT = "default"  # the revision of an installation that names none
WEBHOOKS = "admissionregistration.k8s.io/v1"
SELECTORS = "ENABLE_SELECTOR_BASED_K8S_GATEWAY_POLICY"  # its variable: whether a gateway takes more than targetRefs
FETCHES = "PILOT_JWT_ENABLE_REMOTE_JWKS"  # istiod's variable: who fetches an issuer's keys


@dataclass(frozen=True)
class Provider:
    """An external authorizer in `extensionProviders`.

    Attributes:
        host: The host of its Service.
        grpc: Whether it speaks gRPC; Istio asks one that speaks HTTP only about HTTP requests.
        missing: Whether the mesh has no such Service.
    """

    host: str
    grpc: bool = True
    missing: bool = False


@dataclass(frozen=True)
class Mesh:
    """One control plane's settings, with Istio's defaults.

    Attributes:
        root: The namespace whose policies apply to the whole mesh.
        trust_domain: The first part of each principal.
        aliases: Trust domains that count as this one.
        revision: The revision of istiod.
        tags: Other names of this revision.
        providers: The external authorizers in `extensionProviders`, by name.
        normalization: What Envoy does with a path before the policies see it: NONE, BASE, MERGE_SLASHES, …
        access_log: The file that Envoy writes its access log to, "" if it writes none.
        encoding: The log's encoding: TEXT or JSON.
        log_format: The log's own format, "" for Istio's.
        istiod_namespace: The namespace of istiod.
        variables: The environment of istiod's container.
    """

    root: str = ISTIO_SYSTEM
    trust_domain: str = "cluster.local"
    aliases: Sequence[str] = ()
    revision: str = DEFAULT
    tags: Sequence[str] = ()
    providers: Mapping[str, Provider] = field(default_factory=dict)
    normalization: str = "BASE"
    access_log: str = ""
    encoding: str = "TEXT"
    log_format: str = ""
    istiod_namespace: str = ISTIO_SYSTEM
    variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def istiod(self) -> str:
        """The name of istiod's Deployment."""
        return "istiod" if self.revision == DEFAULT else f"istiod-{self.revision}"

    def reads(self, labels: Mapping[str, str]) -> bool:
        """Return whether this revision reads an object with these labels."""
        return labels.get(REVISION, self.revision) in (self.revision, *self.tags)

    @property
    def keys_by_envoy(self) -> bool:
        """Whether Envoy, and not istiod, fetches the keys of an issuer in the mesh."""
        return self.variables.get(FETCHES, "istiod").lower() not in ("istiod", "false", "")

    @property
    def selects_gateways(self) -> bool:
        """Whether a policy without targetRefs is in force at a gateway of the Gateway API; by default it is."""
        return self.variables.get(SELECTORS, "true").lower() not in ("false", "f", "0")


def of_config(
    config: Mapping[str, Any], revision: str = DEFAULT, hosts: Collection[str] | None = None, **more: Any
) -> Mesh:
    """Return the mesh of a MeshConfig.

    Args:
        config: The MeshConfig.
        revision: The control plane's revision.
        hosts: The hosts that the mesh has; by default it has those of all authorizers.
        more: The fields that a MeshConfig does not state.
    """
    found = filter(None, map(_authorizer, config.get("extensionProviders") or []))
    return Mesh(
        root=config.get("rootNamespace") or more.get("istiod_namespace") or ISTIO_SYSTEM,
        trust_domain=config.get("trustDomain") or "cluster.local",
        aliases=tuple(config.get("trustDomainAliases") or ()),
        revision=revision,
        providers={name: replace(one, missing=hosts is not None and one.host not in hosts) for name, one in found},
        normalization=_normalization(config),
        access_log=config.get("accessLogFile") or "",
        encoding=config.get("accessLogEncoding") or "TEXT",
        log_format=config.get("accessLogFormat") or "",
        **more,
    )


def read(cluster: Cluster, revision: str = "") -> Mesh:
    """Return the mesh of a revision; without one, of the control plane that runs.

    Raises:
        RunbookError: The cluster has no ConfigMap with Istio's mesh configuration.
    """
    istiods = cluster.items("apps/v1", "Deployment", None, "app=istiod")
    places = [(_revision(one), one["metadata"]["namespace"]) for one in istiods] or [(DEFAULT, ISTIO_SYSTEM)]
    places.sort(key=lambda place: (place[0] != revision, place[0] != DEFAULT, place))
    for own, namespace in places:
        name = "istio" if own == DEFAULT else f"istio-{own}"
        if found := cluster.find("v1", "ConfigMap", name, namespace):
            config = yaml.load(found["data"]["mesh"], yaml.CSafeLoader) or {}
            return of_config(
                config,
                own,
                hosts=_hosts(cluster) if config.get("extensionProviders") else None,
                istiod_namespace=namespace,
                tags=_tags(cluster, own),
                variables=_variables([one for one in istiods if _revision(one) == own]),
            )
    raise RunbookError(
        f"No ConfigMap istio or istio-<revision> in {places[0][1]} has the mesh's configuration. Install Istio first."
    )


def _revision(istiod: Mapping) -> str:
    return _labels(istiod).get(REVISION) or DEFAULT


def _labels(manifest: Mapping) -> Mapping[str, str]:
    return manifest["metadata"].get("labels") or {}


def _tags(cluster: Cluster, revision: str) -> tuple[str, ...]:
    hooks = [_labels(one) for one in cluster.items(WEBHOOKS, "MutatingWebhookConfiguration")]
    return tuple(one["istio.io/tag"] for one in hooks if "istio.io/tag" in one and one.get(REVISION) == revision)


def _variables(istiods: Sequence[Mapping]) -> dict[str, str]:
    containers = [one for deployment in istiods for one in deployment["spec"]["template"]["spec"]["containers"]]
    return {one["name"]: one.get("value", "") for container in containers for one in container.get("env") or []}


def _hosts(cluster: Cluster) -> set[str]:
    """Return the hosts of the mesh's Services and ServiceEntries.

    Source: istio/istio 1.31, pilot/pkg/model/telemetry_logging.go, LookupCluster: it takes a host in full.
    """
    services = [one["metadata"] for one in cluster.items("v1", "Service")]
    entries = cluster.items(API, "ServiceEntry")
    stated = {host for one in entries for host in one["spec"].get("hosts") or []}
    return stated | {f"{one['name']}.{one['namespace']}{CLUSTER_DOMAIN}" for one in services}


def _authorizer(provider: Mapping) -> tuple[str, Provider] | None:
    """Return the provider's name and its settings (`namespace/` may precede the host), None if it is no authorizer."""
    kinds = [kind for kind in ("envoyExtAuthzHttp", "envoyExtAuthzGrpc") if kind in provider]
    if not kinds:
        return None
    host = (provider[kinds[0]] or {}).get("service", "")
    return provider.get("name", ""), Provider(host.rpartition("/")[2], "Grpc" in kinds[0])


def _normalization(config: Mapping) -> str:
    stated = (config.get("pathNormalization") or {}).get("normalization") or "DEFAULT"
    return "BASE" if stated == "DEFAULT" else stated
