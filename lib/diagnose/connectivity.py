"""Causes on the way to the workload: names, certificates, routes, ports, mutual TLS, pods that are not ready."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from urllib.parse import urlsplit

from lib import http_client
from lib.diagnose import bypasses, nearest_rule, plain_text, refusers, seen
from lib.diagnose.authorization import not_yet_applied
from lib.diagnose.diagnosis import Diagnosis, explain, labels_text, workload_name
from lib.diagnose.evidence import Evidence
from lib.diagnose.pods import PROBE_FAILED, Workload, declared_ports, pods_command, sidecar_command
from lib.istio import evaluator, gateway_api, policies, routes
from lib.kubernetes import kubectl
from lib.kubernetes.service_annotations import HEALTH, STATUS_PORT

CUT = ("connection reset", "closed without an answer", "cut off")
LISTENER_CHANGES = {  # reasons of a listener's conditions: https://gateway-api.sigs.k8s.io/reference/spec/
    "InvalidCertificateRef": "create the Secret with tls.crt and tls.key, or correct the listener's certificateRefs",
    "RefNotPermitted": "apply a ReferenceGrant in the namespace of the Secret, or keep the Secret beside the Gateway",
    "HostnameConflict": "give one of the listeners another hostname or port: of two alike, the first is in force",
    "ProtocolConflict": "give one of the listeners another port: of two protocols at one port, the first is in force",
    gateway_api.NO_CONTROLLER: "give the Gateway the class of a controller that runs: kubectl get gatewayclasses",
}
NO_HANDSHAKE = ("TLS failed", *CUT)  # the answers of a gateway that has no certificate to present


def find_cause(evidence: Evidence) -> Diagnosis | None:
    """Return the cause of a missing answer, or of a 404 or 5xx that a proxy gave."""
    status = evidence.answer.status
    if evidence.workload and evidence.workload.ambient and not evidence.gateway_hop:
        return _ambient(evidence, evidence.workload)
    if status == 0:
        return _no_answer(evidence)
    if not evidence.from_inside and not evidence.way_known and not evidence.gateway:
        return _no_way(evidence)
    if evidence.details == "via_upstream":
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
    if found := _not_programmed(evidence) or _handshake(evidence):
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


def _ambient(evidence: Evidence, workload: Workload) -> Diagnosis:
    """Tell what ztunnel enforces; it knows no HTTP, and treats the policies as for plain TCP."""
    waypoint = evidence.waypoint
    call = replace(seen.call(evidence), tcp=True)
    if waypoint:
        place, _, own = waypoint.rpartition("/")
        principal = f"{evidence.mesh.trust_domain}/ns/{place or workload.namespace}/sa/{own}"
        call = replace(call, principal=principal)
    rules = evidence.rules(policies.RULES, workload)
    fields = ", ".join(policies.http_fields(rules))
    verdict = evaluator.decide(rules, call, evidence.mesh)
    name = workload_name(workload)
    judged = {True: "its policies allow the connection", False: f"the policy {verdict.policy} refuses the connection"}
    judgement = "its policies cannot be judged" if verdict.allowed is None else judged[verdict.allowed]
    why = (
        f"{name} is in ambient mode: ztunnel checks principals, namespaces, addresses and ports, and only a waypoint "
        f"checks HTTP and tokens; {judgement}"
    )
    change = "read what ztunnel did: kubectl -n istio-system logs ds/ztunnel; `why` does not read ztunnel or waypoints"
    missed = nearest_rule.listed(verdict.misses)
    notes = [
        f"the nearest rule does not match in: {missed}" if missed else "",
        f"the waypoint {waypoint} makes the connections, and ztunnel sees its principal" if waypoint else "",
        f"ztunnel leaves out ALLOW rules with HTTP fields, of {', '.join(map(policies.name, rules))} {fields}: attach "
        "them to a waypoint by targetRefs"
        if fields
        else "",
    ]
    return explain(evidence, "ambient", why, change, *notes)


def _no_way(evidence: Evidence) -> Diagnosis:
    why = f"{evidence.host} leads to no Service of this cluster, so it is not known which gateway answered"
    change = "name the gateway's address: TO=<the address of its Service>, with the name in the URL"
    return explain(evidence, "way-not-known", why, change)


def _not_programmed(evidence: Evidence, host: str = "*") -> Diagnosis | None:
    """Explain a listener of the Gateway API, at the port that was asked, that its controller did not put in force.

    With a host, only a listener for this host counts.
    """
    port = http_client.port(urlsplit(evidence.url))
    for gateway in evidence.gateways:
        for server in gateway["spec"]["servers"]:
            problem = server.get("problem", "")
            fits = host == "*" or routes.serves([{"spec": {"servers": [server]}}], host)
            if problem and fits and server["port"]["number"] == port:
                why = f"the Gateway {policies.name(gateway)} has no listener in force at port {port}: {problem}"
                change = refusers.change_for(problem, LISTENER_CHANGES, policies.name(gateway))
                return explain(evidence, "listener-not-programmed", why, change)
    return None


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
        change = f"use a name of {known} in the URL (SNI ignores the Host header), or add this name to a Gateway"
        return explain(evidence, "name-not-served", why, change)
    secrets = ", ".join(sorted({one.get("tls", {}).get("credentialName", "") for one in servers}))
    why = f"the gateway has no certificate: it finds no usable Secret {secrets} in {evidence.gateway.namespace}"
    change = "create the Secret with tls.crt and tls.key (steps 07 and 12), or correct the Gateway's credentialName"
    return explain(evidence, "no-certificate", why, change)


def _cut(evidence: Evidence, caller: Workload, workload: Workload) -> Diagnosis:
    mode, policy = evidence.mutual_tls()
    if mode == "STRICT" and workload.proxied and (found := plain_text.find_cause(evidence)):
        return found
    if workload.proxied and evidence.peer(evidence.principal(caller)) is None:
        why = f"{workload_name(caller)} has no sidecar and sends plain text, but {policy} requires mutual TLS"
        change = (
            "give the caller a sidecar: label its pods sidecar.istio.io/inject=true; or its namespace "
            "istio-injection=enabled, and restart them"
        )
        note = "a pod gets no sidecar if it is older than the label, or has hostNetwork; init containers run before it"
        command = sidecar_command(caller, evidence.mesh)
        return explain(evidence, "plain-text", why, change, note, _port_level(evidence, policy), command=command)
    return explain(evidence, "no-answer", "the connection was cut", "read the evidence")


def _port_level(evidence: Evidence, policy: str) -> str:
    """Return why the portLevelMtls of the PeerAuthentication in force has no effect, "" if that is not so."""
    peers = (one for one in evidence.rules(policies.PEERS, evidence.workload) if policies.name(one) == policy)
    found = next(peers, {})
    stated = {str(port) for port in (found.get("spec") or {}).get("portLevelMtls") or {}}
    outer, inner = str(evidence.port.get("port")), evidence.destination_port
    if stated and not policies.selector(found):
        return f"portLevelMtls of {policy} has no effect: it needs a selector"
    if outer in stated and inner not in stated:
        return f"portLevelMtls of {policy} names {outer}, the Service's port; it needs the pods' port, {inner}"
    return ""


def _http_on_tcp(evidence: Evidence) -> Diagnosis | None:
    """Explain a rule with HTTP fields on a port that Istio treats as TCP: it allows nothing there."""
    protocol, guards = routes.protocol(evidence.port), evidence.rules(policies.RULES, evidence.workload)
    fields = ", ".join(policies.http_fields(guards))
    if protocol not in routes.PLAIN_TCP or not fields:
        return None
    port, names = evidence.port.get("name"), ", ".join(policies.name(one) for one in guards)
    why = (
        f"Istio treats the Service's port {port} as {protocol}, where the HTTP rules of {names} ({fields}) never match"
    )
    command = kubectl.edit(evidence.service or {}, "name", port, f"http-{port}"[:15].rstrip("-"))
    change = "name the port http-… (or set its appProtocol to http)"
    return explain(evidence, "port-not-http", why, change, command=command)


def _no_gateway(evidence: Evidence, gateway: Workload) -> Diagnosis:
    labels = labels_text({key: value for key, value in gateway.labels.items() if key in ("istio", "app")})
    why = f"no Gateway selects the gateway's pods ({labels}): they listen at no port"
    change = f"write the labels of the live pods into the Gateway's selector: {labels}"
    return explain(evidence, "gateway-selector", why, change)


def _no_route(evidence: Evidence) -> Diagnosis:
    if evidence.gateway and not evidence.gateways:
        return _no_gateway(evidence, evidence.gateway)
    if found := _not_programmed(evidence, evidence.host) or refusers.route_not_accepted(evidence):
        return found
    if evidence.gateway and evidence.hosts_served and evidence.virtuals:
        hosts = ", ".join(sorted({host for one in evidence.virtuals for host in one["spec"].get("hosts", [])}))
        if claims := sorted({name for one in evidence.virtuals for name in routes.claim_matches(one)}):
            why = f"a route for {hosts} exists only for tokens with certain claims ({', '.join(claims)})"
            change = (
                "send a valid token that has them: a RequestAuthentication at the gateway must read it; a route "
                "without the claim would let in everybody"
            )
            return explain(evidence, "claim-route", why, change)
        slips = filter(None, (gateway_api.path_slip(one, evidence.shown_path) for one in evidence.virtuals))
        why = "; ".join([f"routes exist for {hosts}, but none has the path {evidence.shown_path}", *list(slips)[:1]])
        change = "correct the path; or, if users may reach it, add it to a route's matches"
        return explain(evidence, "path-not-routed", why, change, command=_routed(evidence))
    why = f"the gateway has no route for the host {evidence.host}"
    known = ", ".join(sorted({one for one in routes.tls_hosts(evidence.gateways) if "*" not in one}))
    known = f"HOST={known}" if known else "HOST=…"
    change = f"use a host that a route has ({known}), or add this host to it and to its Gateway"
    return explain(evidence, "host-not-matched", why, change)


def _routed(evidence: Evidence) -> str:
    """Return the command that adds the path to the first rule with matches, "" if there is none."""
    path = evidence.shown_path
    fields = {  # by kind: the rules, their matches, and a match of this path alone
        "VirtualService": ("http", "match", {"uri": {"exact": path}}),
        "HTTPRoute": ("rules", "matches", {"path": {"type": "Exact", "value": path}}),
    }
    for found in (one.get("original", one) for one in evidence.virtuals):
        rules, matches, exact = fields.get(found.get("kind", ""), ("", "", {}))
        for number, rule in enumerate(found["spec"].get(rules) or []):
            if rule.get(matches):
                value = {**rule[matches][0], **exact}
                place = f"/spec/{rules}/{number}/{matches}/-"
                return kubectl.patch(found, {"op": "add", "path": place, "value": value})
    return ""


def _selected(service: Mapping, pods: Sequence[Mapping]) -> tuple[str, str]:
    """Return what to change about a Service that selects no pod, and the command: pods may have nearly its labels."""
    metadata, wanted = service["metadata"], service["spec"].get("selector") or {}
    for pod in (one["metadata"] for one in pods if one["metadata"]["namespace"] == metadata["namespace"]):
        if policies.resembles(wanted, labels := pod.get("labels") or {}):
            right = {key: labels.get(key, "") for key in wanted}
            command = kubectl.merge("Service", metadata["name"], metadata["namespace"], {"spec": {"selector": right}})
            return f"write the labels of the live pods into its selector: {labels_text(right)}", command
    return "correct the selector, or start the pods", ""


def _upstream(evidence: Evidence) -> Diagnosis:
    workload = evidence.workload
    if evidence.service and not workload:
        selector = labels_text(evidence.service["spec"].get("selector") or {})
        why = f"the Service selects {selector or 'nothing'}, and no pod has these labels"
        change, command = _selected(evidence.service, evidence.workloads)
        return explain(evidence, "no-pods", why, change, command=command)
    if workload and not workload.ready:
        return _not_ready(evidence, workload)
    if workload and evidence.destination_port in workload.bypassed:
        return bypasses.explained(evidence, workload)
    if workload and evidence.mutual_tls()[0] == "STRICT" and (found := plain_text.find_cause(evidence)):
        return found
    if workload and (found := plain_text.by_destination_rule(evidence, workload)):
        return found
    if workload and "no healthy upstream" in evidence.answer.reason:
        return not_yet_applied(evidence, "the Service has ready pods")
    if found := _http_on_tcp(evidence):
        return found
    why = f"a proxy could not connect to {workload_name(workload)}"
    port, declared = evidence.destination_port, declared_ports(workload, evidence.workloads) if workload else []
    if not evidence.service or not port or not declared or port in declared:
        return explain(evidence, "upstream", why, "check its pods, its ports, and mutual TLS on both sides")
    why = f"{why}: the Service leads to the port {port}, and its pods declare {', '.join(declared)}"
    change = f"write the port at which the pods listen, {' or '.join(declared)}, into the Service's targetPort"
    command = kubectl.edit(evidence.service, "targetPort", int(port), int(declared[0])) if len(declared) == 1 else ""
    return explain(evidence, "upstream", why, change, command=command)


def _not_ready(evidence: Evidence, workload: Workload) -> Diagnosis:
    name, mode = workload_name(workload), evidence.mutual_tls()[0]
    command = pods_command(workload, annotations={"sidecar.istio.io/rewriteAppHTTPProbers": None})
    forbidden = "statuscode: 403" in workload.problem and evidence.rules(policies.RULES, workload)
    if forbidden and workload.proxied and not workload.rewrites_probes:
        names = ", ".join(policies.name(one) for one in forbidden)
        why = f"no pod of {name} is ready ({workload.problem}): the kubelet's probe has no principal and no token"
        change = f'remove the annotation sidecar.istio.io/rewriteAppHTTPProbers: "false"; or allow its path in {names}'
        return explain(evidence, "probe-refused", why, change, command=command)
    starting = f":{STATUS_PORT}{HEALTH}" in workload.problem  # the sidecar's own probe
    plain = workload.proxied and mode == "STRICT" and not workload.rewrites_probes and not starting
    if plain and any(f"{words}: Get" in workload.problem for words in PROBE_FAILED):
        why = f"no pod of {name} is ready ({workload.problem}): the kubelet probes in plain text, STRICT refuses it"
        change = 'remove the annotation sidecar.istio.io/rewriteAppHTTPProbers: "false"'
        return explain(evidence, "probe-refused", why, change, command=command)
    why = f"no pod of {name} is ready: {workload.problem}"
    change = f"read its events: kubectl -n {workload.namespace} describe pod {workload.pod}"
    return explain(evidence, "not-ready", why, change)
