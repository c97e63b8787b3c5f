"""Three ways to see an issuer's keys: those that Envoy holds, those that are published now, and what istiod says."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

from lib.errors import RunbookError
from lib.istio import installation, proxy, routes
from lib.keycloak import oidc
from lib.kubernetes import port_forward
from lib.kubernetes.cluster import Cluster, Execute

SINCE = 1800  # seconds of istiod's log that are read
COMPLAINT = re.compile(r"(?i)(failed to (?:fetch|get|refresh).*(?:key|jwks).*|.*x509: .*)")


@dataclass(frozen=True)
class Keys:
    """The keys of a rule: `held` by Envoy (None: not seen), `published` now (None, with `trouble`: not to be had).

    `state` is lib.istio.key_state's word for what is held, `said` istiod's last complaint about keys, `discovered` the
    issuer that the issuer's own discovery document names.
    """

    uri: str = ""
    held: Sequence[Mapping] | None = None
    published: Sequence[Mapping] | None = None
    trouble: str = ""
    state: str = ""
    said: str = ""
    endpoints: int | None = None

    def holds(self, kid: str | None) -> bool:
        """Whether Envoy has a key of this id."""
        return any(one.get("kid") == kid for one in self.held or ())

    def publishes(self, kid: str | None) -> bool:
        """Whether the issuer has a key of this id now."""
        return any(one.get("kid") == kid for one in self.published or ())


def gather(cluster: Cluster, rule: Mapping, execute: Execute | None) -> Keys:
    """Return the keys of a RequestAuthentication's rule; `execute` runs a command in the proxy that enforces it."""
    held = None
    if execute:
        with suppress(RunbookError, ValueError):
            held = proxy.jwks(execute).get(rule.get("issuer", ""), [])
    if "jwksUri" not in rule:
        return Keys("", held, None, "", proxy.key_state(held, []) if held else "none")
    uri = rule["jwksUri"]
    published, trouble, endpoints = _published(cluster, uri)
    state = proxy.key_state(held, published or [{"kid": "none of those"}]) if held is not None else ""
    return Keys(uri, held, published, trouble, state, complaint(cluster, urlsplit(uri).hostname or ""), endpoints)


def complaint(cluster: Cluster, host: str) -> str:
    """Return what istiod last said about keys that it could not fetch from a host, "" for nothing."""
    with suppress(RunbookError):
        lines = [line for line in said_by_istiod(cluster, SINCE) if host in line and COMPLAINT.search(line)]
        return COMPLAINT.search(lines[-1])[0].replace("\t", " ")[:300] if lines else ""
    return ""


def said_by_istiod(cluster: Cluster, seconds: int) -> list[str]:
    """Return the lines that istiod's pods wrote in the last seconds."""
    pods = [one["metadata"]["name"] for one in cluster.items("v1", "Pod", installation.ROOT_NAMESPACE, "app=istiod")]
    logs = [cluster.logs(pod, installation.ROOT_NAMESPACE, "discovery", seconds) for pod in pods]
    return [line for log in logs for line in log.splitlines()]


def _published(cluster: Cluster, uri: str) -> tuple[list | None, str, int | None]:
    """Fetch keys: through the Kubernetes API where the URI names a Service of the cluster, else from here."""
    place, services = urlsplit(uri), cluster.items("v1", "Service")
    inside = routes.by_host(services, place.hostname or "", "") if "." in (place.hostname or "") else None
    inside = inside or routes.by_address(services, place.hostname or "")
    if not inside:
        named = (place.hostname or "").endswith(routes.CLUSTER_DOMAIN)
        if named:
            return None, f"no Service has the name {place.hostname}", 0
        return *_fetched(uri, None), None
    pods = routes.selected(cluster.items("v1", "Pod", inside["metadata"]["namespace"]), inside)
    running = [pod for pod in pods if pod["status"].get("phase") == "Running"]
    if not running:
        return None, f"no pod stands behind the Service {inside['metadata']['name']}", 0
    port = routes.port_of(inside, place.port or (443 if place.scheme == "https" else 80))
    if not port:
        return None, f"the Service {inside['metadata']['name']} has no port {place.port or 80}", len(running)
    number = routes.target(port, running[:1]) or port["port"]
    labels = ",".join(f"{key}={value}" for key, value in inside["spec"]["selector"].items())
    home = inside["metadata"]["namespace"]
    session = port_forward.session(lambda: cluster.connect(labels, home, number))
    return *_fetched(f"{place.scheme}://{place.hostname}{place.path}", session), len(running)


def _fetched(uri: str, session) -> tuple[list | None, str]:
    try:
        return oidc.jwks(uri, session=session)["keys"], ""
    except (RunbookError, OSError, KeyError, ValueError) as error:
        return None, str(error)[:200]
