"""Find the security policies in force for a workload, those that nearly are, and its mutual TLS mode.

Source: istio/istio 1.31, pilot/pkg/model/policyattachment.go (which apply) and
pilot/pkg/security/authn/policy_applier.go (which PeerAuthentication counts). lib.istio.evaluator decides on requests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import SequenceMatcher
from typing import Any
from urllib.parse import urlsplit

from lib.istio.mesh import REVISION, SELECTORS, Mesh
from lib.names import GATEWAY_GROUP

API = "security.istio.io/v1"
REQUESTS, RULES, PEERS = "RequestAuthentication", "AuthorizationPolicy", "PeerAuthentication"
KINDS = (REQUESTS, RULES, PEERS)
DRY_RUN = "istio.io/dry-run"  # annotation: Envoy evaluates the policy, and enforces nothing
TRUE = ("1", "t", "T", "TRUE", "true", "True")  # Go's strconv.ParseBool
GATEWAY_NAME = f"{GATEWAY_GROUP}/gateway-name"  # label of the pods of a Gateway API's Gateway
ALIKE = 0.6  # of 1: labels that are at least this similar count as a typing error
HTTP_FIELDS = ("requestPrincipals", "hosts", "methods", "paths")  # and their negations


def name(policy: Mapping) -> str:
    """Return a policy's namespace/name."""
    return f"{policy['metadata']['namespace']}/{policy['metadata']['name']}"


def applying(
    policies: Iterable[Mapping], kind: str, namespace: str, labels: Mapping[str, str], mesh: Mesh | None = None
) -> list[Mapping]:
    """Return the policies of a kind that are in force for a workload: its own, its namespace's, the mesh's."""
    mesh = mesh or Mesh()
    found = [one for one in policies if one["kind"] == kind and applies(one, namespace, labels, mesh)]
    return [one for one in found if not set_aside(one, mesh, labels)]


def applies(policy: Mapping, namespace: str, labels: Mapping[str, str], mesh: Mesh | None = None) -> bool:
    """Return whether a policy is meant for the workload with these labels in this namespace."""
    home, root = policy["metadata"]["namespace"], (mesh or Mesh()).root
    if refs := targets(policy):
        gateway = labels.get(GATEWAY_NAME)
        return home == namespace and any(_is_gateway(one) and one.get("name") == gateway for one in refs)
    return home in (namespace, root) and selector(policy).items() <= labels.items()


def set_aside(policy: Mapping, mesh: Mesh, workload: Mapping[str, str] | None = None) -> str:
    """Return why a policy that is meant for a workload, with these labels, has no effect there; "" if it has one."""
    metadata = policy["metadata"]
    labels = metadata.get("labels") or {}
    if not mesh.reads(labels):
        return f"its label {REVISION}={labels[REVISION]} is for another revision than {mesh.revision}"
    if policy["kind"] == RULES and is_trial(policy) and action(policy) != "CUSTOM":
        return f"its annotation {DRY_RUN} makes it a trial: Envoy only logs what it would do"
    if policy["kind"] == PEERS and selector(policy) and metadata["namespace"] == mesh.root:
        return f"a PeerAuthentication in the root namespace {mesh.root} must not have a selector"
    gateway = (workload or {}).get(GATEWAY_NAME)
    if gateway and policy["kind"] != PEERS and not targets(policy) and not mesh.selects_gateways:
        return f"istiod's {SELECTORS} is false, so the Gateway {gateway} takes only policies with targetRefs"
    return ""


def selector(policy: Mapping) -> dict[str, str]:
    """Return the labels that a policy selects."""
    return ((policy.get("spec") or {}).get("selector") or {}).get("matchLabels") or {}


def targets(policy: Mapping) -> list[dict]:
    """Return what a policy refers to instead of selecting labels: waypoints and gateways of the Gateway API."""
    spec = policy.get("spec", {})
    return [*spec.get("targetRefs", []), *([spec["targetRef"]] if "targetRef" in spec else [])]


def mode(
    policies: Iterable[Mapping], namespace: str, labels: Mapping[str, str], port: str = "", mesh: Mesh | None = None
) -> tuple[str, str]:
    """Return a workload's mutual TLS mode at one of its ports, and the policy that sets it ("" for the default)."""
    mesh = mesh or Mesh()

    def rank(policy: Mapping) -> int:
        return 0 if selector(policy) else 1 if policy["metadata"]["namespace"] != mesh.root else 2

    oldest: dict[int, Mapping] = {}  # by rank: of several policies of one scope, Istio uses the oldest
    for policy in sorted(applying(policies, PEERS, namespace, labels, mesh), key=age):
        oldest.setdefault(rank(policy), policy)
    for place in sorted(oldest):
        spec = oldest[place].get("spec") or {}
        ports = {str(number): one for number, one in (spec.get("portLevelMtls") or {}).items()} if place == 0 else {}
        port_level = ports.get(str(port)) or {}
        stated = port_level.get("mode", "UNSET")
        stated = stated if stated != "UNSET" else (spec.get("mtls") or {}).get("mode", "UNSET")
        if stated != "UNSET":
            return stated, name(oldest[place])
    return "PERMISSIVE", ""


def peer(
    policies: Iterable[Mapping],
    principal: str,
    namespace: str,
    labels: Mapping[str, str],
    port: str = "",
    mesh: Mesh | None = None,
) -> str | None:
    """Return the principal that a workload sees of a caller, None if its mutual TLS mode refuses the connection.

    Callers with a sidecar send plain text if the mode is DISABLE, and also if that of the workload's namespace is: so
    a workload that is STRICT in such a namespace lets nobody in.

    Args:
        policies: The PeerAuthentications of the cluster, and perhaps others.
        principal: The caller's own; "" without a sidecar.
        namespace: The workload's namespace.
        labels: The workload's labels.
        port: The workload's port.
        mesh: The mesh's configuration.

    Source: istio/istio 1.31, pilot/pkg/model/push_context.go, BestEffortInferServiceMTLSMode
    """
    found = list(policies)
    own, homes = (mode(found, namespace, one, port, mesh)[0] for one in (labels, {}))
    seen = "" if "DISABLE" in (own, homes) else principal
    return None if own == "STRICT" and not seen else seen


def age(policy: Mapping) -> tuple[str, str]:
    """Return what orders policies by age, the oldest first: the time of creation, then the name."""
    metadata = policy["metadata"]
    return str(metadata.get("creationTimestamp", "")), f"{metadata['name']}.{metadata.get('namespace', '')}"


def _is_gateway(reference: Mapping) -> bool:
    return reference.get("kind") == "Gateway" and reference.get("group") == GATEWAY_GROUP


def is_trial(policy: Mapping) -> bool:
    """Return whether an AuthorizationPolicy is on trial (DRY_RUN)."""
    return (policy["metadata"].get("annotations") or {}).get(DRY_RUN) in TRUE


def action(policy: Mapping) -> str:
    """Return a policy's action; ALLOW is the default."""
    return (policy.get("spec") or {}).get("action", "ALLOW")


def http_fields(policies: Iterable[Mapping]) -> list[str]:
    """Return the fields of these policies' rules that only an HTTP request has."""
    rules = str([policy.get("spec", {}).get("rules") for policy in policies]).lower()
    fields = [name for name in HTTP_FIELDS if f"{name.lower()}'" in rules]
    return fields + (["when"] if "'request." in rules else [])


def bare(field: str) -> str:
    """Return the name of a rule's field without its negation: paths for notPaths."""
    return field[3:4].lower() + field[4:] if field.startswith("not") else field


def rewritten(node: Any, change: Mapping[str, Callable[[Sequence[str], bool], list[str]]]) -> Any:
    """Return a policy's spec with some lists changed: fields of rules, their negations, and values of `when`.

    Args:
        node: The spec.
        change: By the name of a field, such as ports, or the key of a `when`, such as destination.port: makes the new
            list of the old one, and of whether it is negated.
    """
    if isinstance(node, list):
        return [rewritten(one, change) for one in node]
    if not isinstance(node, Mapping):
        return node
    made = {}
    for key, value in node.items():
        name = node["key"] if node.get("key") in change else bare(key)
        changes = name in change and isinstance(value, list)
        made[key] = change[name](value, key.startswith("not")) if changes else rewritten(value, change)
    return made


def hairpins(objects: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the issuers of RequestAuthentications whose keys istiod would fetch at the issuer's own public host.

    A rule without a jwksUri counts: istiod then asks the issuer. Behind an internal load balancer that request can
    leave a node and return to it (hairpinning), and times out now and then.
    """
    policies = [policy for policy in objects if policy["kind"] == REQUESTS]
    rules = [rule for policy in policies for rule in policy["spec"]["jwtRules"] if "jwks" not in rule]
    return [rule["issuer"] for rule in rules if _host(rule.get("jwksUri", rule["issuer"])) == _host(rule["issuer"])]


def _host(url: str) -> str | None:
    return urlsplit(url).hostname


def resembles(wanted: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    """Return whether a selector was probably meant for these labels: one value differs only by a typing error."""
    pairs = [(value, labels[key]) for key, value in wanted.items() if key in labels and labels[key] != value]
    return any(SequenceMatcher(None, *pair).ratio() > ALIKE for pair in pairs)
