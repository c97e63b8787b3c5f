"""The objects of the law of the evaluator: two workloads, their callers, and a gateway.

The workload `web` has an HTTP port. The workload `raw` has a port of plain TCP for each case: its Sidecar sends all of
them to one application. The gateway is the ingress gateway with a port for the law; with `gateway_api: gateway-api` it
is a Gateway of its own, so that policies may name it in targetRefs.
"""

from __future__ import annotations

import json

from lib.istio import gateway_api, installation, policies
from lib.istio.routes import API as NETWORKING
from lib.names import GATEWAY_GROUP
from lib.run import Run
from tests.support.random_policies import AUDIENCE, HEADER, ISSUERS, Place

NAMESPACE, APP, RAW, GATE, CALLER, OUTSIDER = "evaluated", "web", "raw", "gate", "caller", "plain"
LABELS, RAW_LABELS = {"app": APP}, {"app": RAW}
FIRST, TCP_CASES = 9000, 8  # the port of the first TCP case, and how many ports there are
MARKS = (8998, 8999)  # ports of raw that tell a round's policies from those of the round before
RAW_PORTS = [*MARKS, *range(FIRST, FIRST + TCP_CASES)]
GATE_PORT = 8900
WEB = Place(APP, NAMESPACE, LABELS, 8080)
TCP = Place(RAW, NAMESPACE, RAW_LABELS, FIRST, tcp=True)
GONE, BY_HTTP = "gone", "by-http"  # authorizers: one whose Service is not there, one that speaks no gRPC
PROVIDERS = [
    {"name": GONE, "envoyExtAuthzGrpc": {"service": f"{GONE}.{NAMESPACE}.svc.cluster.local", "port": 9000}},
    {"name": BY_HTTP, "envoyExtAuthzHttp": {"service": f"{APP}.{NAMESPACE}.svc.cluster.local", "port": 8000}},
]


def manifest(kind: str, name: str, spec: dict, api: str = policies.API, namespace: str = NAMESPACE) -> dict:
    """Return an object with a spec."""
    return {"apiVersion": api, "kind": kind, "metadata": {"name": name, "namespace": namespace}, "spec": spec}


PERMISSIVE = manifest(policies.PEERS, "drawn-all-0", {"mtls": {"mode": "PERMISSIVE"}})


def gate(run: Run) -> Place:
    """Return the gateway: with the Gateway API one of its own, else the ingress gateway."""
    if run.params.gateway_api == installation.GATEWAY_API:
        return Place(GATE, NAMESPACE, {policies.GATEWAY_NAME: GATE}, GATE_PORT, gateway=GATE)
    found = installation.ingress(run.cluster)
    return Place(GATE, found["namespace"], found["labels"], GATE_PORT)


def workloads(run: Run) -> list[dict]:
    """Return the namespace, the two workloads, and a caller with and one without a sidecar."""
    namespace = {"name": NAMESPACE, "labels": {"istio-injection": "enabled"}}
    made = [{"apiVersion": "v1", "kind": "Namespace", "metadata": namespace}]
    for name in (APP, RAW):
        made += run.load("httpbin.yaml", name=name, namespace=NAMESPACE)
    (raw,) = [one for one in made if one["kind"] == "Service" and one["metadata"]["name"] == RAW]
    raw["spec"]["ports"] = [{"name": f"tcp-{port}", "port": port} for port in RAW_PORTS]
    for name, inject in ((CALLER, "true"), (OUTSIDER, "false")):
        made += run.load("caller.yaml", name=name, home=NAMESPACE, inject=inject)
    return made


def tokens(place: Place, key: dict) -> dict:
    """Return a RequestAuthentication: two issuers, in two places, with each field that policies can see."""
    jwks = json.dumps({"keys": [key]})
    first = {"issuer": ISSUERS[0], "jwks": jwks, "forwardOriginalToken": True,
             "outputClaimToHeaders": [{"header": "x-user", "claim": "sub"}]}  # fmt: skip
    second = {"issuer": ISSUERS[1], "jwks": jwks, "fromHeaders": [{"name": HEADER}], "audiences": [AUDIENCE],
              "spaceDelimitedClaims": ["words"]}  # fmt: skip
    spec = {"selector": {"matchLabels": place.labels}, "jwtRules": [first, second]}
    return manifest(policies.REQUESTS, place.name, spec, namespace=place.namespace)


def gateway(place: Place) -> list[dict]:
    """Return a Gateway with a port for the law; what its policies let in, it answers itself."""
    if place.gateway:
        listener = {"name": "http", "port": GATE_PORT, "protocol": "HTTP"}
        spec = {"gatewayClassName": "istio", "listeners": [listener]}
        made = manifest("Gateway", GATE, spec, gateway_api.API)
        made["metadata"]["annotations"] = {"networking.istio.io/service-type": "ClusterIP"}
        parent = {"group": GATEWAY_GROUP, "kind": "Gateway", "name": GATE}
        return [made, manifest("HTTPRoute", GATE, {"parentRefs": [parent], "rules": [{}]}, gateway_api.API)]
    port = {"number": GATE_PORT, "name": "http", "protocol": "HTTP"}
    spec = {"selector": place.labels, "servers": [{"port": port, "hosts": ["*"]}]}
    route = {"hosts": ["*"], "gateways": [GATE], "http": [{"directResponse": {"status": 200}}]}
    return [manifest("Gateway", GATE, spec, NETWORKING), manifest("VirtualService", GATE, route, NETWORKING)]


def ways() -> list[dict]:
    """Return what brings requests to the workloads: further hosts, a connection for each request, the TCP ports."""
    port = {"number": 8000, "name": "http", "protocol": "HTTP", "targetPort": 8080}
    spec = {"hosts": ["web.example", "api.web.example"], "location": "MESH_INTERNAL", "ports": [port],
            "resolution": "STATIC", "workloadSelector": {"labels": LABELS}}  # fmt: skip
    made = [manifest("ServiceEntry", "names", spec, NETWORKING)]  # else sidecars would send these in plain text
    policy = {"connectionPool": {"http": {"maxRequestsPerConnection": 1}}}  # an open connection keeps old policies
    hosts = {"own": f"{APP}.{NAMESPACE}.svc.cluster.local", "name": "web.example", "api": "api.web.example"}
    made += [manifest("DestinationRule", name, {"host": host, "trafficPolicy": policy}, NETWORKING)
             for name, host in hosts.items()]  # fmt: skip
    ports = [{"port": {"number": number, "name": f"tcp-{number}", "protocol": "TCP"},
              "defaultEndpoint": "127.0.0.1:8080"} for number in RAW_PORTS]  # fmt: skip
    return [*made, manifest("Sidecar", RAW, {"workloadSelector": {"labels": RAW_LABELS}, "ingress": ports}, NETWORKING)]
