"""Istio: what istioctl would install, and what its proxies really hold."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import yaml

from lib.errors import IstioError
from lib.kubernetes.cluster import Cluster

ROOT_NAMESPACE = "istio-system"
GATEWAY = "istio-ingressgateway"  # its Service, and what else of it has a name
PORTS = (15012, 15017)  # istiod's: for proxies, and for the API server, which asks it to inject
TRUSTED, TRUSTED_KEY = "pilot-jwks-extra-cacerts", "extra.pem"  # ConfigMap: whom istiod trusts when it fetches keys
AUTHORITY_NOTE = "runbook/ca"  # annotation
PLACEHOLDERS = (
    "vqS7RN4b34i3",
    "0xObjM0UvS_o",
)  # how the modulus of istiod's stand-in for keys it could not fetch begins

LIMIT = 60  # seconds for one call of istioctl

Execute = Callable[[list[str], str], tuple[str, int]]


def manifest(istioctl: str, hub: str, tag: str, settings: list[str], authority: str = "") -> list[dict]:
    """Return the objects that `istioctl install` would apply; nothing is asked of a cluster.

    `authority` is what istiod trusts, beside the system's, when it fetches keys: certificates as PEM.
    """
    command = ["manifest", "generate", "--set", f"hub={hub}", "--set", f"tag={tag}"]
    for setting in settings:
        command += ["--set", setting]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "operator.yaml"
        file.write_text(yaml.safe_dump(_operator(authority)))
        text = call(istioctl, *command, "--filename", str(file))
    return [_ours(thing) for thing in yaml.load_all(text, yaml.CSafeLoader) if thing]


def digest(authority: str) -> str:
    """Return what stands for an authority's certificate in a pod's annotation."""
    return hashlib.sha256(authority.encode()).hexdigest()[:16]


def call(istioctl: str, *words: str) -> str:
    """Return what istioctl prints; raise IstioError with its last line where it fails or is not there."""
    program = shutil.which(str(Path(istioctl).expanduser()))
    if not program:
        raise IstioError(f"expected istioctl at {istioctl}, found none; install it, or set istioctl in the params.")
    try:
        done = subprocess.run(
            [program, *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT
        )
    except subprocess.TimeoutExpired:
        raise IstioError(
            f"istioctl {words[0]}: expected an answer within {LIMIT} s, got none; is the cluster up?"
        ) from None
    if done.returncode:
        line = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise IstioError(f"istioctl {' '.join(words[:2])}: expected success, got {line}")
    return done.stdout


def version(istioctl: str) -> str:
    """Return istioctl's own version."""
    return json.loads(call(istioctl, "version", "--remote=false", "-o", "json"))["clientVersion"]["version"]


def ingress(cluster: Cluster) -> dict:
    """Return what the live ingress gateway is: namespace, service account, labels that a Gateway selects.

    They are those of the pod that its Service leads to: Helm's chart labels it `istio: ingress`, others otherwise.
    """
    selector = cluster.get("v1", "Service", GATEWAY, ROOT_NAMESPACE)["spec"]["selector"]
    pod = cluster.pod(",".join(f"{key}={value}" for key, value in selector.items()), ROOT_NAMESPACE)
    worn = pod["metadata"]["labels"]
    labels = {"istio": worn["istio"]} if "istio" in worn else selector
    return {"namespace": ROOT_NAMESPACE, "account": pod["spec"]["serviceAccountName"], "labels": labels}


def ingress_selector(cluster: Cluster) -> str:
    """Return the live ingress gateway's labels as a selector."""
    return ",".join(f"{key}={value}" for key, value in ingress(cluster)["labels"].items())


def hairpins(things: list[dict]) -> list[str]:
    """Return the issuers of RequestAuthentications whose keys istiod would fetch at the issuer's own public host.

    So it is also where no jwksUri is said: it asks the issuer then. Behind an internal load balancer that may lead out
    of a node and back into the same one, and times out now and then.
    """
    rules = [rule for thing in things if thing["kind"] == "RequestAuthentication" for rule in thing["spec"]["jwtRules"]]
    host = lambda url: urlsplit(url).hostname  # noqa: E731
    return [
        rule["issuer"]
        for rule in rules
        if "jwks" not in rule and host(rule.get("jwksUri", rule["issuer"])) == host(rule["issuer"])
    ]


def injects(cluster: Cluster) -> bool:
    """Return whether a pod that asks for a sidecar is given one, by a dry run: nothing is kept of it."""
    about = {"name": "asks-for-a-sidecar", "namespace": "default", "labels": {"sidecar.istio.io/inject": "true"}}
    spec = {"containers": [{"name": "one", "image": "none"}]}
    return proxies(cluster.dry_run({"apiVersion": "v1", "kind": "Pod", "metadata": about, "spec": spec}))


def trust_domain(cluster: Cluster) -> str:
    """Return the trust domain of the mesh, which every principal begins with."""
    mesh = yaml.safe_load(cluster.get("v1", "ConfigMap", "istio", ROOT_NAMESPACE)["data"]["mesh"])
    return mesh.get("trustDomain") or "cluster.local"


def proxies(pod: dict) -> bool:
    """Return whether a pod has Istio's proxy; since 1.27 it stands among the init containers."""
    spec = pod["spec"]
    return any(one["name"] == "istio-proxy" for one in [*spec["containers"], *spec.get("initContainers", [])])


def admin(execute: Execute, path: str) -> str:
    """Return one page of a proxy's own administration, asked from inside its pod."""
    text, code = execute(["pilot-agent", "request", "GET", path], "")
    if code:
        raise IstioError(f"expected the proxy's {path}, got exit code {code}; check that its pod is ready.")
    return text


def envoy_version(execute: Execute) -> str:
    """Return the version of a pod's Envoy, as in 1.40.0."""
    return json.loads(admin(execute, "server_info"))["version"].split("/")[1]


def spiffe_ids(execute: Execute) -> list[str]:
    """Return the SPIFFE ids in the certificates that a proxy presents."""
    chains = json.loads(admin(execute, "certs"))["certificates"]
    names = [name for one in chains for link in one.get("cert_chain", []) for name in link.get("subject_alt_names", [])]
    return sorted({name["uri"] for name in names if "uri" in name})


def jwks_held(execute: Execute) -> dict[str, list[dict]]:
    """Return the keys that a proxy really checks tokens with, by issuer."""
    held: dict[str, list[dict]] = {}
    for provider in _providers(json.loads(admin(execute, "config_dump"))):
        source = provider.get("local_jwks", {})
        text = source.get("inline_string") or base64.b64decode(source.get("inline_bytes", "")).decode()
        if text:
            held[provider.get("issuer", "")] = json.loads(text)["keys"]
    return held


def key_state(held: list[dict] | None, issued: list[dict]) -> str:
    """Return 'the issuer's', 'placeholder' (istiod's fetch failed), 'other' or 'none': whose keys a proxy holds.

    The moduli are those of pilot/pkg/model/jwks_resolver.go, of releases before and after CVE-2026-31837.
    """
    if not held:
        return "none"
    if any(str(key.get("n", "")).startswith(PLACEHOLDERS) for key in held):
        return "placeholder"
    wanted = {(key["kid"], key.get("n", key.get("x"))) for key in issued}
    return "the issuer's" if wanted <= {(key.get("kid"), key.get("n", key.get("x"))) for key in held} else "other"


def _operator(authority: str) -> dict:
    """istiod reads the authority once, as it starts: with another one it must start anew, so its pods bear the hash."""
    notes = {AUTHORITY_NOTE: digest(authority)}
    pilot = {"jwksResolverExtraRootCA": authority, "podAnnotations": notes} if authority else {}
    return {"apiVersion": "install.istio.io/v1alpha1", "kind": "IstioOperator", "spec": {"values": {"pilot": pilot}}}


def _providers(node) -> list[dict]:
    if isinstance(node, list):
        return [found for one in node for found in _providers(one)]
    if not isinstance(node, dict):
        return []
    own = list(node["providers"].values()) if str(node.get("@type", "")).endswith("JwtAuthentication") else []
    return own + [found for one in node.values() for found in _providers(one)]


def _ours(thing: dict) -> dict:
    # istiod writes these two itself, once it can answer: applying them again would undo that.
    if thing["kind"].endswith("WebhookConfiguration"):
        for hook in thing["webhooks"]:
            hook["clientConfig"].pop("caBundle", None)
            if thing["kind"].startswith("Validating"):
                hook.pop("failurePolicy", None)
    return thing
