"""Whose address the mesh takes for the client's, by each way in that docs/ingress.md speaks of.

Four gateways of each API before one httpbin; gateway and workload let in by `remoteIpBlocks` alone, each on a path of
its own.
"""

from __future__ import annotations

import json

import pytest

from lib import params
from lib.istio.installation import GATEWAY_API, ISTIO
from lib.kubernetes import service_annotations
from lib.names import GATEWAY_GROUP
from lib.polling import until
from lib.probes.transport.messages import Request
from lib.probes.transport.sockets import over_sockets
from lib.record.events import Record
from lib.run import Run
from lib.steps import gateway_tls
from sandbox.host import veth
from tests.support.runbook import kubectl

pytestmark = pytest.mark.sandbox
HOME = "ways-in"
FRIEND, STRANGER = "203.0.113.50", "192.0.2.1"  # RFC 5737's: the first is in the range that is let in
LBC = {"load_balancer_controller": "aws-load-balancer-controller"}
WAYS = {
    "cluster": {},
    "local": {"external_traffic_policy": "Local"},
    "proxy": {**LBC, "load_balancer_proxy_protocol": True},
    "trusted": {"trusted_proxies": 1},
}
LINK = str(veth.Link(0).network)  # where this machine is to the sandbox


def here(**changed) -> Run:
    """In clear, so that what is sent is what is looked at."""
    return Run("ways-in", params.load("dev", {"tls": "off", **changed}), Record())


def gateway(name: str, api: str) -> list[dict]:
    """Return the gateway of the hardened profile in another namespace, named and dressed for a way."""
    run = here(**WAYS[name], gateway_api=api)
    things = service_annotations.gateway(gateway_tls.load(run, "hardened/gateway.yaml"), run.params)
    things = [one for one in things if one["kind"] not in ("EnvoyFilter", "VirtualService", "HTTPRoute")]
    for one in (each["spec"] for each in things if "listeners" in each.get("spec", {})):
        del one["listeners"][0]["hostname"]  # every host
        del one["infrastructure"]["labels"]  # the Service of Istio's own form would select these pods too
    text = json.dumps(things).replace("httpbin-hardened.example", "*").replace("hardened-gateway", f"ways-{name}")
    text = text.replace('"hardened"', f'"{HOME}"').replace('"gateway-options"', f'"{name}-options"')
    made = json.loads(text.replace('"gateway"', f'"{name}"'))
    for one in made:  # what is looked for by its kind has kept its word
        if one["kind"] == "Deployment":
            one["spec"]["template"]["metadata"]["annotations"]["inject.istio.io/templates"] = "gateway"
    return made


def route(api: str) -> list[dict]:
    """Return the route from the gateways of an API to httpbin."""
    (made,) = gateway_tls.route(here(), "httpbin", HOME, api=api)
    parents = {"gateways": list(WAYS)} if api == ISTIO else {"parentRefs": [{"name": name} for name in WAYS]}
    return [{**made, "spec": {**made["spec"], **parents}}]


def service(name: str, api: str) -> str:
    """Return the name of a gateway's Service and Deployment."""
    return name if api == ISTIO else f"{name}-istio"


def place(name: str, api: str) -> dict:
    """Return what applies a policy to a gateway."""
    if api == ISTIO:
        return {"selector": {"matchLabels": {"istio": f"ways-{name}"}}}
    return {"targetRefs": [{"group": GATEWAY_GROUP, "kind": "Gateway", "name": name}]}


def policy(name: str, path: str, **at: object) -> dict:
    blocks = [{"source": {"remoteIpBlocks": ["203.0.113.0/24", LINK]}}]
    rules = [{"from": blocks, "to": [{"operation": {"paths": [path]}}]}]
    rules.append({"to": [{"operation": {"notPaths": [path]}}]})
    about = {"name": name, "namespace": HOME}
    return {
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": about,
        "spec": {**at, "rules": rules},
    }


@pytest.fixture(scope="module")
def ways(first):
    """Make the gateways; give a function that asks by one of them, for the answers at gateway and workload."""
    run, cluster = here(), here().cluster
    things = [*run.load("namespace.yaml", namespace=HOME), *run.load("httpbin.yaml", name="httpbin", namespace=HOME)]
    things += [policy("workload", "/anything/workload", selector={"matchLabels": {"app": "httpbin"}})]
    for api in (ISTIO, GATEWAY_API):
        things += route(api)
        for name in WAYS:
            things += [*gateway(name, api), policy(service(name, api), "/anything/gateway", **place(name, api))]
    services = [service(name, api) for name in WAYS for api in (ISTIO, GATEWAY_API)]
    try:
        for thing in things:
            cluster.apply(thing)
        for name in ("httpbin", *services):
            until(lambda name=name: cluster.find("apps/v1", "Deployment", name, HOME), bool, deadline=60)
            cluster.wait_rolled_out("Deployment", name, HOME, 180)
        yield lambda name, **how: asked(cluster.wait_address(name, HOME, 60), **how)
    finally:
        kubectl("delete", "namespace", HOME, "--wait=true", "--timeout=60s", check=False)


def asked(address: str, forwarded: str = "", proxy: str = "") -> tuple[int, int]:
    """Return the statuses at the gateway's path and at the workload's, with an X-Forwarded-For and a PROXY header."""
    first = f"PROXY TCP4 {proxy} {address} 40000 80\r\n".encode() if proxy else b""
    more = (f"X-Forwarded-For: {forwarded}",) if forwarded else ()
    way = over_sockets(f"{address}:80", first=first)
    ask = [Request("GET", f"/anything/{one}", ("Host: any.example", *more)) for one in ("gateway", "workload")]
    return tuple(reply.status for reply in way(ask))


ROWS = [
    # the transport, the client's headers, the statuses at the gateway and at the workload
    ("cluster", {}, (403, 403)),
    ("cluster", {"forwarded": FRIEND}, (403, 403)),
    ("local", {}, (200, 200)),
    ("local", {"forwarded": STRANGER}, (200, 200)),
    ("proxy", {}, (0, 0)),
    ("proxy", {"proxy": FRIEND}, (200, 200)),
    ("proxy", {"proxy": STRANGER}, (403, 403)),
    ("proxy", {"proxy": STRANGER, "forwarded": FRIEND}, (403, 403)),
    ("trusted", {"forwarded": FRIEND}, (200, 403)),
    ("trusted", {"forwarded": f"{FRIEND}, {STRANGER}"}, (403, 403)),
]


@pytest.mark.parametrize("api", [ISTIO, GATEWAY_API])
@pytest.mark.parametrize(("name", "how", "answers"), ROWS, ids=lambda one: str(one) if isinstance(one, str) else None)
def test_the_client_is_whom_the_way_in_says(ways, name, how, answers, api):
    got = until(lambda: ways(service(name, api), **how), lambda found: found == answers, streak=3, deadline=40)
    assert got.value == answers and got.held
