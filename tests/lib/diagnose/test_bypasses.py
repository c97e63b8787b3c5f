"""The inventory names each way around the policies, and nothing of a mesh that has none."""

import pytest

from lib.diagnose import bypasses
from lib.istio.mesh import Mesh

GATEWAY = "istio-system/istio-ingressgateway"
RULES = "AuthorizationPolicy"


def pod(app="web", home="shop", containers=("app", "istio-proxy"), notes=None, **spec):
    metadata = {"name": f"{app}-1", "namespace": home, "labels": {"app": app}, "annotations": notes or {}}
    return {"kind": "Pod", "metadata": metadata, "spec": {"containers": [{"name": one} for one in containers], **spec}}


def policy(kind, home="istio-system", app="", notes=None, **spec):
    selector = {"selector": {"matchLabels": {"app": app}}} if app else {}
    metadata = {"name": "one", "namespace": home, "annotations": notes or {}}
    return {"kind": kind, "metadata": metadata, "spec": {**selector, **spec}}


def service(name, home="shop", **spec):
    return {"kind": "Service", "metadata": {"name": name, "namespace": home}, "spec": spec}


STRICT = policy("PeerAuthentication", mtls={"mode": "STRICT"})
PORT = policy("PeerAuthentication", "shop", "web", portLevelMtls={8080: {"mode": "PERMISSIVE"}, 9090: {}})
EXCLUDED = {"traffic.sidecar.istio.io/excludeInboundPorts": "8080", "traffic.sidecar.istio.io/includeInboundPorts": ""}
ALL = {"traffic.sidecar.istio.io/excludeInboundPorts": "", "traffic.sidecar.istio.io/includeInboundPorts": "*"}
TRIAL = {"istio.io/dry-run": "true"}


def ways(*objects, strict=True):
    """The kinds of ways that are there, from objects beside a sound workload."""
    given = [pod(), *([STRICT] if strict else []), service("web", type="ClusterIP"), *objects]
    kind = lambda *names: [one for one in given if one["kind"] in names]  # noqa: E731
    found = bypasses.inventory(kind("Pod"), kind(*KINDS), kind("Service"), {GATEWAY}, Mesh())
    assert list(found) == list(bypasses.KINDS)
    return {name: rows for name, rows in found.items() if rows}


KINDS = ("PeerAuthentication", "AuthorizationPolicy", "RequestAuthentication")


def test_a_sound_mesh_has_none():
    gateway = pod("istio-ingressgateway", "istio-system", ("istio-proxy",))
    entrance = service("istio-ingressgateway", "istio-system", type="LoadBalancer")
    assert ways(gateway, entrance, pod(notes=ALL), policy("AuthorizationPolicy", "shop", "web")) == {}


@pytest.mark.parametrize(
    ("thing", "kind", "name", "text"),
    [
        (pod("bare", containers=("app",)), "no sidecar", "shop/bare", "no container istio-proxy"),
        (pod("agent", hostNetwork=True), "hostNetwork", "shop/agent", "hostNetwork: true"),
        (PORT, "plain text", "shop/web", "PERMISSIVE for port 8080 by shop/one"),
        (pod("x", notes=EXCLUDED), "excluded from the sidecar", "shop/x",
         "excludeInboundPorts: 8080; includeInboundPorts: none"),
        (service("side", type="NodePort"), "another way in", "shop/side", "NodePort"),
        (service("side", externalIPs=["10.0.0.9"]), "another way in", "shop/side", "external address 10.0.0.9"),
        (policy(RULES, "shop", "wbe"),
         "a policy without effect", f"{RULES} shop/one", "no pod with a proxy has app=wbe"),
        (policy(RULES, "empty"),
         "a policy without effect", f"{RULES} empty/one", "no pod with a proxy is in its namespace"),
        (policy(RULES, "shop", targetRefs=[{"kind": "Gateway", "name": "gone"}]),
         "a policy without effect", f"{RULES} shop/one", "no pod with a proxy is of Gateway gone"),
    ],
)  # fmt: skip
def test_each_way_has_its_row(thing, kind, name, text):
    assert ways(thing) == {kind: {name: text}}


def test_a_trial_protects_nothing():
    (row,) = ways(policy("AuthorizationPolicy", "shop", "web", TRIAL))["a policy without effect"].values()
    assert "Envoy only logs" in row


def test_a_policy_for_a_pod_without_a_sidecar_protects_nothing():
    found = ways(pod("bare", containers=("app",)), policy(RULES, "shop", "bare"))
    assert found["a policy without effect"] == {f"{RULES} shop/one": "no pod with a proxy has app=bare"}


def test_without_a_policy_the_mode_is_permissive():
    assert ways(strict=False) == {"plain text": {"shop/web": "PERMISSIVE by default"}}


def test_a_pod_of_the_nodes_network_is_two_ways():
    found = ways(pod("agent", containers=("app",), hostNetwork=True))
    assert found == {
        "no sidecar": {"shop/agent": "no container istio-proxy"},
        "hostNetwork": {"shop/agent": "hostNetwork: true"},
    }


def test_pods_of_kubernetes_itself_pods_that_ended_and_pods_of_ambient_are_left_out():
    ended = pod("job", containers=("app",)) | {"status": {"phase": "Succeeded"}}
    ambient = pod("flat", containers=("app",), notes={"ambient.istio.io/redirection": "enabled"})
    assert ways(pod("proxy", "kube-system", ("app",), hostNetwork=True), ended, ambient) == {}


def test_two_pods_of_a_workload_are_one_row():
    assert len(ways(pod("bare", containers=("app",)), pod("bare", containers=("app",)))["no sidecar"]) == 1


def test_a_policy_with_a_selector_is_without_effect_where_a_gateway_takes_only_targetrefs():
    at = {"gateway.networking.k8s.io/gateway-name": "edge"}
    gateway = pod("edge", containers=("istio-proxy",))
    gateway["metadata"]["labels"] = at
    selecting = policy(RULES, "shop")
    selecting["spec"]["selector"] = {"matchLabels": at}
    strict = Mesh(variables={"ENABLE_SELECTOR_BASED_K8S_GATEWAY_POLICY": "false"})

    def without(policy, mesh, *pods):
        return list(bypasses.inventory(pods, [policy], [], set(), mesh)["a policy without effect"].values())

    assert without(selecting, Mesh(), gateway) == []
    (reason,) = without(selecting, strict, gateway)
    assert "only policies with targetRefs" in reason
    assert without(policy(RULES, "shop"), strict, gateway, pod()) == []  # it protects the pod with a sidecar
