"""Causes on the way: names, addresses, routes, ports, mutual TLS, pods that are not ready."""

from __future__ import annotations

from urllib.parse import urlsplit

from lib.diagnose.authorization import late, seen
from lib.diagnose.diagnosis import Diagnosis, named, told
from lib.diagnose.evidence import Scene
from lib.istio import policies, routes

CUT = ("connection reset", "closed without an answer", "cut off")
NO_HANDSHAKE = ("TLS failed", *CUT)  # what a gateway does that has nothing to show


def diagnosed(scene: Scene) -> Diagnosis | None:
    """Return the cause of no answer, of a 404 or of a 5xx that a proxy gave."""
    status = scene.answer.status
    if status == 0:
        return _none(scene)
    if status == 404 and (not scene.refuser or scene.refuser.details != "via_upstream"):
        return _no_route(scene)
    if status in (502, 503, 504) and (not scene.refuser or scene.refuser.details != "via_upstream"):
        return _upstream(scene)
    return None


def _none(scene: Scene) -> Diagnosis:
    why = scene.answer.reason
    if why == "name not found":
        return told(
            scene, "name", f"the name {scene.host} does not resolve where it was asked from",
            "correct it; a new load balancer's name takes minutes, and a miss is remembered for up to 15",
        )  # fmt: skip
    if scene.from_inside and scene.service and (found := _http_on_tcp(scene)):
        return found
    if why in CUT and scene.caller and scene.workload:
        return _cut(scene)
    if scene.gateway and not scene.gateways:
        return _no_gateway(scene)
    if found := _handshake(scene):
        return found
    if why == "refused":
        return told(
            scene, "nothing-listens", f"nothing listens at {scene.url}",
            "look at the Service's ports and its ready pods; a gateway listens only where a Gateway selects it",
        )  # fmt: skip
    if why == "timeout":
        return told(
            scene, "timeout", "nothing came back in time: packets are dropped on the way",
            "look for a NetworkPolicy, a security group, an internal load balancer asked from outside or behind itself",
        )  # fmt: skip
    return told(scene, "no-answer", f"the connection ended without an answer: {why}", "read the evidence")


def _handshake(scene: Scene) -> Diagnosis | None:
    """What goes wrong before there is a request: whom the certificate is for, who signed it, whether there is one."""
    place = urlsplit(scene.url)
    if place.scheme != "https":
        return None
    name = "" if routes.is_address(place.hostname or "") else place.hostname or ""
    if scene.answer.reason == "certificate not trusted":
        return told(
            scene, "certificate", f"the certificate that is shown is not for {place.hostname}, or nobody trusted here "
            "signed it",
            "ask by a name that it has, and trust the authority: .kube/<env>-ca.pem (tls: own-ca), or ca_file",
        )  # fmt: skip
    if scene.answer.reason not in NO_HANDSHAKE or not scene.gateway:
        return None
    servers = routes.shown(scene.gateways, name)
    if not servers:
        known = sorted(set(routes.secured(scene.gateways)))
        return told(
            scene, "name-not-served", f"no Gateway has a certificate for {name or 'a bare address'}: the gateway ends "
            f"the handshake, it shows one for {', '.join(known) or 'nobody'}",
            "ask by such a name (SNI: the URL's host, not the Host header), or add it to a Gateway",
        )  # fmt: skip
    secrets = sorted({one.get("tls", {}).get("credentialName", "") for one in servers})
    return told(
        scene, "no-certificate", f"the gateway has no certificate to show: the Secret {', '.join(secrets)} is not in "
        f"{scene.gateway.namespace}, holds no tls.crt and tls.key, or may not be read by the gateway's account",
        "make it there (steps 07 and 12 do), or correct credentialName in the Gateway",
    )  # fmt: skip


def _cut(scene: Scene) -> Diagnosis:
    mode, policy = policies.mode(scene.policies, scene.workload.namespace, scene.workload.labels, _port(scene))
    if not scene.caller.proxied and scene.workload.proxied and mode == "STRICT":
        return told(
            scene, "plain-text", f"{named(scene.caller)} has no sidecar: plain text, where {policy} wants mutual TLS",
            "give the caller a sidecar: label its namespace istio-injection=enabled, and start its pod anew",
            "a pod made before the label, or with hostNetwork, has none",
        )  # fmt: skip
    return told(scene, "no-answer", "the connection was cut", "read the evidence")


def _http_on_tcp(scene: Scene) -> Diagnosis | None:
    """A rule with HTTP's fields on a port that Istio takes for TCP allows nothing there."""
    protocol, guards = routes.protocol(scene.port), scene.rules(policies.RULES, scene.workload)
    fields = policies.speaks_http(guards)
    if protocol not in ("tcp", "tls", "mongo", "mysql", "redis") or not fields:
        return None
    port, names = scene.port, ", ".join(policies.name(one) for one in guards)
    return told(
        scene, "port-not-http", f"the Service's port {port.get('name')} is {protocol} to Istio, and {names} speaks of "
        f"HTTP's {', '.join(fields)}: on TCP such a rule allows nothing",
        "name the port http-… (or set its appProtocol to http)",
    )  # fmt: skip


def _no_gateway(scene: Scene) -> Diagnosis:
    labels = ", ".join(f"{key}={value}" for key, value in scene.gateway.labels.items() if key in ("istio", "app"))
    return told(
        scene, "gateway-selector", f"no Gateway selects the gateway's pods ({labels}), so that they listen nowhere",
        "write the live pods' labels into the Gateway's selector",
    )  # fmt: skip


def _no_route(scene: Scene) -> Diagnosis:
    if scene.gateway and not scene.gateways:
        return _no_gateway(scene)
    hosts = sorted({host for one in scene.virtuals for host in one["spec"].get("hosts", [])})
    if scene.gateway and scene.hosts_served and scene.virtuals:
        return told(
            scene, "path-not-routed", f"VirtualServices for {', '.join(hosts)} are there, but none routes {scene.path}",
            "add the path to the VirtualService's matches",
        )  # fmt: skip
    return told(
        scene, "host-not-matched", f"the gateway has no route for the host {scene.host}",
        "ask by a host that a VirtualService has (HOST=…), or add this one to it and to its Gateway",
    )  # fmt: skip


def _upstream(scene: Scene) -> Diagnosis:
    if scene.service and not scene.workload:
        wanted = scene.service["spec"].get("selector")
        return told(
            scene, "no-pods", f"the Service's selector {wanted} fits no pod", "correct the selector, or start the pods"
        )  # fmt: skip
    if scene.workload and not scene.workload.ready:
        return _not_ready(scene)
    rule = scene.destination_rule
    wanted = rule["spec"]["trafficPolicy"]["tls"].get("mode", "DISABLE") if rule else ""
    mode, policy = ("", "")
    if scene.workload:
        mode, policy = policies.mode(scene.policies, scene.workload.namespace, scene.workload.labels, _port(scene))
    name = policies.name(rule) if rule else ""
    if rule and scene.workload and scene.workload.proxied and mode == "STRICT" and wanted == "DISABLE":
        return told(
            scene, "destination-rule", f"the DestinationRule {name} sends plain text (tls mode {wanted}), and {policy} "
            "wants mutual TLS", "take its tls block away: without one, mutual TLS is used wherever it can be",
        )  # fmt: skip
    if rule and wanted == "ISTIO_MUTUAL" and scene.workload and not scene.workload.proxied:
        return told(
            scene, "sidecar-missing", f"the DestinationRule {name} wants mutual TLS, and {named(scene.workload)} has "
            "no sidecar", "give it one, or take the rule's tls block away",
        )  # fmt: skip
    if scene.workload and "no healthy upstream" in scene.answer.reason:
        return late(scene, "ready pods stand behind the Service")
    if found := _http_on_tcp(scene):
        return found
    return told(
        scene, "upstream", f"a proxy did not get through to {named(scene.workload)}",
        "look at its pods, its ports, and at mutual TLS on both sides",
    )  # fmt: skip


def _not_ready(scene: Scene) -> Diagnosis:
    mode, _ = policies.mode(scene.policies, scene.workload.namespace, scene.workload.labels, _port(scene))
    plain = scene.workload.proxied and mode == "STRICT" and not scene.workload.rewrites_probes
    if plain and "Readiness probe failed: Get" in scene.workload.trouble:
        return told(
            scene, "probe-refused", f"no pod of {named(scene.workload)} is ready ({scene.workload.trouble}): the "
            "kubelet has no certificate for mutual TLS, and its probes are not sent by way of the sidecar",
            'take the annotation sidecar.istio.io/rewriteAppHTTPProbers: "false" away',
        )  # fmt: skip
    return told(
        scene, "not-ready", f"no pod of {named(scene.workload)} is ready: {scene.workload.trouble}",
        f"kubectl -n {scene.workload.namespace} describe pod {scene.workload.pod}",
    )  # fmt: skip


def _port(scene: Scene) -> str:
    return seen(scene).port
