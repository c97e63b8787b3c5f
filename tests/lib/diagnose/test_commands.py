"""The commands of an advice: which pods they change, and that no secret is in them."""

from dataclasses import replace

import pytest

from lib.diagnose import connectivity
from lib.diagnose.diagnosis import explain
from lib.diagnose.evidence import Evidence
from lib.diagnose.pods import Workload, pods_command, sidecar_command
from lib.http_client import Answer
from lib.istio import gateway_api
from lib.istio.access_log import Hop
from lib.istio.mesh import Mesh

WEB = Workload("shop", {"app": "web"}, "web", "web-5f6b-x2x4z", True, True)
HASH, INDEX = {"pod-template-hash": "5f6b"}, {"apps.kubernetes.io/pod-index": "0"}


@pytest.mark.parametrize(
    ("labels", "pod", "owner"), [(HASH, "web-5f6b-x2x4z", "deployment"), (INDEX, "web-0", "statefulset")]
)
def test_the_owner_of_the_pods_is_changed_and_its_new_pods_are_waited_for(labels, pod, owner):
    command = pods_command(replace(WEB, labels=WEB.labels | labels, pod=pod), annotations={"a": None})
    assert (
        command.startswith(f"kubectl -n shop patch {owner} web --type=merge -p ")
        and '"annotations": {"a": null}' in command
    )
    assert command.endswith(f" && kubectl -n shop rollout status {owner}/web")


def test_pods_of_another_owner_have_no_command():
    assert pods_command(WEB, labels={"a": "b"}) == ""


def test_a_sidecar_of_a_revision_needs_its_label():
    workload = replace(WEB, labels=WEB.labels | HASH)
    assert '"istio.io/rev": "1-31"' in sidecar_command(workload, Mesh(revision="1-31"))
    assert "istio.io/rev" not in sidecar_command(workload, Mesh())


METADATA = {"name": "way", "namespace": "shop"}
VIRTUAL = {
    "kind": "VirtualService",
    "metadata": METADATA,
    "spec": {"hosts": ["web"], "http": [{"match": [{"uri": {"prefix": "/public"}, "method": {"exact": "GET"}}]}]},
}
HTTP_ROUTE = {
    "kind": "HTTPRoute",
    "metadata": METADATA,
    "spec": {"hostnames": ["web"], "rules": [{"matches": [{"path": {"value": "/public"}, "method": "GET"}]}]},
}


@pytest.mark.parametrize(
    ("virtual", "patch"),
    [
        (VIRTUAL, '"/spec/http/0/match/-", "value": {"uri": {"exact": "/private"}, "method": {"exact": "GET"}}'),
        (
            gateway_api.virtual_services([HTTP_ROUTE])[0],
            '"/spec/rules/0/matches/-", "value": {"path": {"type": "Exact", "value": "/private"}, "method": "GET"}',
        ),
    ],
    ids=["VirtualService", "HTTPRoute"],
)
def test_a_path_is_added_to_the_live_route_of_either_kind(virtual, patch):
    gateways = [{"spec": {"servers": []}}]
    about = {"gateway": WEB, "gateways": gateways, "hosts_served": True, "virtuals": [virtual], "way_known": True}
    hop = Hop("gateway", 404, "NR", "route_not_found", "", "")
    seen = Evidence("http://web/private", "web", "/private", "GET", Answer(404, "", 1.0), gateway_hop=hop, **about)
    found = connectivity.find_cause(seen)
    kind = virtual.get("kind", "HTTPRoute").lower()
    assert found.cause == "path-not-routed"
    assert found.command.startswith(f"kubectl -n shop patch {kind} way --type=json") and patch in found.command


def test_a_command_with_a_secret_is_left_out():
    seen = Evidence("http://web/", "web", "/", "GET", Answer(403, "no", 1.0), secrets=["p4ssw0rd"])
    assert explain(seen, "a", "b", "c", command="kubectl get x").command
    assert explain(seen, "a", "b", "c", command="kubectl get p4ssw0rd").command == ""
