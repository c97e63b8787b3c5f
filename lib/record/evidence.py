"""What a run keeps besides its checks: the objects as the API has them, Envoy's listeners, the peers' certificates."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable

import yaml
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from lib.errors import IstioError
from lib.istio import proxy
from lib.kubernetes import manifests
from lib.kubernetes.cluster import Cluster, Execute

SECRET = "Secret"  # a kind that is never kept
SIDECARS = "virtualInbound"
ENFORCING = {
    SIDECARS: "of a sidecar: what comes in",
    "0.0.0.0_8443": "of a gateway: what users ask",
    "0.0.0.0_8080": "of a gateway, in clear: nothing but a redirect, where there is TLS",
    "0.0.0.0_443": "of a Gateway API gateway: what users ask",
    "0.0.0.0_80": "of a Gateway API gateway, in clear: nothing but a redirect, if there is TLS",
}
Dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


def live(cluster: Cluster, keys: Iterable[tuple[str, str, str | None, str]]) -> str:
    """Return objects as the API has them now, as YAML documents; Secrets and what is gone are left out.

    `keys` are (apiVersion, kind, namespace, name). managedFields are left out too, and the schemas of a definition are
    kept as their SHA-256: Istio's have 2.1 MB, a fifth of a record.
    """
    wanted = [key for key in keys if key[1] != SECRET]
    lists = {where: cluster.items(*where) for where in dict.fromkeys(key[:3] for key in wanted)}
    named = {(*where, one["metadata"]["name"]): one for where, items in lists.items() for one in items}
    found = [named[key] for key in wanted if key in named]
    return "".join(f"---\n{yaml.dump(_plain(one), Dumper=Dumper, sort_keys=False)}" for one in found)


def listeners(execute: Execute) -> str:
    """Return Envoy's listeners that enforce policies, as JSON: those of `config_dump`, private keys left out by Envoy.

    One that Envoy takes no connections at any more (draining) is not among them. IstioError where there is none.
    """
    dump = [one for one in _dump(execute, "dynamic_listeners") if "active_state" in one]
    inbound = {one["name"] for one in dump} & {SIDECARS}  # a sidecar's other listeners are for what goes out
    wanted = inbound or ENFORCING.keys()
    found = {one["name"]: one["active_state"]["listener"] for one in dump if one["name"] in wanted}
    if not found:
        names = ", ".join(one["name"] for one in dump) or "none"
        raise IstioError(f"expected a listener among {', '.join(ENFORCING)}, got {names}; check that it is a sidecar.")
    return json.dumps(found, indent=1, sort_keys=True) + "\n"


def chain(execute: Execute) -> str:
    """Return the certificates that a proxy shows its peers, and the roots that it trusts, as PEM with their names."""
    held = [one["secret"] for one in _dump(execute, "dynamic_active_secrets")]
    shown = [one["tls_certificate"]["certificate_chain"] for one in held if "tls_certificate" in one]
    trusted = [one["validation_context"]["trusted_ca"] for one in held if "validation_context" in one]
    return "".join(
        f"# {role}: {_names(one)}; valid {one.not_valid_before_utc:%Y-%m-%dT%H:%M:%SZ} to "
        f"{one.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}; serial {one.serial_number:x}\n"
        + one.public_bytes(Encoding.PEM).decode()
        for role, sources in (("shown", shown), ("trusted", trusted))
        for source in sources
        for one in x509.load_pem_x509_certificates(base64.b64decode(source["inline_bytes"]))
    )


def images(pods: Iterable[dict]) -> dict[str, str]:
    """Return the digest of every image that pods run, by its name, as their node says (`imageID`)."""
    states = [state for pod in pods for state in pod["status"].get("containerStatuses", [])]
    return {state["image"]: state["imageID"].rpartition("@")[2] for state in states if state.get("imageID")}


def _dump(execute: Execute, resource: str) -> list[dict]:
    return json.loads(proxy.admin_page(execute, f"config_dump?resource={resource}")).get("configs", [])


def _names(one: x509.Certificate) -> str:
    try:
        names = one.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return ", ".join(names.get_values_for_type(x509.UniformResourceIdentifier)) or "no SPIFFE id"
    except x509.ExtensionNotFound:
        return one.subject.rfc4514_string() or "no name"


def _plain(obj: dict) -> dict:
    metadata = {key: value for key, value in obj["metadata"].items() if key != "managedFields"}
    plain = {**obj, "metadata": metadata}
    if obj["kind"] == manifests.DEFINITION:
        versions = [{**one, "schema": f"sha256:{_digest(one.get('schema'))}"} for one in obj["spec"]["versions"]]
        plain["spec"] = {**obj["spec"], "versions": versions}
    return plain


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
