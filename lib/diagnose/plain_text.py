"""Why a caller's sidecar sends plain text, or nothing: it does not know the Service, or a DestinationRule says so."""

from __future__ import annotations

from lib.diagnose.diagnosis import Diagnosis, explain, workload_name
from lib.diagnose.evidence import Evidence
from lib.diagnose.pods import Workload, sidecar_command
from lib.istio import destination_rules, policies
from lib.kubernetes import kubectl


def find_cause(evidence: Evidence) -> Diagnosis | None:
    """Return the cause if the caller's sidecar sends plain text to a destination that it does not know."""
    caller, home = evidence.caller, evidence.workload.namespace if evidence.workload else ""
    mode, policy = policies.mode(evidence.policies, home, {}, mesh=evidence.mesh)
    if home and mode == "DISABLE" and (evidence.gateway or (caller and caller.proxied)):
        why = (
            f"callers with a sidecar send plain text to the namespace {home}, because {policy} says DISABLE: they do "
            f"not see that {workload_name(evidence.workload)} has {evidence.mutual_tls()[0]}"
        )
        change = f"set PERMISSIVE or STRICT in {policy}; leave DISABLE to single workloads, by a selector"
        return explain(evidence, "plain-text", why, change)
    if not caller or not caller.proxied:
        return None
    if evidence.direct:
        why = (
            f"the request goes to {evidence.host}, the address of a pod of {workload_name(evidence.workload)}, not to "
            "a Service: the caller's sidecar knows no such destination and sends plain text, without a principal"
        )
        change = "call the Service's name; for single pods, a headless Service and the pod's name in it"
        return explain(evidence, "pod-address", why, change)
    return out_of_scope(evidence, "sends plain text") if evidence.hidden_by else None


def out_of_scope(evidence: Evidence, does: str) -> Diagnosis:
    """Explain a destination that the caller's sidecar does not know; `does` is what the sidecar then does."""
    caller, hidden = workload_name(evidence.caller), evidence.hidden_by
    if hidden:
        name, host = policies.name(hidden), evidence.service_host
        why = f"the Sidecar {name} hides {host} from {caller}, whose proxy therefore {does}"
        home = host.split(".")[1]
        change = f"add {home}/{host} to the egress hosts of {name}"
        egress = hidden["spec"]["egress"]
        known = next((number for number, one in enumerate(egress) if "port" not in one), None)
        place = f"/spec/egress/{known}/hosts/-"
        command = kubectl.patch(hidden, {"op": "add", "path": place, "value": f"{home}/{host}"})
        return explain(evidence, "not-in-scope", why, change, command="" if known is None else command)
    why = f"the mesh knows no Service and no ServiceEntry for {evidence.host}, and the proxy of {caller} {does}"
    change = "apply a ServiceEntry for the host: outboundTrafficPolicy REGISTRY_ONLY lets out only to known hosts"
    return explain(evidence, "not-in-scope", why, change)


def by_destination_rule(evidence: Evidence, workload: Workload) -> Diagnosis | None:
    """Explain a DestinationRule whose tls block contradicts what the workload accepts."""
    rule = evidence.destination_rule
    if not rule:
        return None
    sends, place = destination_rules.tls_of(
        rule, evidence.port.get("port"), evidence.route.subset if evidence.route else ""
    )
    name, (mode, policy) = policies.name(rule), evidence.mutual_tls()
    if workload.proxied and mode == "STRICT" and sends == "DISABLE":
        why = f"the DestinationRule {name} sends plain text (tls mode {sends}), but {policy} requires mutual TLS"
        change = "remove its tls block: without one, sidecars use mutual TLS where they can"
        command = kubectl.edit(rule, "tls", {"mode": sends}, None)
        return explain(evidence, "destination-rule", why, change, f"the tls block is in {place}", command=command)
    if workload.proxied and sends in ("SIMPLE", "MUTUAL"):
        why = f"the DestinationRule {name} sends TLS of its own (tls mode {sends}), not the mesh's mutual TLS"
        change = "remove its tls block, or write mode ISTIO_MUTUAL: SIMPLE and MUTUAL are for servers outside the mesh"
        return explain(evidence, "destination-rule", why, change, f"the tls block is in {place}")
    if sends == "ISTIO_MUTUAL" and not workload.proxied:
        why = f"the DestinationRule {name} requires mutual TLS, but {workload_name(workload)} has no sidecar"
        command = sidecar_command(workload, evidence.mesh)
        change = "give it a sidecar, or remove the rule's tls block"
        return explain(evidence, "sidecar-missing", why, change, command=command)
    return None
