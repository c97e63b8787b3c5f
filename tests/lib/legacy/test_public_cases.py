"""Old files as people have them: printed by kubectl, half migrated, by Istio's own charts; nothing of them is lost."""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from lib.errors import LegacyError
from lib.legacy import translate
from lib.legacy.__main__ import main
from lib.legacy.services import Services

GATEWAY = Services({"istio-ingressgateway": {"istio": "ingressgateway"}, "orders": {"app": "orders"}})
LISTED = """
apiVersion: v1
kind: List
metadata: {resourceVersion: ""}
items:
- apiVersion: authentication.istio.io/v1alpha1
  kind: Policy
  metadata: {name: old, namespace: shop, creationTimestamp: "2019-01-01T00:00:00Z", generation: 3, uid: u}
  spec: {targets: [{name: orders}], peers: [{mtls: {}}]}
- apiVersion: authentication.istio.io/v1alpha1
  kind: Policy
  metadata: {name: young, namespace: shop, creationTimestamp: "2019-06-01T00:00:00Z"}
  spec: {targets: [{name: orders}]}
- apiVersion: v1
  kind: Service
  metadata: {name: orders, namespace: shop}
  spec: {selector: {app: orders}, ports: [{name: http, port: 80, targetPort: 8080}]}
"""


def objects(text, services=None, **options):
    found = translate(list(yaml.safe_load_all(text)), services, **options)
    notes = " ".join(note for one in found for note in (*one.notes, *one.warnings))
    return [one.manifest for one in found if one.manifest], notes


def test_what_kubectl_prints_is_read_with_the_ages(tmp_path, capsys):
    (peer,), notes = objects(LISTED)
    assert peer["spec"]["mtls"] == {"mode": "STRICT"} and peer["metadata"] == {"name": "old", "namespace": "shop"}
    assert "Policy young had no effect on the Service orders: the older policy old applied there" in notes
    file = tmp_path / "list.yaml"
    file.write_text(LISTED.replace("kind: List", "kind: PolicyList"))
    assert main([str(file)]) == 0 and "name: old" in capsys.readouterr().out


def test_the_list_of_one_kind_gives_its_items_their_kind():
    listed = yaml.safe_load(LISTED)
    items = [{key: one[key] for key in ("metadata", "spec")} for one in listed["items"][:1]]
    old = {"apiVersion": "authentication.istio.io/v1alpha1", "kind": "PolicyList", "metadata": {}, "items": items}
    assert [one.manifest["kind"] for one in translate([old], GATEWAY) if one.manifest] == ["PeerAuthentication"]


AT_THE_GATEWAY = """
apiVersion: authentication.istio.io/v1alpha1
kind: Policy
metadata: {name: edge, namespace: istio-system}
spec:
  targets: [{name: istio-ingressgateway, ports: [{number: 80}]}]
  origins:
  - jwt:
      issuer: https://edge.example
      audiences: [edge]
      jwksUri: https://edge.example/keys
      jwtHeaders: [x-assertion]
      trigger_rules: [{excluded_paths: [{exact: /healthz}]}]
  principalBinding: USE_ORIGIN
"""


def test_a_policy_at_the_gateway_whose_labels_are_given():
    (request, demand), notes = objects(AT_THE_GATEWAY, GATEWAY)
    selector = {"matchLabels": {"istio": "ingressgateway"}}
    assert {one["kind"] for one in (request, demand)} == {"RequestAuthentication", "AuthorizationPolicy"}
    assert all(one["spec"]["selector"] == selector for one in (request, demand))
    assert all(one["metadata"]["namespace"] == "istio-system" for one in (request, demand))
    assert request["spec"]["jwtRules"][0]["fromHeaders"] == [{"name": "x-assertion"}]
    assert demand["spec"]["action"] == "DENY"
    assert demand["spec"]["rules"][0]["to"] == [{"operation": {"notPaths": ["/healthz"]}}]
    assert "on some ports of the gateway only" in notes and "plain TCP" not in notes
    with pytest.raises(LegacyError, match="Select its pods by hand"):
        objects(AT_THE_GATEWAY)


def test_a_policy_at_the_gateway_keeps_its_ports_if_the_service_is_known():
    ports = [{"name": "http2", "port": 80, "targetPort": 8080}, {"name": "https", "port": 443, "targetPort": 8443}]
    metadata = {"name": "istio-ingressgateway", "namespace": "istio-system"}
    spec = {"selector": {"istio": "ingressgateway"}, "ports": ports}
    service = {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}
    found, _ = objects(AT_THE_GATEWAY, Services.of([service]))
    assert found[1]["spec"]["rules"][0]["to"][0]["operation"]["ports"] == ["8080"]


def test_old_fields_in_an_object_of_today_are_named_with_their_place():
    half = """
apiVersion: security.istio.io/v1beta1
kind: RequestAuthentication
metadata: {name: api, namespace: istio-system}
spec:
  selector: {matchLabels: {istio: ingressgateway}}
  jwtRules: [{issuer: https://i, jwksUri: https://i/keys, trigger_rules: [{excluded_paths: [{exact: /h}]}]}]
  principalBinding: USE_ORIGIN
"""
    with pytest.raises(LegacyError) as caught:
        objects(half)
    assert "RequestAuthentication api: " in str(caught.value)
    assert "triggerRules belongs into paths and notPaths of an AuthorizationPolicy" in str(caught.value)
    assert "principalBinding belongs into nowhere" in str(caught.value) and "Leave it out" not in str(caught.value)
    whole = half.replace(", trigger_rules: [{excluded_paths: [{exact: /h}]}]", "").replace(
        "  principalBinding: USE_ORIGIN\n", ""
    )
    (kept,), notes = objects(whole)
    assert kept["apiVersion"] == "security.istio.io/v1" and "kept as it is" in notes


def rule(host, name="r", **policy):
    metadata = {"name": name, "namespace": "istio-system"}
    return {"apiVersion": "networking.istio.io/v1alpha3", "kind": "DestinationRule", "metadata": metadata,
            "spec": {"host": host, "trafficPolicy": policy}}  # fmt: skip


MUTUAL = {"mode": "ISTIO_MUTUAL"}


def test_the_mesh_as_the_chart_installed_it():
    mesh = """
apiVersion: authentication.istio.io/v1alpha1
kind: MeshPolicy
metadata: {name: default, labels: {app: security}}
spec: {peers: [{mtls: {}}]}
"""
    old = [yaml.safe_load(mesh), rule("*.local", "default", tls=MUTUAL),
           rule("kubernetes.default.svc.cluster.local", "api-server", tls={"mode": "DISABLE"})]  # fmt: skip
    found = translate(old)
    assert [one.manifest["kind"] for one in found if one.manifest] == ["PeerAuthentication"]
    notes = " ".join(note for one in found for note in one.notes)
    assert "DestinationRule default for *.local is needless" in notes and "the API server has no sidecar" in notes


def test_only_the_tls_block_of_a_wildcard_rule_goes():
    pools = {"connectionPool": {"tcp": {"maxConnections": 50}}, "outlierDetection": {"consecutiveErrors": 5}}
    (one,) = translate([rule("*.shop.svc.cluster.local", tls=MUTUAL, **pools)])
    assert one.manifest["spec"] == {"host": "*.shop.svc.cluster.local", "trafficPolicy": pools}
    assert "consecutive5xxErrors" in " ".join(one.notes)
    far = rule("*.global", tls=MUTUAL)
    (one,) = translate([far])
    assert one.manifest["spec"] == far["spec"] and "Services of other clusters" in one.notes[0]


LEAVES = st.sampled_from([1, "x", True])
TLS = st.sampled_from([MUTUAL, {"mode": "DISABLE"}, {"mode": "SIMPLE", "sni": "x"}])
POLICIES = st.fixed_dictionaries({}, optional={
    "tls": TLS, "loadBalancer": st.fixed_dictionaries({"simple": LEAVES}),
    "portLevelSettings": st.lists(st.fixed_dictionaries({"port": st.just({"number": 80})}, optional={
        "tls": TLS, "connectionPool": st.fixed_dictionaries({"tcp": LEAVES})}), max_size=2)})  # fmt: skip
HOSTS = st.sampled_from(["*", "*.local", "*.shop.svc.cluster.local", "*.global", "web.shop.svc.cluster.local"])
SUBSETS = st.lists(st.fixed_dictionaries({"name": st.just("v"), "trafficPolicy": POLICIES}), max_size=2)
SPECS = st.fixed_dictionaries(
    {"host": HOSTS}, optional={"trafficPolicy": POLICIES, "exportTo": st.just(["."]), "subsets": SUBSETS}
)


def leaves(node, path=()):
    """Every value of a spec with its path, without the tls blocks that are ISTIO_MUTUAL."""
    if isinstance(node, dict):
        kept = {key: value for key, value in node.items() if not (key == "tls" and value == MUTUAL)}
        return [leaf for key, value in kept.items() for leaf in leaves(value, (*path, key))]
    if isinstance(node, list):
        return [leaf for value in node for leaf in leaves(value, path)]
    return [(path, node)]


@given(SPECS)
def test_nothing_of_a_destination_rule_is_lost_in_silence(spec):
    (one,) = translate([{**rule("x"), "spec": spec}])
    names = {("host",), ("subsets", "name"), ("trafficPolicy", "portLevelSettings", "port", "number"),
             ("subsets", "trafficPolicy", "portLevelSettings", "port", "number"), ("exportTo",)}  # fmt: skip
    lost = [leaf for leaf in leaves(spec) if leaf not in leaves(one.manifest.get("spec", {})) and leaf[0] not in names]
    assert not lost and one.notes


def rbac(kind, name, namespace="", **spec):
    metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
    return {"apiVersion": "rbac.istio.io/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec}


OUT = rbac("ClusterRbacConfig", "default", mode="ON_WITH_EXCLUSION", exclusion={"namespaces": ["istio-system"]})
OWNER = rbac("ServiceRoleBinding", "owner", "team-a", roleRef={"kind": "ServiceRole", "name": "access"},
             subjects=[{"properties": {"request.headers[x-user-email]": "owner@example.org"}}])  # fmt: skip


def test_rbac_except_for_the_control_plane():
    old = [OUT, rbac("ServiceRole", "access", "team-a", rules=[{"services": ["*"]}]), OWNER]
    found = [one for one in translate(old) if one.manifest]
    manifests = [one.manifest for one in found]
    assert manifests[0]["spec"] == {} and manifests[0]["metadata"]["namespace"] == "istio-system"
    opened = [one["spec"] for one in manifests if one["metadata"]["name"].startswith("allow-all")]
    labels = [one["selector"]["matchLabels"] for one in opened]
    assert labels == [{"istio": "ingressgateway"}, {"istio": "egressgateway"}]
    assert all(one["rules"] == [{}] for one in opened)
    assert manifests[-1]["metadata"]["namespace"] == "team-a"
    assert any("other pods with a sidecar in istio-system" in warning for one in found for warning in one.warnings)


def test_a_role_for_pods_with_a_label():
    rules = [{"services": ["*"], "constraints": [{"key": "destination.labels[version]", "values": ["v1"]}]}]
    found = [one.manifest for one in translate([OUT, rbac("ServiceRole", "access", "team-a", rules=rules), OWNER])]
    role = next(one for one in found if one and one["metadata"]["name"] == "access")
    assert role["spec"]["selector"] == {"matchLabels": {"version": "v1"}}
    assert role["spec"]["rules"] == [
        {"when": [{"key": "request.headers[x-user-email]", "values": ["owner@example.org"]}]}
    ]
