"""Workloads for the probes: the hardened profile, copies of httpbin with policies of their own, and callers."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from lib import polling
from lib.errors import ClusterError
from lib.istio import installation, proxy
from lib.istio.access_log import PROXY
from lib.kubernetes import service_annotations
from lib.kubernetes.cluster import Execute
from lib.kubernetes.status import is_ready
from lib.names import GATEWAY_GROUP, PROBES, ROLES, STRANGERS
from lib.probes.model import FIGURE_1, FIGURE_2, HARDENED
from lib.probes.tokens.kit import Missing
from lib.probes.transport.messages import Request
from lib.probes.transport.sockets import TlsAddress, over_sockets
from lib.run import Run
from lib.steps import authority, callers, end_user_policy, endpoints, gateway_tls, realm

NAMESPACE = PROBES
PLAIN = {"sidecar.istio.io/inject": "false"}

# Worlds by name, with their pods' annotations. Their policies are in notebooks/manifests/probes/policies.yaml.
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
CANARY = f"http://canary.{NAMESPACE}.svc.cluster.local:8000"  # no proxy may call it; its log shows every call
PORTS = {"permissive": 8000, "plain": 8001, "excluded": 8002}  # worlds that share one pod, by port
BROKEN = "bad-keys"  # Envoy refuses a listener with such keys, and the pod never gets ready
TCP = "tcp"  # a world whose port Istio treats as plain TCP
# Worlds whose requests no proxy logs: no sidecar, a port around it, plain TCP, or a caller whose own proxy refuses
UNLOGGED = ("naked", "excluded", TCP, "plain-client")
WORLDS = (*(name for name in COPIES if name != "canary"), TCP, *PORTS)
# Worlds with a namespace of their own, which step 15 makes (lib.roles)
APART = dict.fromkeys(("roles", "roles-opa", "roles-cel", "roles-decode", "roles-rule"), ROLES)
MORE_HOSTS = {"allow-list": ["good.example"]}
PROFILES = {FIGURE_2: "httpbin", FIGURE_1: "httpbin-figure-1", HARDENED: "httpbin-hardened"}
STRANGER, NODE = "stranger", "node"  # callers of step 11: in another namespace, and with hostNetwork
SECOND_GATEWAY = "second-gateway"  # of the namespace STRANGERS


@dataclass(frozen=True)
class Location:
    """A workload's addresses: `host` at the gateway's `address` from outside, `url` from inside the cluster."""

    name: str
    host: str
    address: str | TlsAddress
    url: str


def hardened_objects(run: Run) -> list[dict]:
    """Return the objects of the hardened profile with its gateway; none if the params leave the profile out."""
    if HARDENED not in run.params.profiles:
        return []
    uninjected = str(run.params.gateway_api == installation.GATEWAY_API).lower()
    gateway = service_annotations.gateway(gateway_tls.load(run, "hardened/gateway.yaml"), run.params)
    return [
        *run.load("hardened/namespace.yaml"),
        *run.load("hardened/admission.yaml", account=hardened_gateway(run).deployment, uninjected=uninjected),
        *gateway,
        *run.load("httpbin.yaml", name=PROFILES[HARDENED], namespace=HARDENED),
        *_hardened_policies(run),
        *end_user_policy.challenge(run, HARDENED),
    ]


def policies(objects: list[dict]) -> list[dict]:
    """Return the objects that say who may ask what."""
    return [obj for obj in objects if obj["kind"] in ("RequestAuthentication", "AuthorizationPolicy")]


def ensure(run: Run) -> pd.DataFrame:
    """Apply the worlds and their callers; return a table of the objects with the action that each needed.

    Waits only for the canary, which serves the malformed keys of the world BROKEN. istiod must fetch them before that
    world's pod starts: if it cannot fetch keys, Envoy gets a placeholder key instead, and accepts the listener.
    """
    first = [obj for name in (NAMESPACE, STRANGERS) for obj in run.load("namespace.yaml", namespace=name)]
    account, node = _node_caller(run)
    applied = [run.apply([*first, account, *_copy(run, "canary", COPIES["canary"])])]
    _wait(run, {NAMESPACE: ["canary"]})
    copies = {name: _copy(run, name, notes) for name, notes in COPIES.items() if name != "canary"}
    late = [obj for obj in copies[BROKEN] if obj["kind"] == "Deployment"]
    objects = [obj for copy in copies.values() for obj in copy if obj not in late]
    objects += run.load("probes/exceptions.yaml") + gateway_tls.load(run, "probes/intruders.yaml")
    objects += [obj for file in (TCP, "policies") for obj in run.load(f"probes/{file}.yaml", **_names(run))]
    objects += run.load("caller.yaml", name="sleep", home=STRANGERS, inject="true")
    objects += run.load("probes/second-gateway.yaml")
    objects += [node] if not _node_refused(run) else []
    return pd.concat([*applied, run.apply(objects), run.apply(late)], ignore_index=True)


def wait(run: Run) -> None:
    """Wait until all worlds except BROKEN and their callers are ready, and until changed policies reach their proxies.

    A running proxy gets a changed issuer from istiod, and istiod sends it only after it has given up on keys that it
    cannot fetch. If istiod could not fetch the malformed keys when BROKEN's pod started, that pod has a placeholder key
    and is ready. istiod tries again on its own, so the pod is deleted, and the next one gets the malformed keys.
    """
    copies = [name for name in COPIES if name != BROKEN]
    node = [NODE] if run.cluster.find("apps/v1", "Deployment", NODE, STRANGERS) else []
    _wait(run, {NAMESPACE: [*copies, "exceptions", TCP], STRANGERS: ["sleep", SECOND_GATEWAY, *node]})
    changed = {"kind": "RequestAuthentication", "namespace": NAMESPACE, "action": "changed"}
    for name in [row["name"] for row in run.changes if changed.items() <= row.items()]:
        if name != BROKEN:
            _wait_for_issuer(run, name)
    for pod in run.cluster.items("v1", "Pod", NAMESPACE, f"app={BROKEN}"):
        if is_ready(pod):
            run.cluster.delete("v1", "Pod", pod["metadata"]["name"], NAMESPACE)


def wait_hardened(run: Run) -> None:
    """Give the hardened gateway its certificate; wait until it serves that certificate and the workload is ready."""
    if HARDENED in run.params.profiles:
        end_user_policy.delete_challenge(run, HARDENED)
        host = f"{PROFILES[HARDENED]}.example"
        gateway_tls.gateway_certificate(run, HARDENED, [host])
        _wait(run, {HARDENED: [hardened_gateway(run).deployment, PROFILES[HARDENED]]})
        send, request = over_sockets(location(run, HARDENED).address), Request("GET", "/headers", (f"Host: {host}",))
        polling.wait(
            "the hardened gateway to answer", lambda: send([request])[0].status, bool, deadline=run.params.deadline
        )


def shared_gateway(run: Run) -> str | TlsAddress:
    """Return the address of the gateway that Figure 2 and Figure 1 share."""
    own = endpoints.load_balancer_address(run, endpoints.ingress_gateway(run), "02-istio")
    return _public_address(run, own, endpoints.gateway_host(run))


def location(run: Run, name: str) -> Location:
    """Return the addresses of a profile's or world's workload."""
    if name in PORTS:
        return Location(name, "", "", f"http://exceptions.{NAMESPACE}:{PORTS[name]}")
    if name == HARDENED:
        own = endpoints.load_balancer_address(run, hardened_gateway(run), "12-figure-1")
        host = f"{PROFILES[name]}.example"
        return Location(name, host, _public_address(run, own, host), f"http://{PROFILES[name]}.{HARDENED}:8000")
    app, home = PROFILES.get(name, name), _home(run, name)
    return Location(name, f"{app}.example", shared_gateway(run), f"http://{app}.{home}:8000")


def hardened_gateway(run: Run) -> installation.GatewayService:
    """Return the Service of the hardened profile's gateway."""
    return installation.HARDENED_GATEWAY[run.params.gateway_api]


def pod_selector(run: Run, name: str) -> tuple[str, str]:
    """Return the labels and the namespace of a profile's or world's pods."""
    if name in PORTS:
        return "app=exceptions", NAMESPACE
    return f"app={PROFILES.get(name, name)}", HARDENED if name == HARDENED else _home(run, name)


def _home(run: Run, name: str) -> str:
    """Return the namespace of a profile's or world's workload."""
    return run.params.namespace if name in PROFILES else APART.get(name, NAMESPACE)


def callers_inside(run: Run, strangers: bool = True) -> dict[str, Execute]:
    """Return the callers inside the cluster by name, each as a function that runs a command in its pod.

    Those of step 11 are left out without `strangers`.
    """
    if not strangers:
        return callers.executors(run)
    run.need("v1", "Namespace", STRANGERS, step="11-testing")
    stranger = run.cluster.execute("app=sleep", STRANGERS, "curl")
    return callers.executors(run) | {STRANGER: stranger, NODE: _from_the_node(run)}


def _from_the_node(run: Run) -> Execute:
    """Return what runs a command in the pod with hostNetwork; without the pod it raises Missing, with the reason."""
    try:
        return run.cluster.execute(f"app={NODE}", STRANGERS, "curl")
    except ClusterError as error:
        reason = _node_refused(run) or str(error)

    def missing(argv: list[str], stdin: str = "") -> tuple[str, int]:
        raise Missing(reason)

    return missing


def _node_refused(run: Run) -> str:
    """Return why the cluster refuses a pod with hostNetwork, "" if it accepts one (a dry run)."""
    template = _node_caller(run)[1]["spec"]["template"]
    metadata = {**template["metadata"], "name": NODE, "namespace": STRANGERS}
    refusal = run.cluster.try_apply({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]})
    return refusal and f"the cluster refuses a pod with hostNetwork: {refusal}"


def _node_caller(run: Run) -> list[dict]:
    """Return a caller with the node's address, which asks for a sidecar and gets none."""
    objects = run.load("caller.yaml", name=NODE, home=STRANGERS, inject="true")
    objects[1]["spec"]["template"]["spec"] |= {
        "hostNetwork": True,
        "dnsPolicy": "ClusterFirstWithHostNet",  # without it the pod cannot find Services by name
        "automountServiceAccountToken": False,
    }
    return objects


def _public_address(run: Run, address: str, host: str) -> str | TlsAddress:
    """Return the load balancer's host:port; with TLS, together with the host name of its certificate."""
    at = f"{address}:{gateway_tls.port(run)}"
    return at if run.params.tls == authority.OFF else TlsAddress(at, host)


def _wait(run: Run, homes: dict[str, list[str]]) -> None:
    for home, names in homes.items():
        for name in names:
            run.cluster.wait_rolled_out("Deployment", name, home, run.params.deadline)


def _wait_for_issuer(run: Run, name: str) -> None:
    issuer, execute = endpoints.issuer(run), run.cluster.execute(f"app={name}", NAMESPACE, PROXY)
    polling.wait(
        f"the sidecar of {name} to know {issuer}",
        lambda: issuer in proxy.jwks(execute),
        deadline=run.params.deadline,
    )


def _hardened_policies(run: Run) -> list[dict]:
    """Return the policies of the profile; a Gateway API gateway is chosen by its name, not by its pods' labels."""
    objects = run.load("hardened/policy.yaml", **_names(run))
    if run.params.gateway_api == installation.GATEWAY_API:
        (policy,) = (one for one in objects if one["metadata"]["name"] == "gateway")
        del policy["spec"]["selector"]
        policy["spec"]["targetRefs"] = [{"group": GATEWAY_GROUP, "kind": "Gateway", "name": "gateway"}]
    return objects


def _copy(run: Run, name: str, notes: dict[str, str]) -> list[dict]:
    objects = run.load("httpbin.yaml", name=name, namespace=NAMESPACE)
    template = next(obj for obj in objects if obj["kind"] == "Deployment")["spec"]["template"]
    template["metadata"]["annotations"] = notes
    hosts = [f"{name}.example", *MORE_HOSTS.get(name, [])]
    return [*objects, *gateway_tls.route(run, name, NAMESPACE, hosts)]


def _names(run: Run) -> dict[str, str]:
    return {
        "issuer": endpoints.issuer(run),
        "jwks_uri": endpoints.jwks_uri(run),
        "other_issuer": endpoints.issuer(run, realm.OTHER),
        "other_jwks_uri": endpoints.jwks_uri(run, realm.OTHER),
        "role": realm.READER,
        "gateway": endpoints.principal(run, HARDENED, hardened_gateway(run).deployment),
        "sleep": endpoints.principal(run, run.params.namespace, "sleep"),
    }
