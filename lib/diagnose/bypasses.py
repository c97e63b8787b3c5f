"""The ways around the mesh's policies that a cluster has, read from its pods, its policies and its Services.

Source: https://istio.io/latest/docs/ops/best-practices/security/ and /docs/reference/config/annotations/.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from lib.diagnose.diagnosis import Diagnosis, explain, workload_name
from lib.diagnose.evidence import Evidence
from lib.diagnose.pods import EXCLUDED_PORTS, REDIRECTED, Workload, pods_command
from lib.istio import policies, proxy
from lib.istio.mesh import Mesh

# Kinds of ways: what each means, and the probes that try it.
KINDS = {
    "no sidecar": ("no policy protects the pod, and the pod calls others in plain text", "G01a G15a"),
    "hostNetwork": ("the pod has the node's address and gets no sidecar", ""),
    "plain text": ("a caller without a certificate gets in, or is refused by rules alone", "G12a G13a"),
    "excluded from the sidecar": ("the sidecar does not see this traffic: no policy, no mutual TLS", "G14a"),
    "another way in": ("the Service is reachable from outside, beside the gateways of users and of Keycloak", ""),
    "a policy without effect": ("the policy protects no pod that runs", ""),
}
SYSTEM = "kube-"  # beginning of the namespaces of Kubernetes itself, whose pods belong to no mesh
ANNOTATIONS = "traffic.sidecar.istio.io/"
CAPTURE = {  # annotation: the value with which the sidecar sees all traffic
    "excludeInboundPorts": "", "includeInboundPorts": "*", "excludeOutboundPorts": "", "includeOutboundPorts": "",
    "excludeOutboundIPRanges": "", "includeOutboundIPRanges": "*", "excludeInterfaces": "",
}  # fmt: skip


def inventory(
    pods: Iterable[Mapping],
    found: Sequence[Mapping],
    services: Iterable[Mapping],
    gateways: Collection[str],
    mesh: Mesh,
) -> dict[str, dict[str, str]]:
    """Return by kind (see KINDS) the ways around the policies: for each namespace/name, what was read.

    Args:
        pods: the pods of the cluster; those of Kubernetes' own namespaces and those that ended are left out.
        found: the security policies of the cluster.
        services: the Services of the cluster.
        gateways: the namespace/name of each Service that is meant to be reachable from outside.
        mesh: the settings of the mesh.
    """
    running = [pod for pod in pods if _counts(pod)]
    ways: dict[str, dict[str, str]] = {kind: {} for kind in KINDS}
    for pod in running:
        for kind, text in _of_pod(pod, found, mesh):
            known = ways[kind].get(name := _workload(pod), "")
            ways[kind][name] = known if text in known.split("; ") else "; ".join(filter(None, (known, text)))
    for service in services:
        name = policies.name(service)
        if (text := _reachable(service)) and name not in gateways:
            ways["another way in"][name] = text
    for policy in found:
        if text := _without_effect(policy, running, mesh):
            ways["a policy without effect"][f"{policy['kind']} {policies.name(policy)}"] = text
    return ways


def explained(evidence: Evidence, workload: Workload) -> Diagnosis:
    """Explain a port that the sidecar does not see."""
    port = evidence.destination_port
    why = (
        f"the port {port} of {workload_name(workload)} goes past its sidecar (excludeInboundPorts): no policy and no "
        "mutual TLS protects it"
    )
    change = (
        f"remove {port} from the pods' annotation {EXCLUDED_PORTS} and restart them; or "
        "refuse callers by a NetworkPolicy"
    )
    note = "a caller with a sidecar sends mutual TLS, which the application does not understand: 503"
    kept = ",".join(one for one in workload.bypassed if one != port) or None
    command = pods_command(workload, annotations={EXCLUDED_PORTS: kept})
    return explain(evidence, "port-bypassed", why, change, note, command=command)


def _counts(pod: Mapping) -> bool:
    ended = (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")
    return not ended and not pod["metadata"]["namespace"].startswith(SYSTEM)


def _workload(pod: Mapping) -> str:
    labels = pod["metadata"].get("labels") or {}
    return f"{pod['metadata']['namespace']}/{labels.get('app') or pod['metadata']['name']}"


def _of_pod(pod: Mapping, found: Sequence[Mapping], mesh: Mesh) -> Iterable[tuple[str, str]]:
    """Yield the kinds of ways around the policies that a pod has, and what was read."""
    metadata = pod["metadata"]
    labels, notes = metadata.get("labels") or {}, metadata.get("annotations") or {}
    if pod["spec"].get("hostNetwork"):
        yield "hostNetwork", "hostNetwork: true"
    if not _meshed(pod):
        yield "no sidecar", "no container istio-proxy"
    if not proxy.has_proxy(dict(pod)) or proxy.is_gateway(pod):
        return
    ports = {
        str(port)
        for one in policies.applying(found, policies.PEERS, metadata["namespace"], labels, mesh)
        if policies.selector(one)
        for port in one["spec"].get("portLevelMtls") or {}
    }
    for port in ("", *sorted(ports)):
        mode, source = policies.mode(found, metadata["namespace"], labels, port, mesh)
        if mode != "STRICT":
            yield "plain text", f"{mode}{f' for port {port}' if port else ''} by {source or 'default'}"
    for key, harmless in CAPTURE.items():
        if (value := notes.get(ANNOTATIONS + key, harmless)) != harmless:
            yield "excluded from the sidecar", f"{key}: {value or 'none'}"


def _reachable(service: Mapping) -> str:
    """Return how a Service is reachable from outside, "" if it is not."""
    spec = service.get("spec") or {}
    kind = spec.get("type", "ClusterIP")
    if service["metadata"]["namespace"].startswith(SYSTEM):
        return ""
    outside = [kind] if kind in ("LoadBalancer", "NodePort") else []
    return ", ".join([*outside, *(f"external address {one}" for one in spec.get("externalIPs") or [])])


def _without_effect(policy: Mapping, pods: Sequence[Mapping], mesh: Mesh) -> str:
    """Return why a policy protects no pod, "" if it protects one."""
    if reason := policies.set_aside(policy, mesh):
        return reason
    places = [(pod["metadata"]["namespace"], pod["metadata"].get("labels") or {}) for pod in pods if _meshed(pod)]
    if any(policies.applies(policy, namespace, labels, mesh) for namespace, labels in places):
        return ""
    wanted = policies.selector(policy)
    targets = ", ".join(f"{one.get('kind')} {one.get('name')}" for one in policies.targets(policy))
    words = ", ".join(f"{key}={value}" for key, value in wanted.items())
    which = f"has {words}" if words else f"is of {targets}" if targets else "is in its namespace"
    return f"no pod with a proxy {which}"


def _meshed(pod: Mapping) -> bool:
    """Return whether a proxy enforces policies for a pod: its own, or that of ambient mode."""
    return proxy.has_proxy(dict(pod)) or (pod["metadata"].get("annotations") or {}).get(REDIRECTED) == "enabled"
