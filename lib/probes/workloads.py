"""Workloads for the probes: the hardened profile, copies of httpbin under policies of their own, and who asks them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

from lib import polling
from lib.istio import installation, proxy
from lib.istio.access_log import PROXY
from lib.kubernetes import load_balancer
from lib.probes.model import FIGURE_1, FIGURE_2, HARDENED
from lib.probes.transport.messages import Request
from lib.probes.transport.sockets import Edge, over_sockets
from lib.run import Run
from lib.steps import authority, callers, endpoints, gateway_tls, realm

NAMESPACE, STRANGERS = "probes", "bar"
GATEWAY = "gateway"  # the hardened namespace's own
PLAIN = {"sidecar.istio.io/inject": "false"}

# Worlds by name: what their pods are annotated with. Their policies are in notebooks/manifests/probes/policies.yaml.
COPIES: dict[str, dict[str, str]] = {
    "authn-only": {},
    "authz-only": {},
    "open": {},
    "deny-all": {},
    "allow-all": {},
    "typo": {},
    "lens": {},
    "allow-list": {},
    "deny-list": {},
    "no-keys": {},
    "bad-keys": {},
    "scopes": {},
    "plain-client": {},
    "naked": PLAIN,
    "canary": PLAIN,
}
CANARY = f"http://canary.{NAMESPACE}.svc.cluster.local:8000"  # no proxy may call it: what it is asked is in its log
PORTS = {"permissive": 8000, "plain": 8001, "excluded": 8002}  # worlds in one pod, by port
BROKEN = "bad-keys"  # Envoy refuses the listener that has such keys, so its pod is never ready
TCP = "tcp"  # a world whose port is no HTTP to Istio
WORLDS = (*(name for name in COPIES if name != "canary"), TCP, *PORTS)
# Worlds about whose requests no proxy writes a line: without a sidecar, past it, as bytes, or refused by the caller's own
UNLOGGED = ("naked", "excluded", TCP, "plain-client")
MORE_HOSTS = {"allow-list": ["good.example"]}
PROFILES = {FIGURE_2: "httpbin", FIGURE_1: "httpbin-figure-1", HARDENED: "httpbin-hardened"}


@dataclass(frozen=True)
class Place:
    """Where a workload is asked: `host` names it at the gateway's `address`, `url` leads there inside the cluster."""

    name: str
    host: str
    address: str | Edge
    url: str


def hardened(run: Run) -> list[dict]:
    """Return the objects of the hardened profile, gateway and all; none where the params leave it out."""
    if HARDENED not in run.params.profiles:
        return []
    load = lambda file, **names: run.load(f"hardened/{file}.yaml", **names)  # noqa: E731
    things = [*load("namespace"), *load("admission")]
    things += load_balancer.gateway(gateway_tls.with_tls_setting(load(GATEWAY), run), run.params)
    things += run.load("httpbin.yaml", name=PROFILES[HARDENED], namespace=HARDENED)
    return things + load("policy", **_names(run))


def ensure(run: Run) -> pd.DataFrame:
    """Apply the worlds and those who ask them, without waiting for most of them; return what each object was.

    The canary serves keys that are no keys: istiod must get those before the pod that they are for asks, since keys
    that cannot be had are another matter, and Envoy keeps the listener that it has.
    """
    first = [thing for name in (NAMESPACE, STRANGERS) for thing in run.load("namespace.yaml", namespace=name)]
    made = [run.apply([*first, *_copy(run, "canary", COPIES["canary"])])]
    _wait(run, {NAMESPACE: ["canary"]})
    copies = {name: _copy(run, name, notes) for name, notes in COPIES.items() if name != "canary"}
    late = [thing for thing in copies[BROKEN] if thing["kind"] == "Deployment"]
    things = [thing for copy in copies.values() for thing in copy if thing not in late]
    things += run.load("probes/exceptions.yaml") + run.load("probes/intruders.yaml")
    things += [thing for file in (TCP, "policies") for thing in run.load(f"probes/{file}.yaml", **_names(run))]
    things += run.load("caller.yaml", name="sleep", home=STRANGERS, inject="true")
    return pd.concat([*made, run.apply(things), run.apply(late)], ignore_index=True)


def wait(run: Run) -> None:
    """Wait until the worlds and those who ask them are ready, all that can be, and know the issuer they were told of.

    A pod that is there asks nobody about a new issuer, and istiod tells it only when it has done with keys that cannot
    be had: it tries for those again and again.
    """
    copies = [name for name in COPIES if name != BROKEN]
    _wait(run, {NAMESPACE: [*copies, "exceptions", TCP], STRANGERS: ["sleep"]})
    changed = {"kind": "RequestAuthentication", "namespace": NAMESPACE, "action": "changed"}
    for name in [row["name"] for row in run.changes if changed.items() <= row.items()]:
        if name != BROKEN:
            _wait_told(run, name)


def ready_hardened(run: Run) -> None:
    """Give the hardened profile's gateway its certificate, and wait until it shows it and its workload is ready."""
    if HARDENED in run.params.profiles:
        host = f"{PROFILES[HARDENED]}.example"
        gateway_tls.gateway_certificate(run, HARDENED, [host])
        _wait(run, {HARDENED: [GATEWAY, PROFILES[HARDENED]]})
        way, asked = over_sockets(place(run, HARDENED).address), Request("GET", "/headers", (f"Host: {host}",))
        answers = lambda: way([asked])[0].status  # noqa: E731
        polling.wait("the hardened gateway to answer", answers, bool, deadline=run.params.deadline)


def shared(run: Run) -> str | Edge:
    """Return where the mesh's own gateway is asked."""
    own = endpoints.load_balancer_address(run, installation.GATEWAY, installation.ROOT_NAMESPACE, "02-istio")
    return _edge(run, own, endpoints.gateway_host(run))


def place(run: Run, name: str) -> Place:
    """Return where a profile's or world's workload is asked."""
    if name in PORTS:
        return Place(name, "", "", f"http://exceptions.{NAMESPACE}:{PORTS[name]}")
    if name == HARDENED:
        own = endpoints.load_balancer_address(run, GATEWAY, HARDENED, "12-figure-1")
        host = f"{PROFILES[name]}.example"
        return Place(name, host, _edge(run, own, host), f"http://{PROFILES[name]}.{HARDENED}:8000")
    app, home = (PROFILES[name], run.params.namespace) if name in PROFILES else (name, NAMESPACE)
    return Place(name, f"{app}.example", shared(run), f"http://{app}.{home}:8000")


def pods(run: Run, name: str) -> tuple[str, str]:
    """Return the labels and the namespace of a profile's or world's pods."""
    if name in PORTS:
        return "app=exceptions", NAMESPACE
    home = HARDENED if name == HARDENED else run.params.namespace if name in PROFILES else NAMESPACE
    return f"app={PROFILES.get(name, name)}", home


def callers_inside(run: Run) -> dict[str, Callable]:
    """Return, by caller inside the cluster, a function that runs a command in its pod."""
    run.need("v1", "Namespace", STRANGERS, step="11-testing")
    return callers.executors(run) | {"stranger": run.cluster.execute("app=sleep", STRANGERS, "curl")}


def _edge(run: Run, address: str, host: str) -> str | Edge:
    """Where users ask: at the load balancer itself, by the name that its certificate has."""
    where = f"{address}:{gateway_tls.port(run)}"
    return where if run.params.tls == authority.OFF else Edge(where, host)


def _wait(run: Run, homes: dict[str, list[str]]) -> None:
    for home, names in homes.items():
        for name in names:
            run.cluster.wait_rolled_out("Deployment", name, home, run.params.deadline)


def _wait_told(run: Run, name: str) -> None:
    issuer, execute = endpoints.issuer(run), run.cluster.execute(f"app={name}", NAMESPACE, PROXY)
    told = lambda: issuer in proxy.jwks(execute)  # noqa: E731
    polling.wait(f"the sidecar of {name} to know {issuer}", told, deadline=run.params.deadline)


def _copy(run: Run, name: str, notes: dict[str, str]) -> list[dict]:
    things = run.load("httpbin.yaml", name=name, namespace=NAMESPACE)
    template = next(thing for thing in things if thing["kind"] == "Deployment")["spec"]["template"]
    template["metadata"]["annotations"] = notes
    hosts = json.dumps([f"{name}.example", *MORE_HOSTS.get(name, [])])
    return [*things, *run.load("probes/routes.yaml", name=name, hosts=hosts)]


def _names(run: Run) -> dict[str, str]:
    return {
        "issuer": endpoints.issuer(run),
        "jwks_uri": endpoints.jwks_uri(run),
        "other_issuer": endpoints.issuer(run, realm.OTHER),
        "other_jwks_uri": endpoints.jwks_uri(run, realm.OTHER),
        "role": realm.READER,
        "gateway": endpoints.principal(run, HARDENED, GATEWAY),
        "sleep": endpoints.principal(run, run.params.namespace, "sleep"),
    }
