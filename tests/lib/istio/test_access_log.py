"""Envoy's access log lines, and who answered."""

import itertools
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest

from lib.istio.access_log import (
    Hop,
    Trail,
    fetch,
    flush,
    join,
    lines_of,
    mismatch,
    read,
    running,
    wait_for,
    who_answered,
)
from lib.kubernetes.cluster import Cluster

GATEWAY = (
    '[2026-11-20T10:00:00.123Z] "GET /headers HTTP/1.1" 401 - via_upstream - "-" 0 14 3 2 "198.18.0.1" "B12a.figure-2" '
    '"0c5a" "httpbin.example" "10.0.0.7:8080" outbound|8000||httpbin.foo.svc.cluster.local 10.0.0.5:4 10.0.0.5:8080 '
    "198.18.0.1:5 - -"
)
DENIED = (
    '[2026-11-20T10:00:00.124Z] "GET /headers HTTP/1.1" 401 - jwt_authn_access_denied{Jwt_is_expired} - "-" 0 14 0 - '
    '"198.18.0.1" "B12a.figure-2" "0c5a" "httpbin.example" "-" inbound|8080|| - 10.0.0.7:8080 198.18.0.1:0 '
    "outbound_.8000_._.httpbin.foo.svc.cluster.local default"
)
PASSED = DENIED.replace("jwt_authn_access_denied{Jwt_is_expired}", "via_upstream")
CODEC = (
    '[2026-11-20T10:00:00.125Z] "- - HTTP/1.1" 400 DPE http1.codec_error - "-" 0 11 0 - "-" "-" "-" "-" "-" - - '
    "10.0.0.5:8080 198.18.0.1:5 - -"
)
ODD = GATEWAY.replace("/headers", '/x" 200 - " HTTP/1.1').replace("B12a", "F05")

first_hop, last_hop = read([GATEWAY])["B12a.figure-2"], read([DENIED], "sidecar")["B12a.figure-2"]
APP = read([PASSED], "sidecar")["B12a.figure-2"]


def test_a_line_is_a_hop():
    assert first_hop == Hop("gateway", 401, "", "via_upstream", "0c5a", "10.0.0.7:8080")
    assert last_hop == Hop("sidecar", 401, "", "jwt_authn_access_denied{Jwt_is_expired}", "0c5a", "")


def test_other_lines_are_passed_over():
    found = read(["", "2026-11-20T10:00:00Z info Envoy proxy is ready", CODEC, ODD, GATEWAY])
    assert found.keys() == {"-", "F05.figure-2", "B12a.figure-2"}
    assert (found["-"].flags, found["-"].details, found["-"].request_id) == ("DPE", "http1.codec_error", "")
    assert found["F05.figure-2"].code == 401


def test_of_two_lines_with_one_label_the_last_counts():
    assert read([GATEWAY, GATEWAY.replace(" 401 ", " 200 ")])["B12a.figure-2"].code == 200


CUT = Hop("gateway", 0, "DC", "downstream_remote_disconnect", "0c5a", "")


@pytest.mark.parametrize(
    ("gateway", "sidecar", "answered"),
    [
        (first_hop, last_hop, "sidecar"),
        (first_hop, APP, "application"),
        (first_hop, None, "application"),
        (read([CODEC])["-"], None, "gateway"),
        (None, last_hop, "sidecar"),
        (None, None, "nobody"),
        (CUT, None, "nobody"),
    ],
)
def test_who_answered(gateway, sidecar, answered):
    assert who_answered(gateway, sidecar) == answered


def test_hops_of_two_requests_do_not_pass_for_one():
    other = read([DENIED.replace("0c5a", "beef")], "sidecar")["B12a.figure-2"]
    assert mismatch(first_hop, other) == "request ids differ: gateway 0c5a, sidecar beef"
    assert join({"x": first_hop}, {"x": other, "y": last_hop}) == {
        "x": Trail(first_hop, other, "sidecar", "request ids differ: gateway 0c5a, sidecar beef"),
        "y": Trail(None, last_hop, "sidecar"),
    }


class Api:
    """A cluster's API with one gateway pod that runs and one that has ended."""

    configuration = SimpleNamespace(host="https://api")

    def __init__(self):
        self.asked = []

    def param_serialize(self, method, path, query_params, header_params, body, auth_settings):
        return (path, query_params)

    def call_api(self, path, query, _request_timeout):
        self.asked.append((path, query))
        return Response(PAGES[path])


class Response:
    """One answer of the API."""

    status = 200

    def __init__(self, text):
        self.text = text

    def read(self):
        return self.text.encode()


PODS = "/api/v1/namespaces/istio-system/pods"
PAGES = {
    "/api/v1": '{"resources": [{"name": "pods", "kind": "Pod", "namespaced": true}]}',
    PODS: '{"items": [{"metadata": {"name": "one", "namespace": "istio-system"}, "status": {"phase": "Running"}},'
    ' {"metadata": {"name": "two"}, "status": {"phase": "Failed"}}]}',
    f"{PODS}/one/log": f"ready\n{GATEWAY}\n",
}


def test_logs_of_running_pods_are_fetched():
    api = Api()
    assert fetch(Cluster(api), "istio=ingressgateway", "istio-system", 30) == {"B12a.figure-2": first_hop}
    assert api.asked[1:] == [
        (PODS, [("labelSelector", "istio=ingressgateway")]),
        (f"{PODS}/one/log", [("container", "istio-proxy"), ("sinceSeconds", "30")]),
    ]


def test_pods_are_listed_once_however_often_their_logs_are_read():
    api = Api()
    cluster = Cluster(api)
    pods = running(cluster, "istio=ingressgateway", "istio-system")
    assert lines_of(cluster, pods, 30) == lines_of(cluster, pods, 30) == ["ready", GATEWAY]
    assert [path for path, _ in api.asked[1:]] == [PODS, f"{PODS}/one/log", f"{PODS}/one/log"]


def waited(*pages, **options):
    """Ask for a and b, of users; a second goes by with each page, and the last one stays."""
    given, clock = list(pages), itertools.count()
    ask = lambda: given.pop(0) if len(given) > 1 else given[0]  # noqa: E731
    return wait_for(ask, {"a": True, "b": True}, 0, slack=0, clock=lambda: next(clock), **options)


@pytest.mark.parametrize(
    ("kind", "env", "seconds"),
    [
        ("containers", [], 1.0),
        ("containers", [{"name": "PROXY_CONFIG", "value": "{}\n"}], 1.0),
        ("containers", [{"name": "PROXY_CONFIG", "value": '{"fileFlushInterval":"0.100s"}\n'}], 0.1),
        ("initContainers", [{"name": "PROXY_CONFIG", "value": '{"concurrency":2,"fileFlushInterval":"3s"}\n'}], 3.0),
    ],
)
def test_a_pod_says_how_long_its_proxy_keeps_a_line_back(kind, env, seconds):
    proxy = {"name": "istio-proxy", "env": [{"name": "POD_NAME", "valueFrom": {}}, *env]}
    assert flush({"spec": {"containers": [{"name": "application"}], kind: [proxy]}}) == seconds


def test_the_first_look_at_the_logs_comes_when_all_proxies_have_written():
    began, looks = time.monotonic(), []
    ask = lambda: looks.append(time.monotonic() - began) or {"a": INSIDE}  # noqa: E731
    wait_for(ask, {"a": False}, 0.2, slack=0.1)
    assert len(looks) == 1 and looks[0] >= 0.3


SENT, CAME = Trail(first_hop, None, "application"), Trail(first_hop, last_hop, "sidecar")
REFUSED = Trail(replace(first_hop, upstream=""), None, "gateway")
INSIDE = Trail(None, last_hop, "sidecar")


def test_lines_that_come_late_are_waited_for():
    assert waited({}, {"a": CAME}, {"a": CAME, "b": REFUSED}).keys() == {"a", "b"}


@pytest.mark.parametrize("first", [SENT, INSIDE])
def test_the_other_proxys_line_of_a_label_that_is_there_is_waited_for(first):
    assert waited({"a": CAME, "b": first}, {"a": CAME, "b": CAME}, quiet=60)["b"] == CAME


def test_a_request_from_inside_the_mesh_has_no_gateways_line():
    looks = []
    ask = lambda: looks.append(1) or {"a": INSIDE}  # noqa: E731
    assert wait_for(ask, {"a": False}, 0, slack=0) == {"a": INSIDE} and len(looks) == 1


def test_where_a_proxys_line_never_comes_it_is_quiet_after_a_while():
    both = {"a": SENT, "b": CAME}
    assert waited(both, both, both, both, quiet=2, deadline=60) == both


def test_a_line_that_never_comes_does_not_keep_the_others():
    assert waited({"a": CAME}, deadline=0.1) == {"a": CAME}
