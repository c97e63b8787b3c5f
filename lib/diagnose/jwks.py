"""An issuer's keys from three places: Envoy's configuration, the issuer's own URL, and istiod's log."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from lib import http_client
from lib.errors import RunbookError
from lib.istio import mesh, policies, proxy, routes
from lib.keycloak import oidc
from lib.kubernetes import port_forward
from lib.kubernetes.cluster import Cluster, Execute
from lib.kubernetes.status import is_running
from lib.redact import clean

if TYPE_CHECKING:
    import requests

SINCE = 1800  # seconds of istiod's log to read
COMPLAINT = re.compile(r"(?i)(failed to (?:fetch|get|refresh|read|resolve).*|.*x509: .*|.*openid-configuration.*)")
URI, DISCOVERY, INLINE = "jwksUri", "discovery", "inline"  # where a rule says that its keys are
CAUSES = {  # words in istiod's log or in our own attempt, and what they mean
    "x509": "the certificate is not trusted",
    "context deadline exceeded": "no answer came in time",
    "timeout": "no answer came in time",
    "connection refused": "nothing listens there",
    "connection reset": "the connection is reset",
    "no such host": "the name does not exist in DNS",
    "EOF": "the connection is closed",
}


@dataclass(frozen=True)
class Keys:
    """The keys of one JWT rule.

    Attributes:
        uri: The rule's jwksUri, or the one that discovery named; without both, the discovery's own address.
        held: The keys in Envoy's configuration; None if it could not be read, or Envoy fetches them itself.
        published: The keys at the URI now; None, with `fetch_error`, if they could not be fetched.
        fetch_error: Why the keys could not be fetched.
        state: What lib.istio.proxy.key_state calls `held`.
        istiod_message: istiod's last complaint about these keys.
        endpoints: The number of running pods behind the URI's Service; None if the URI names no Service.
        road: Where the rule says that its keys are: jwksUri, discovery or inline.
        by_envoy: Whether Envoy fetches the keys, and not istiod.
        strict: The PeerAuthentication that makes the URI's own pods refuse istiod's plain text, "" for none.
        place: Namespace and port of the URI's pods, for a PeerAuthentication.
        own: The jwks_uri in the issuer's own discovery, if Envoy has no keys; "" if it is not known.
    """

    uri: str = ""
    held: Sequence[Mapping] | None = None
    published: Sequence[Mapping] | None = None
    fetch_error: str = ""
    state: str = ""
    istiod_message: str = ""
    endpoints: int | None = None
    road: str = URI
    by_envoy: bool = False
    strict: str = ""
    place: str = ""
    own: str = ""

    @property
    def reason(self) -> str:
        """Why istiod or this machine could not fetch the keys, in a few words; "" if neither tells."""
        messages = f"{self.istiod_message} {self.fetch_error}"
        return next((meaning for words, meaning in CAUSES.items() if words in messages), "")

    def holds(self, kid: str | None) -> bool:
        """Return whether Envoy has the key with this id."""
        return any(one.get("kid") == kid for one in self.held or ())

    def publishes(self, kid: str | None) -> bool:
        """Return whether the issuer publishes the key with this id now."""
        return any(one.get("kid") == kid for one in self.published or ())


def collect(
    cluster: Cluster,
    rule: Mapping,
    execute: Execute | None,
    settings: mesh.Mesh | None = None,
    security: Sequence[Mapping] = (),
) -> Keys:
    """Return the keys of a RequestAuthentication's rule.

    Args:
        cluster: The cluster.
        rule: The rule.
        execute: Runs a command in the proxy that enforces the rule.
        settings: The mesh's configuration.
        security: The security policies of the cluster.
    """
    settings = settings or mesh.Mesh()
    held: list[proxy.Key] | None = None
    remote = False
    if execute:
        with suppress(RunbookError, ValueError):
            dump = proxy.config_dump(execute)
            held, remote = dump_keys(dump, rule)
    if "jwks" in rule:
        return Keys("", held, None, "", proxy.key_state(held, []) if held else "none", road=INLINE)
    uri, error = rule.get("jwksUri", ""), ""
    road = URI if uri else DISCOVERY
    if not uri:
        uri, error = _discovered(cluster, rule.get("issuer", ""))
    published, endpoints, strict, place = None, None, "", ""
    if not error:
        published, error, endpoints, pods = _published(cluster, uri)
        strict, place = _refuses_plain_text(pods, uri, settings, security)
    state = proxy.key_state(held, published or [{"kid": "not published"}]) if held is not None else ""
    message = _complaint(cluster, urlsplit(uri).hostname or "", settings)
    own, problem = _discovered(cluster, rule.get("issuer", "")) if state == "placeholder" and road == URI else ("", "")
    own = "" if problem else own
    return Keys(uri, held, published, error, state, message, endpoints, road, remote, strict, place, own)


def dump_keys(dump: Mapping, rule: Mapping) -> tuple[list[proxy.Key] | None, bool]:
    """Return the keys in Envoy's configuration for a rule, and whether Envoy fetches them itself."""
    provider = proxy.provider(dump, rule)
    if provider is None:
        return [], False
    return (None, True) if "remote_jwks" in provider else (proxy.keys_of(provider), False)


def _discovered(cluster: Cluster, issuer: str) -> tuple[str, str]:
    """Return the jwks_uri of an issuer's discovery; or the discovery's own address, and why it gave none."""
    where = f"{issuer.rstrip('/')}/.well-known/openid-configuration"
    try:
        session, problem, _, _ = _way(cluster, where)
        if problem:
            return where, problem
        return oidc.discovery(issuer, session=session)["jwks_uri"], ""
    except (RunbookError, OSError, KeyError, ValueError) as error:
        return where, str(error)[:200]


def _refuses_plain_text(
    pods: Sequence[Mapping], uri: str, settings: mesh.Mesh, security: Sequence[Mapping]
) -> tuple[str, str]:
    """Return the policy that makes pods with a sidecar refuse istiod, which has no client certificate; "" for none."""
    if not pods or not proxy.has_proxy(dict(pods[0])) or proxy.is_gateway(pods[0]):
        return "", ""
    metadata = pods[0]["metadata"]
    port = str(_target_port(pods, uri))
    stated, name = policies.mode(security, metadata["namespace"], metadata.get("labels") or {}, port, settings)
    return (name, f"{metadata['namespace']}, port {port}") if stated == "STRICT" else ("", "")


def istiod_log(cluster: Cluster, seconds: int, settings: mesh.Mesh | None = None) -> list[str]:
    """Return the lines that istiod's pods wrote in the last seconds."""
    home = (settings or mesh.Mesh()).istiod_namespace
    pods = [one["metadata"]["name"] for one in cluster.items("v1", "Pod", home, "app=istiod")]
    logs = [cluster.logs(pod, home, "discovery", seconds) for pod in pods]
    return [line for log in logs for line in log.splitlines()]


def _complaint(cluster: Cluster, host: str, settings: mesh.Mesh) -> str:
    """Return istiod's last message about keys of this host that it could not fetch, "" if there is none.

    istiod retries with warnings that name the cause, and then gives up with an error that may not.
    """
    with suppress(RunbookError):
        lines = [line for line in istiod_log(cluster, SINCE, settings) if host and host in line]
        found = [clean(match[0].replace("\t", " "))[:300] for line in lines if (match := COMPLAINT.search(line))]
        telling = [
            one for one in found if any(words in one for words in CAUSES if words != "context deadline exceeded")
        ]
        return (telling or found)[-1] if found else ""
    return ""


def _published(cluster: Cluster, uri: str) -> tuple[list[dict] | None, str, int | None, list[Mapping]]:
    """Fetch the keys; return them, why they could not be fetched, the number of the Service's pods, and the pods."""
    session, problem, running, pods = _way(cluster, uri)
    if problem:
        return None, problem, running, pods
    url = urlsplit(uri)
    where = (
        uri if session is None else f"{url.scheme}://{url.hostname}{url.path}" + (f"?{url.query}" if url.query else "")
    )
    return *_fetch(where, session), running, pods


def _way(cluster: Cluster, uri: str) -> tuple[requests.Session | None, str, int | None, list[Mapping]]:
    """Return a session through the Kubernetes API if the URI names a Service of the cluster, else None.

    With it come why there is no way, the number of the Service's running pods, and these pods.
    """
    url, services = urlsplit(uri), cluster.items("v1", "Service")
    name = url.hostname or ""
    service = routes.by_host(services, name, "") if "." in name else None
    service = service or routes.by_address(services, name)
    if not service:
        problem = f"no Service has the name {name}" if name.endswith(routes.CLUSTER_DOMAIN) else ""
        return None, problem, None, []
    metadata, labels = service["metadata"], service["spec"].get("selector") or {}  # a Service may have none
    pods = routes.selected(cluster.items("v1", "Pod", metadata["namespace"]), service)
    running = [pod for pod in pods if is_running(pod)]
    if not running:
        return None, f"no pod runs behind the Service {metadata['name']}", 0, []
    port = routes.port_of(service, http_client.port(url))
    if not port:
        return None, f"the Service {metadata['name']} has no port {url.port or 80}", len(running), running
    number = routes.target(port, running[:1]) or port["port"]
    selector = ",".join(f"{key}={value}" for key, value in labels.items())
    session = port_forward.session(lambda: cluster.connect(selector, metadata["namespace"], number))
    return session, "", len(running), [{**pod, "asked": number} for pod in running]


def _target_port(pods: Sequence[Mapping], uri: str) -> int:
    return pods[0].get("asked") or urlsplit(uri).port or 80


def _fetch(uri: str, session: requests.Session | None = None) -> tuple[list[dict] | None, str]:
    try:
        return oidc.jwks(uri, session=session)["keys"], ""
    except (RunbookError, OSError, KeyError, ValueError) as error:
        return None, str(error)[:200]
