"""One Istio proxy: its Envoy's version, its certificates, the keys that it checks tokens with, and what it refuses."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from lib.errors import IstioError
from lib.kubernetes.cluster import Execute

# How the modulus begins of the key that istiod sends if it cannot fetch the issuer's keys.
# Source: pilot/pkg/model/jwks_resolver.go, of releases before and after CVE-2026-31837.
PLACEHOLDERS = ("vqS7RN4b34i3", "0xObjM0UvS_o")

Key = dict[str, Any]  # a JSON Web Key (RFC 7517)


def container(pod: dict[str, Any]) -> dict[str, Any] | None:
    """Return the container of a pod's proxy, None without one; since Istio 1.27 it is one of the init containers."""
    every = [*pod["spec"]["containers"], *pod["spec"].get("initContainers", [])]
    return next((one for one in every if one["name"] == "istio-proxy"), None)


def has_proxy(pod: dict[str, Any]) -> bool:
    """Return whether a pod has Istio's proxy."""
    return container(pod) is not None


def is_gateway(pod: Mapping[str, Any]) -> bool:
    """Return whether a pod is a gateway: the proxy is its only container."""
    return all(container["name"] == "istio-proxy" for container in pod["spec"]["containers"])


def admin_page(execute: Execute, path: str) -> str:
    """Return one page of Envoy's administration interface, read from inside the proxy's pod."""
    text, code = execute(["pilot-agent", "request", "GET", path], "")
    if code:
        raise IstioError(f"The proxy's {path} failed with exit code {code}. Check that its pod is ready.")
    return text


def refused_certificates(execute: Execute) -> int:
    """Return how many certificates of servers a proxy has refused; 0 too if its statistics leave that out."""
    lines = admin_page(execute, "stats?filter=ssl.fail_verify_(error|san)$").splitlines()
    return sum(int(line.rpartition(": ")[2]) for line in lines if line)


def envoy_version(execute: Execute) -> str:
    """Return the version of a pod's Envoy, as in 1.40.0."""
    return json.loads(admin_page(execute, "server_info"))["version"].split("/")[1]


def spiffe_ids(execute: Execute) -> list[str]:
    """Return the SPIFFE ids in the certificates that a proxy presents."""
    certificates = json.loads(admin_page(execute, "certs"))["certificates"]
    chains = [certificate.get("cert_chain", []) for certificate in certificates]
    names = [name for chain in chains for link in chain for name in link.get("subject_alt_names", [])]
    return sorted({name["uri"] for name in names if "uri" in name})


def config_dump(execute: Execute) -> dict[str, Any]:
    """Return Envoy's whole configuration."""
    return json.loads(admin_page(execute, "config_dump"))


def provider(dump: Any, rule: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return Envoy's JWT provider for a RequestAuthentication's rule, None if Envoy has none for its issuer."""
    found = [one for one in _providers(dump) if one.get("issuer", "") == rule.get("issuer", "")]
    return found[-1] if found else None


def keys_of(provider: Mapping[str, Any]) -> list[Key]:
    """Return the keys in a JWT provider's configuration."""
    source = provider.get("local_jwks", {})
    text = source.get("inline_string") or base64.b64decode(source.get("inline_bytes", "")).decode()
    return json.loads(text)["keys"] if text else []


def jwks(execute: Execute) -> dict[str, list[Key]]:
    """Return the keys that a proxy really checks tokens with, by issuer."""
    found = {one.get("issuer", ""): keys_of(one) for one in _providers(config_dump(execute))}
    return {issuer: keys for issuer, keys in found.items() if keys}


def key_state(configured: list[Key] | None, published: list[Key]) -> str:
    """Return whose keys a proxy has: "the issuer's", "placeholder", "other" or "none".

    Args:
        configured: The keys in the proxy's configuration.
        published: The keys that the issuer publishes now.
    """
    if not configured:
        return "none"
    if any(str(key.get("n", "")).startswith(PLACEHOLDERS) for key in configured):
        return "placeholder"
    expected = {(key.get("kid"), key.get("n", key.get("x"))) for key in published}
    known = {(key.get("kid"), key.get("n", key.get("x"))) for key in configured}
    return "the issuer's" if expected <= known else "other"


def _providers(node: Any) -> list[dict[str, Any]]:
    """Return the JWT providers anywhere in a config dump."""
    if isinstance(node, list):
        return [provider for each in node for provider in _providers(each)]
    if not isinstance(node, dict):
        return []
    own = list(node["providers"].values()) if str(node.get("@type", "")).endswith("JwtAuthentication") else []
    return own + [provider for each in node.values() for provider in _providers(each)]


def refusal(istiod_log: Iterable[str], pod: str, namespace: str) -> str:
    """Return why a pod's Envoy refused what istiod sent it last, by the lines of istiod's log; "" if it did not.

    Envoy took what it was sent if no refusal follows. Source: istio/istio 1.31, pilot/pkg/xds/delta.go.
    """
    node = re.escape(f"{pod}.{namespace}")
    event = re.compile(rf"\b(?P<kind>[A-Z]+): (?:ACK ERROR {node}-\d+ (?P<why>.*)|PUSH.* for node:{node} )")
    last = {found["kind"]: found["why"] or "" for line in istiod_log if (found := event.search(line))}
    return next(filter(None, last.values()), "")[:300]
