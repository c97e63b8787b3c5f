"""Whose address the mesh takes for the client's, by each way in that docs/ingress.md speaks of.

Four gateways before one httpbin; gateway and workload let in by `remoteIpBlocks` alone, each on a path of its own.
"""

from __future__ import annotations

import json

import pytest

from lib import params
from lib.kubernetes import service_annotations
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


def gateway(name: str) -> list[dict]:
    """Return the gateway of the hardened profile in another namespace, named and dressed for a way."""
    run = here(**WAYS[name])
    things = service_annotations.gateway(
        gateway_tls.with_tls_setting(run.load("hardened/gateway.yaml"), run), run.params
    )
    things = [one for one in things if one["kind"] not in ("EnvoyFilter", "VirtualService")]
    text = json.dumps(things).replace("httpbin-hardened.example", "*").replace("hardened-gateway", f"ways-{name}")
    made = json.loads(text.replace('"hardened"', f'"{HOME}"').replace('"gateway"', f'"{name}"'))
    for one in made:  # what is looked for by its kind has kept its word
        if one["kind"] == "Deployment":
            one["spec"]["template"]["metadata"]["annotations"]["inject.istio.io/templates"] = "gateway"
    return made


def policy(name: str, path: str, **selector: str) -> dict:
    blocks = [{"source": {"remoteIpBlocks": ["203.0.113.0/24", LINK]}}]
    rules = [{"from": blocks, "to": [{"operation": {"paths": [path]}}]}]
    rules.append({"to": [{"operation": {"notPaths": [path]}}]})
    spec = {"selector": {"matchLabels": selector}, "rules": rules}
    about = {"name": name, "namespace": HOME}
    return {"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy", "metadata": about, "spec": spec}


@pytest.fixture(scope="module")
def ways(first):
    """Make the four gateways; give a function that asks by one of them, for the answers at gateway and workload."""
    run, cluster = here(), here().cluster
    things = [*run.load("namespace.yaml", namespace=HOME), *run.load("httpbin.yaml", name="httpbin", namespace=HOME)]
    route = gateway_tls.route(run, "httpbin", HOME)
    route[0]["spec"]["gateways"] = list(WAYS)
    things += [*route, policy("workload", "/anything/workload", app="httpbin")]
    for name in WAYS:
        things += [*gateway(name), policy(f"gateway-{name}", "/anything/gateway", istio=f"ways-{name}")]
    try:
        for thing in things:
            cluster.apply(thing)
        for name in ("httpbin", *WAYS):
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


@pytest.mark.parametrize(("name", "how", "answers"), ROWS, ids=lambda one: str(one) if isinstance(one, str) else None)
def test_the_client_is_whom_the_way_in_says(ways, name, how, answers):
    got = until(lambda: ways(name, **how), lambda found: found == answers, streak=3, deadline=40)
    assert got.value == answers and got.held
