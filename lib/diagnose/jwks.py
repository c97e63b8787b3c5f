"""An issuer's keys from three places: Envoy's configuration, the issuer's own URL, and istiod's log."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from lib.errors import RunbookError
from lib.istio import installation, proxy, routes
from lib.keycloak import oidc
from lib.kubernetes import port_forward
from lib.kubernetes.cluster import Cluster, Execute
from lib.kubernetes.status import is_running

if TYPE_CHECKING:
    import requests

SINCE = 1800  # seconds of istiod's log to read
COMPLAINT = re.compile(r"(?i)(failed to (?:fetch|get|refresh).*(?:key|jwks).*|.*x509: .*)")


@dataclass(frozen=True)
class Keys:
    """The keys of one JWT rule.

    Attributes:
        uri: The rule's jwksUri.
        held: The keys in Envoy's configuration; None if it could not be read.
        published: The keys at the URI now; None, with `fetch_error`, if they could not be fetched.
        fetch_error: Why the keys could not be fetched.
        state: What lib.istio.proxy.key_state calls `held`.
        istiod_message: istiod's last complaint about these keys.
        endpoints: The number of running pods behind the URI's Service; None if the URI names no Service.
    """

    uri: str = ""
    held: Sequence[Mapping] | None = None
    published: Sequence[Mapping] | None = None
    fetch_error: str = ""
    state: str = ""
    istiod_message: str = ""
    endpoints: int | None = None

    def holds(self, kid: str | None) -> bool:
        """Return whether Envoy has the key with this id."""
        return any(one.get("kid") == kid for one in self.held or ())

    def publishes(self, kid: str | None) -> bool:
        """Return whether the issuer publishes the key with this id now."""
        return any(one.get("kid") == kid for one in self.published or ())


def collect(cluster: Cluster, rule: Mapping, execute: Execute | None) -> Keys:
    """Return the keys of a RequestAuthentication's rule; `execute` runs a command in the proxy that enforces it."""
    held = None
    if execute:
        with suppress(RunbookError, ValueError):
            held = proxy.jwks(execute).get(rule.get("issuer", ""), [])
    if "jwksUri" not in rule:
        return Keys("", held, None, "", proxy.key_state(held, []) if held else "none")
    uri = rule["jwksUri"]
    published, error, endpoints = _published(cluster, uri)
    state = proxy.key_state(held, published or [{"kid": "not published"}]) if held is not None else ""
    return Keys(uri, held, published, error, state, _complaint(cluster, urlsplit(uri).hostname or ""), endpoints)


def istiod_log(cluster: Cluster, seconds: int) -> list[str]:
    """Return the lines that istiod's pods wrote in the last seconds."""
    pods = [one["metadata"]["name"] for one in cluster.items("v1", "Pod", installation.ROOT_NAMESPACE, "app=istiod")]
    logs = [cluster.logs(pod, installation.ROOT_NAMESPACE, "discovery", seconds) for pod in pods]
    return [line for log in logs for line in log.splitlines()]


def _complaint(cluster: Cluster, host: str) -> str:
    """Return istiod's last message about keys of this host that it could not fetch, "" if there is none."""
    with suppress(RunbookError):
        found = [match[0] for line in istiod_log(cluster, SINCE) if host in line and (match := COMPLAINT.search(line))]
        return found[-1].replace("\t", " ")[:300] if found else ""
    return ""


def _published(cluster: Cluster, uri: str) -> tuple[list[dict] | None, str, int | None]:
    """Fetch the keys: through the Kubernetes API if the URI names a Service of the cluster, else directly."""
    url, services = urlsplit(uri), cluster.items("v1", "Service")
    name = url.hostname or ""
    service = routes.by_host(services, name, "") if "." in name else None
    service = service or routes.by_address(services, name)
    if not service:
        if name.endswith(routes.CLUSTER_DOMAIN):
            return None, f"no Service has the name {name}", None
        return *_fetch(uri), None
    metadata, labels = service["metadata"], service["spec"].get("selector") or {}  # a Service may have none
    pods = routes.selected(cluster.items("v1", "Pod", metadata["namespace"]), service)
    running = [pod for pod in pods if is_running(pod)]
    if not running:
        return None, f"no pod runs behind the Service {metadata['name']}", 0
    port = routes.port_of(service, url.port or (443 if url.scheme == "https" else 80))
    if not port:
        return None, f"the Service {metadata['name']} has no port {url.port or 80}", len(running)
    number = routes.target(port, running[:1]) or port["port"]
    selector = ",".join(f"{key}={value}" for key, value in labels.items())
    session = port_forward.session(lambda: cluster.connect(selector, metadata["namespace"], number))
    return *_fetch(f"{url.scheme}://{name}{url.path}", session), len(running)


def _fetch(uri: str, session: requests.Session | None = None) -> tuple[list[dict] | None, str]:
    try:
        return oidc.jwks(uri, session=session)["keys"], ""
    except (RunbookError, OSError, KeyError, ValueError) as error:
        return None, str(error)[:200]
