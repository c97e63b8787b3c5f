"""Envoy alone: what policies on both sides of a route see of a request that the route changes, as `why` judges it."""

from __future__ import annotations

import http.client
from itertools import product

import pytest

from lib.istio import evaluator, gateway_api, routes
from lib.istio.evaluator import Call
from lib.vectors import envoy

pytestmark = pytest.mark.sandbox

HEADER, SENT, OLD, NEW = "x-tenant", (None, "red", "blue"), "shop.example", "web.internal"
BLUE, GREEN = [{"name": "X-Tenant", "value": "blue"}], [{"name": "X-Tenant", "value": "green"}]
CHANGES = [  # of a RequestHeaderModifier
    {}, {"set": BLUE}, {"add": BLUE}, {"remove": [HEADER]}, {"remove": [HEADER], "set": BLUE},
    {"remove": [HEADER], "add": BLUE}, {"set": BLUE, "add": GREEN},
]  # fmt: skip
VALUES = ["red", "blue", "green", "red,blue"]
ACTIONS = {"set": "OVERWRITE_IF_EXISTS_OR_ADD", "add": "APPEND_IF_EXISTS_OR_ADD"}  # as istiod writes them
RBAC = f"{envoy.FILTERS}.http.rbac.v3.RBAC"


def place(port):
    return {"socket_address": {"address": envoy.LOOPBACK, "port_value": port}}


def listener(port, way, header="", value=""):
    """A listener that allows a header's value alone, if one is given, before its routes."""
    only = {"permissions": [{"any": True}], "principals": [
        {"header": {"name": header, "string_match": {"exact": value}}}]}  # fmt: skip
    rules = {"@type": RBAC, "rules": {"action": "ALLOW", "policies": {"only": only}}}
    filters = [{"name": "rbac", "typed_config": rules}] if header else []
    filters.append({"name": "router", "typed_config": {"@type": envoy.EXTENSION["router"]}})
    hosts = {"virtual_hosts": [{"name": "any", "domains": ["*"], "routes": way}]}
    manager = {"@type": envoy.EXTENSION["manager"], "stat_prefix": "bare", "normalize_path": True,
               "http_filters": filters, "route_config": hosts}  # fmt: skip
    chain = {"filters": [{"name": "http", "typed_config": manager}]}
    return {"name": str(port), "address": place(port), "filter_chains": [chain]}


def to(path, port, change=None, **route):
    """Envoy's route to a port, as istiod writes it for a RequestHeaderModifier."""
    made = [
        {"header": {"key": one["name"], "value": one["value"]}, "append_action": ACTIONS[how]}
        for how in ACTIONS
        for one in (change or {}).get(how, [])
    ]
    headers = {"request_headers_to_add": made, "request_headers_to_remove": (change or {}).get("remove", [])}
    return {"match": {"path": path}, "route": {"cluster": str(port), **route}, **headers}


@pytest.fixture(scope="module")
def ask(places):
    """Yield what asks an Envoy: gateways by the host that their policy allows, workloads by what theirs allows."""
    passed = [{"match": {"prefix": "/"}, "direct_response": {"status": 200}}]
    wants = [*((HEADER, value) for value in VALUES), (":authority", OLD), (":authority", NEW)]
    workloads = {want: envoy.free_port() for want in wants}
    gateways = {host: envoy.free_port() for host in ("", OLD, NEW)}
    way = [to(f"/{number}/{value}", workloads[HEADER, value], change)
           for (number, change), value in product(enumerate(CHANGES), VALUES)]  # fmt: skip
    way += [to(f"/{host}", workloads[":authority", host], host_rewrite_literal=NEW) for host in (OLD, NEW)]
    listeners = [listener(port, passed, *want) for want, port in workloads.items()]
    listeners += [listener(port, way, host and ":authority", host) for host, port in gateways.items()]
    clusters = [
        {"name": str(port), "load_assignment": {"cluster_name": str(port), "endpoints": [
            {"lb_endpoints": [{"endpoint": {"address": place(port)}}]}]}}
        for port in workloads.values()
    ]  # fmt: skip

    def status(path, sent=None, gateway=""):
        connection = http.client.HTTPConnection(envoy.LOOPBACK, gateways[gateway], timeout=10)
        connection.request("GET", path, headers={"Host": OLD, **({HEADER: sent} if sent else {})})
        return connection.getresponse().status

    bootstrap = {"static_resources": {"listeners": listeners, "clusters": clusters}}
    with envoy.started(places["envoy"], bootstrap, gateways[NEW]):
        yield status


def test_a_workloads_policy_sees_the_headers_as_the_route_leaves_them(ask):
    cases = list(product(range(len(CHANGES)), VALUES, SENT))
    got = {case: ask(f"/{case[0]}/{case[1]}", case[2]) == 200 for case in cases}
    assert got == {case: judged(CHANGES[case[0]], case[1], case[2]) for case in cases}
    assert 10 < sum(got.values()) < len(cases) - 10


def judged(change, value, sent):
    """Whether lib.istio says that a policy for this value lets the request in behind an HTTPRoute."""
    rule = {"backendRefs": [{"name": "web"}], "filters": [{"requestHeaderModifier": change}]}
    about = {"metadata": {"name": "web", "namespace": "shop"}, "spec": {"rules": [rule]}}
    (virtual,) = gateway_api.virtual_services([about])
    headers = routes.route(virtual, "/").changed({HEADER: sent} if sent else {})
    rules = [{"when": [{"key": f"request.headers[{HEADER}]", "values": [value]}]}]
    policy = {"kind": "AuthorizationPolicy", "metadata": {"name": "one", "namespace": "shop"}, "spec": {"rules": rules}}
    return evaluator.decide([policy], Call(headers=headers)).allowed


def test_a_gateways_policy_sees_the_host_before_the_route_rewrites_it_and_a_workloads_after(ask):
    assert {gateway: ask(f"/{NEW}", gateway=gateway) for gateway in (OLD, NEW)} == {OLD: 200, NEW: 403}
    assert {host: ask(f"/{host}") for host in (OLD, NEW)} == {OLD: 403, NEW: 200}


def test_a_route_is_found_by_the_normalized_path(ask):
    assert ask(f"/x/../{NEW}") == ask(f"/%77{NEW[1:]}") == 200
