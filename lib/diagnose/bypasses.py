"""The ways around the mesh's policies that a cluster has, read from its pods, its policies and its Services.

Source: https://istio.io/latest/docs/ops/best-practices/security/ and /docs/reference/config/annotations/.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from lib.diagnose.diagnosis import Diagnosis, explain, labels_text, workload_name
from lib.diagnose.evidence import Evidence
from lib.diagnose.pods import EXCLUDED_PORTS, REDIRECTED, Workload, identifying, pods_command
from lib.istio import policies, proxy
from lib.istio.mesh import REVISION, Mesh
from lib.kubernetes import kubectl
from lib.names import GATEWAY_GROUP

# Kinds of ways: what each means, and the probes that try it.
KINDS = {
    "no sidecar": ("no policy protects the pod, and the pod calls others in plain text", "G01a G15a"),
    "hostNetwork": ("the pod has the node's address and gets no sidecar", "G26a G27"),
    "plain text": ("a caller without a certificate gets in, or is refused by rules alone", "G12a G13a"),
    "excluded from the sidecar": ("the sidecar does not see this traffic: no policy, no mutual TLS", "G14a"),
    "another way in": (
        "the Service is reachable from outside, beside the gateways of users and of Keycloak",
        "G28a G28b G29",
    ),
    "a policy without effect": ("the policy protects no pod that runs", "E11"),
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


def policy_in_vain(evidence: Evidence, workload: Workload, found: Sequence[Mapping]) -> Diagnosis | None:
    """Return the cause if one of these policies is meant for a workload, or for the gateway that it is, and in vain."""
    cause = _set_aside(evidence, workload, found) or _misplaced(evidence, workload, found)
    return cause or (_lost(evidence, workload, found) if workload is evidence.gateway else None)


def _set_aside(evidence: Evidence, workload: Workload, found: Sequence[Mapping]) -> Diagnosis | None:
    """Return the cause if a policy is in the right place for the workload and has no effect."""
    for policy, reason in ((one, why) for one, why in evidence.set_aside(workload) if one in found):
        why = f"{_called(policy)} has no effect: {reason}"
        if "revision" in reason:
            change = f"remove the label {REVISION}, or write the revision {evidence.mesh.revision}"
            command = _merged(policy, metadata={"labels": {REVISION: None}})
            return explain(evidence, "other-revision", why, change, command=command)
        if policies.DRY_RUN in reason:
            change = f"if it is meant to be enforced, remove the annotation {policies.DRY_RUN}"
            command = _merged(policy, metadata={"annotations": {policies.DRY_RUN: None}})
            return explain(evidence, "dry-run", why, change, command=command)
        if policies.selector(policy):  # without one, it is in force elsewhere
            gateway = workload.labels[policies.GATEWAY_NAME]
            change = f"write targetRefs with the Gateway {gateway} instead of the selector"
            right = {"selector": None, "targetRefs": [{"group": GATEWAY_GROUP, "kind": "Gateway", "name": gateway}]}
            home = policy["metadata"]["namespace"] == workload.namespace
            command = _merged(policy, spec=right) if home else ""
            return explain(evidence, "target-ref", why, change, command=command)
    return None


def _misplaced(evidence: Evidence, workload: Workload, found: Sequence[Mapping]) -> Diagnosis | None:
    """Return the cause if a policy that selects no pod almost selects this workload."""
    name = workload_name(workload)
    for policy in found:
        namespace, wanted = policy["metadata"]["namespace"], policies.selector(policy)
        refs = [(one.get("kind"), one.get("name")) for one in policies.targets(policy)]
        service = (evidence.service or {}).get("metadata", {}).get("name")
        if namespace == workload.namespace and ("Service", service) in refs and not evidence.waypoint:
            why = f"{_called(policy)} targets the Service {service}, and only a waypoint reads such"
            change = "write a selector with the labels of the pods instead of targetRefs, or put a waypoint before it"
            right = {"targetRefs": None, "selector": {"matchLabels": identifying(workload.labels)}}
            command = _merged(policy, spec=right) if len(refs) == 1 else ""
            return explain(evidence, "target-ref", why, change, command=command)
        if _selects_pods(evidence, namespace, wanted):
            continue
        if namespace == workload.namespace and policies.resembles(wanted, workload.labels):
            live = labels_text({key: workload.labels[key] for key in wanted if key in workload.labels})
            why = f"{_called(policy)} selects {labels_text(wanted)}, but {name} has other labels"
            change = f"write the labels of the live pods into its selector: {live}"
            command = _merged(
                policy, spec={"selector": {"matchLabels": {key: workload.labels.get(key) for key in wanted}}}
            )
            return explain(evidence, "selector", why, change, command=command)
        fits = wanted and wanted.items() <= workload.labels.items()
        if fits and namespace not in (workload.namespace, evidence.mesh.root):
            if _is_in(evidence, policy, workload.namespace):
                continue
            why = f"{_called(policy)} applies only in its own namespace, and {name} is in another"
            change = f"apply the policy in the namespace {workload.namespace}"
            command = kubectl.apply(_moved(policy, workload.namespace))
            return explain(evidence, "wrong-namespace", why, change, command=command)
    return None


def _lost(evidence: Evidence, gateway: Workload, found: Sequence[Mapping]) -> Diagnosis | None:
    """Return the cause if a policy for the gateway on the way targets a Gateway that its namespace does not have."""
    passed = [policies.name(one) for one in evidence.gateways]
    for policy in found:
        home = policy["metadata"]["namespace"]
        for name in [ref["name"] for ref in policies.targets(policy) if ref.get("kind") == "Gateway"]:
            homes = [one.partition("/")[0] for one in passed if one.endswith(f"/{name}")]
            meant = homes or home == gateway.namespace
            if not meant or _selects_pods(evidence, home, {policies.GATEWAY_NAME: name}):
                continue
            if any(_is_in(evidence, policy, one) for one in homes):
                continue
            why = f"{_called(policy)} is in force nowhere: there is no Gateway {home}/{name}"
            move = f"apply the policy in the namespace {', '.join(homes)}: targetRefs name its own namespace's"
            correct = f"correct the name in its targetRefs; the request came by {', '.join(passed)}"
            command = kubectl.apply(_moved(policy, homes[0])) if len(homes) == 1 else ""
            return explain(evidence, "target-ref", why, move if homes else correct, command=command)
    return None


def _called(policy: Mapping) -> str:
    return f"the {'policy' if policy['kind'] == policies.RULES else policy['kind']} {policies.name(policy)}"


def _merged(policy: Mapping, **content: Mapping) -> str:
    """Return the command that merges content into a policy; None removes a field."""
    return kubectl.merge(policy["kind"], policy["metadata"]["name"], policy["metadata"]["namespace"], content)


def _moved(policy: Mapping, namespace: str) -> dict:
    """Return a policy for another namespace."""
    metadata = {"name": policy["metadata"]["name"], "namespace": namespace}
    return {"apiVersion": policies.API, "kind": policy["kind"], "metadata": metadata, "spec": policy["spec"]}


def _is_in(evidence: Evidence, policy: Mapping, namespace: str) -> bool:
    """Return whether a policy has been applied in another namespace already, and only its first one is left over."""
    twin = evidence.policy(policy["kind"], f"{namespace}/{policy['metadata']['name']}")
    return twin.get("spec") == policy["spec"]


def _selects_pods(evidence: Evidence, namespace: str, wanted: Mapping[str, str]) -> bool:
    """Return whether a policy selects some pods: then it is where its author meant it to be."""
    pods = [pod["metadata"] for pod in evidence.workloads if pod["metadata"]["namespace"] == namespace]
    return bool(wanted) and any(wanted.items() <= pod.get("labels", {}).items() for pod in pods)


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
    meant = [labels for namespace, labels in places if policies.applies(policy, namespace, labels, mesh)]
    if reasons := [policies.set_aside(policy, mesh, labels) for labels in meant]:
        return min(reasons)  # "" if it protects one
    wanted = policies.selector(policy)
    targets = ", ".join(f"{one.get('kind')} {one.get('name')}" for one in policies.targets(policy))
    words = ", ".join(f"{key}={value}" for key, value in wanted.items())
    which = f"has {words}" if words else f"is of {targets}" if targets else "is in its namespace"
    return f"no pod with a proxy {which}"


def _meshed(pod: Mapping) -> bool:
    """Return whether a proxy enforces policies for a pod: its own, or that of ambient mode."""
    return proxy.has_proxy(dict(pod)) or (pod["metadata"].get("annotations") or {}).get(REDIRECTED) == "enabled"
