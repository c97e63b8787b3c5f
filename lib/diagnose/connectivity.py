"""Causes on the way to the workload: names, certificates, routes, ports, mutual TLS, pods that are not ready."""

from __future__ import annotations

from urllib.parse import urlsplit

from lib.diagnose.authorization import not_yet_applied
from lib.diagnose.diagnosis import Diagnosis, explain, labels_text, workload_name
from lib.diagnose.evidence import Evidence
from lib.diagnose.pods import Workload
from lib.istio import policies, routes

CUT = ("connection reset", "closed without an answer", "cut off")
NO_HANDSHAKE = ("TLS failed", *CUT)  # the answers of a gateway that has no certificate to present
PLAIN_TCP = ("tcp", "tls", "mongo", "mysql", "redis")  # protocols without HTTP's fields


def find_cause(evidence: Evidence) -> Diagnosis | None:
    """Return the cause of a missing answer, or of a 404 or 5xx that a proxy gave."""
    status = evidence.answer.status
    if status == 0:
        return _no_answer(evidence)
    if evidence.refuser and evidence.refuser.details == "via_upstream":
        return None
    if status == 404:
        return _no_route(evidence)
    return _upstream(evidence) if status in (502, 503, 504) else None


def _no_answer(evidence: Evidence) -> Diagnosis:
    reason = evidence.answer.reason
    if reason == "name not found":
        why = f"the name {evidence.host} does not resolve where the caller is"
        change = "correct the name; a new load balancer's name takes minutes, and a failed look-up is cached for 15"
        return explain(evidence, "name", why, change)
    if evidence.from_inside and evidence.service and (found := _http_on_tcp(evidence)):
        return found
    if reason in CUT and evidence.caller and evidence.workload:
        return _cut(evidence, evidence.caller, evidence.workload)
    if evidence.gateway and not evidence.gateways:
        return _no_gateway(evidence, evidence.gateway)
    if found := _handshake(evidence):
        return found
    if reason == "refused":
        why = f"nothing listens at {evidence.url}"
        change = "check the Service's ports and its ready pods; a gateway listens only if a Gateway selects it"
        return explain(evidence, "nothing-listens", why, change)
    if reason == "timeout":
        why = "no answer came in time: packets are dropped on the way"
        change = "check NetworkPolicies and security groups, and whether the load balancer is internal"
        return explain(evidence, "timeout", why, change)
    return explain(evidence, "no-answer", f"the connection ended without an answer: {reason}", "read the evidence")


def _handshake(evidence: Evidence) -> Diagnosis | None:
    """Explain a failed TLS handshake: the wrong name, an unknown authority, or no certificate."""
    url = urlsplit(evidence.url)
    if url.scheme != "https":
        return None
    name = "" if routes.is_address(url.hostname or "") else url.hostname or ""
    if evidence.answer.reason == "certificate not trusted":
        why = f"the server's certificate is not for {url.hostname}, or this machine does not trust its authority"
        change = "use a name in the certificate, and trust its authority: .kube/<env>-ca.pem (tls: own-ca), or ca_file"
        return explain(evidence, "certificate", why, change)
    if evidence.answer.reason not in NO_HANDSHAKE or not evidence.gateway:
        return None
    servers = routes.tls_servers(evidence.gateways, name)
    if not servers:
        known = ", ".join(sorted(set(routes.tls_hosts(evidence.gateways)))) or "no name"
        why = f"no Gateway has a certificate for {name or 'a bare address'}, only for {known}"
        change = "use such a name in the URL (SNI ignores the Host header), or add this name to a Gateway"
        return explain(evidence, "name-not-served", why, change)
    secrets = ", ".join(sorted({one.get("tls", {}).get("credentialName", "") for one in servers}))
    why = f"the gateway has no certificate: it finds no usable Secret {secrets} in {evidence.gateway.namespace}"
    change = "create the Secret with tls.crt and tls.key (steps 07 and 12), or correct the Gateway's credentialName"
    return explain(evidence, "no-certificate", why, change)


def _cut(evidence: Evidence, caller: Workload, workload: Workload) -> Diagnosis:
    mode, policy = evidence.mutual_tls()
    if not caller.proxied and workload.proxied and mode == "STRICT":
        why = f"{workload_name(caller)} has no sidecar and sends plain text, but {policy} requires mutual TLS"
        change = "give the caller a sidecar: label its namespace istio-injection=enabled, and restart its pod"
        note = "a pod gets no sidecar if it is older than the label, or has hostNetwork"
        return explain(evidence, "plain-text", why, change, note)
    return explain(evidence, "no-answer", "the connection was cut", "read the evidence")


def _http_on_tcp(evidence: Evidence) -> Diagnosis | None:
    """Explain a rule with HTTP fields on a port that Istio treats as TCP: it allows nothing there."""
    protocol, guards = routes.protocol(evidence.port), evidence.rules(policies.RULES, evidence.workload)
    fields = ", ".join(policies.http_fields(guards))
    if protocol not in PLAIN_TCP or not fields:
        return None
    port, names = evidence.port.get("name"), ", ".join(policies.name(one) for one in guards)
    why = (
        f"Istio treats the Service's port {port} as {protocol}, where the HTTP rules of {names} ({fields}) never match"
    )
    return explain(evidence, "port-not-http", why, "name the port http-… (or set its appProtocol to http)")


def _no_gateway(evidence: Evidence, gateway: Workload) -> Diagnosis:
    labels = labels_text({key: value for key, value in gateway.labels.items() if key in ("istio", "app")})
    why = f"no Gateway selects the gateway's pods ({labels}): they listen at no port"
    return explain(evidence, "gateway-selector", why, "write the labels of the live pods into the Gateway's selector")


def _no_route(evidence: Evidence) -> Diagnosis:
    if evidence.gateway and not evidence.gateways:
        return _no_gateway(evidence, evidence.gateway)
    if evidence.gateway and evidence.hosts_served and evidence.virtuals:
        hosts = ", ".join(sorted({host for one in evidence.virtuals for host in one["spec"].get("hosts", [])}))
        why = f"VirtualServices exist for {hosts}, but none routes {evidence.path}"
        return explain(evidence, "path-not-routed", why, "add the path to the VirtualService's matches")
    why = f"the gateway has no route for the host {evidence.host}"
    change = "use a host that a VirtualService has (HOST=…), or add this host to it and to its Gateway"
    return explain(evidence, "host-not-matched", why, change)


def _upstream(evidence: Evidence) -> Diagnosis:
    workload = evidence.workload
    if evidence.service and not workload:
        selector = labels_text(evidence.service["spec"].get("selector") or {})
        why = f"the Service selects {selector or 'nothing'}, and no pod has these labels"
        return explain(evidence, "no-pods", why, "correct the selector, or start the pods")
    if workload and not workload.ready:
        return _not_ready(evidence, workload)
    if workload and (found := _destination_rule(evidence, workload)):
        return found
    if workload and "no healthy upstream" in evidence.answer.reason:
        return not_yet_applied(evidence, "the Service has ready pods")
    if found := _http_on_tcp(evidence):
        return found
    why = f"a proxy could not connect to {workload_name(workload)}"
    return explain(evidence, "upstream", why, "check its pods, its ports, and mutual TLS on both sides")


def _destination_rule(evidence: Evidence, workload: Workload) -> Diagnosis | None:
    """Explain a DestinationRule whose tls block contradicts what the workload accepts."""
    rule = evidence.destination_rule
    if not rule:
        return None
    name, sends = policies.name(rule), rule["spec"]["trafficPolicy"]["tls"].get("mode", "DISABLE")
    mode, policy = evidence.mutual_tls()
    if workload.proxied and mode == "STRICT" and sends == "DISABLE":
        why = f"the DestinationRule {name} sends plain text (tls mode {sends}), but {policy} requires mutual TLS"
        change = "remove its tls block: without one, sidecars use mutual TLS where they can"
        return explain(evidence, "destination-rule", why, change)
    if sends == "ISTIO_MUTUAL" and not workload.proxied:
        why = f"the DestinationRule {name} requires mutual TLS, but {workload_name(workload)} has no sidecar"
        return explain(evidence, "sidecar-missing", why, "give it a sidecar, or remove the rule's tls block")
    return None


def _not_ready(evidence: Evidence, workload: Workload) -> Diagnosis:
    name, mode = workload_name(workload), evidence.mutual_tls()[0]
    plain = workload.proxied and mode == "STRICT" and not workload.rewrites_probes
    if plain and "Readiness probe failed: Get" in workload.problem:
        why = f"no pod of {name} is ready ({workload.problem}): the kubelet probes in plain text, STRICT refuses it"
        change = 'remove the annotation sidecar.istio.io/rewriteAppHTTPProbers: "false"'
        return explain(evidence, "probe-refused", why, change)
    why = f"no pod of {name} is ready: {workload.problem}"
    change = f"read its events: kubectl -n {workload.namespace} describe pod {workload.pod}"
    return explain(evidence, "not-ready", why, change)
