"""What ambient does to policies: each trap, laws on random policies and requests, and the command."""

import copy

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.ambient import effects, findings, ztunnel
from lib.ambient.__main__ import main
from lib.istio import evaluator, policies
from lib.istio.attributes import Call
from lib.kubernetes import manifests
from tests.support.runbook import ROOT

FOLDER = ROOT / "notebooks" / "manifests"
WEB = {"app": "web"}
SERVICE = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "foo"},
           "spec": {"selector": WEB, "ports": [{"port": 80}]}}  # fmt: skip
A, B, THROUGH = (
    f"cluster.local/ns/{home}/sa/{name}" for home, name in (("foo", "a"), ("bar", "b"), ("foo", "waypoint"))
)


def policy(kind="AuthorizationPolicy", name="p", namespace="foo", **spec):
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "security.istio.io/v1", "kind": kind, "metadata": metadata, "spec": spec}


def web(**spec):
    return policy(selector={"matchLabels": WEB}, **spec)


def rules(source=None, operation=None, when=()):
    parts = {"from": [{"source": source}] if source else [], "to": [{"operation": operation}] if operation else []}
    return [{name: part for name, part in {**parts, "when": list(when)}.items() if part}]


def words(*objects):
    """The effects on the first object."""
    return told(objects[0], findings([*objects, SERVICE]))


def told(one, found):
    name = f"{one['kind']} {one['metadata']['namespace']}/{one['metadata']['name']}: "
    return {note.removeprefix(name).partition(":")[0] for each in found for note in each.notes if note.startswith(name)}


def deployment(name, namespace="foo", **labels):
    spec = {"template": {"metadata": {"labels": labels}}}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": namespace},
            "spec": spec}  # fmt: skip


TOKEN = {"requestPrincipals": ["*"]}
CASES = [
    (web(rules=rules(TOKEN)), {"DENIES EVERYTHING"}),
    (web(rules=[*rules(TOKEN), *rules({"principals": [A]})]), {"DENIES MORE"}),
    (web(rules=rules(when=[{"key": "request.auth.claims[role]", "values": ["x"]}])), {"DENIES EVERYTHING"}),
    (web(action="DENY", rules=rules({"notRequestPrincipals": ["*"]})), {"DENIES EVERYTHING"}),
    (web(action="DENY", rules=rules({"principals": [B]}, {"paths": ["/admin"]})), {"DENIES MORE", "DENIES EVERYTHING"}),
    (web(action="CUSTOM", provider={"name": "x"}, rules=[{}]), {"IGNORED"}),
    (web(action="AUDIT", rules=[{}]), {"IGNORED"}),
    (web(rules=rules({"trustDomains": ["cluster.local"]})), {"WEAKER"}),
    (web(rules=rules({"principals": [A]})), {"SAME"}),
    (policy("RequestAuthentication", jwtRules=[{"issuer": "k"}]), {"IGNORED"}),
    (policy(namespace="istio-system", rules=rules(TOKEN)), {"DENIES EVERYTHING", "IGNORED"}),
    (policy("PeerAuthentication", mtls={"mode": "DISABLE"}), {"IGNORED"}),
    (policy("PeerAuthentication", mtls={"mode": "STRICT"}), {"SAME"}),
    (policy("EnvoyFilter", configPatches=[]), {"IGNORED"}),
    (policy("Sidecar"), {"IGNORED"}),
    (policy("WasmPlugin", selector={"matchLabels": WEB}, phase="AUTHN"), {"IGNORED"}),
    (policy("Telemetry"), {"IGNORED"}),
    (policy("DestinationRule", host="web", trafficPolicy={"tls": {"mode": "DISABLE"}}), {"CHANGES"}),
    (policy("VirtualService", hosts=["web"]), {"UNCERTAIN"}),
    (policy(targetRefs=[{"kind": "Service", "group": "", "name": "web"}], rules=rules(TOKEN)), set()),
]


@pytest.mark.parametrize(("one", "expected"), CASES)
def test_each_trap_is_named(one, expected):
    found = words(one)
    assert found <= expected and bool(found) is bool(expected)


def test_each_effect_has_a_public_source_and_what_is_not_tried_says_so():
    assert all("istio" in text and ("https://" in text or ".go" in text) for _, text in effects.EFFECTS.values())
    assert findings([])[-1].notes == [effects.UNTRIED]


def test_a_policy_of_connections_moves_too_if_its_namespace_needs_a_waypoint():
    alone = findings([web(rules=rules({"principals": [A]})), SERVICE])
    assert not any(one.manifest for one in alone)
    both = findings(
        [web(rules=rules({"principals": [A]})), policy("RequestAuthentication", name="t", jwtRules=[]), SERVICE]
    )
    assert {"p-waypoint", "t-waypoint", "waypoint", "only-from-waypoint-0"} == {
        one.manifest["metadata"]["name"] for one in both if one.manifest}  # fmt: skip
    assert any("kubectl label service -n foo web" in note for one in both for note in one.notes)


def test_figure_1_becomes_a_waypoints_and_gateways_stay():
    values = {"name": "httpbin", "namespace": "foo", "issuer": "https://k", "jwks_uri": "https://k/c", "client_id": "i",
              "gateway": A, "sleep": B, "httpbin_image": "x"}  # fmt: skip
    files = ("request-authentication.yaml", "figure-1.yaml", "httpbin.yaml")
    found = findings([one for file in files for one in manifests.load(FOLDER / file, **values)])
    made = {one.manifest["metadata"]["name"]: one.manifest for one in reversed(found) if one.manifest}
    assert made["httpbin-waypoint"]["spec"]["targetRefs"] == [{"group": "", "kind": "Service", "name": "httpbin"}]
    assert made["only-from-waypoint-0"]["spec"]["selector"] == {"matchLabels": {"app": "httpbin"}}
    hardened = [*manifests.load(FOLDER / "hardened/gateway.yaml"),
                *manifests.load(FOLDER / "hardened/policy.yaml", role="r", **values)]  # fmt: skip
    assert not any("hardened/gateway:" in note for one in findings(hardened) for note in one.notes if "Policy" in note)


EDGE = {"istio": "ingressgateway", "env": "prod"}
PODS = deployment("web", env="prod", **WEB)


@pytest.mark.parametrize("home", ["foo", "edge"])
def test_a_gateway_with_the_label_that_a_policy_selects_hides_no_finding(home):
    prod = {"selector": {"matchLabels": {"env": "prod"}}}
    token, users = policy("RequestAuthentication", jwtRules=[], **prod), policy(rules=rules(TOKEN), **prod)
    found = findings([deployment("gw", home, **EDGE), PODS, SERVICE, token, users])
    assert told(token, found) == {"IGNORED"} and told(users, found) == {"DENIES EVERYTHING"}
    alone = findings([deployment("gw", home, **EDGE), SERVICE, token, users])
    assert bool(told(users, alone)) is (home == "edge")  # no pods of the policy's namespace are known


def test_a_gateway_is_known_by_its_label_its_template_or_its_arguments():
    users = policy(selector={"matchLabels": {"app": "gate"}}, rules=rules(TOKEN))
    gate = deployment("gate", app="gate")
    assert told(users, findings([gate, users]))
    arguments, template = copy.deepcopy(gate), copy.deepcopy(gate)
    arguments["spec"]["template"]["spec"] = {"containers": [{"args": ["proxy", "router"]}]}
    template["spec"]["template"]["metadata"]["annotations"] = {"inject.istio.io/templates": "gateway"}
    for one in (arguments, template, deployment("gate", app="gate", istio="egressgateway")):
        assert not told(users, findings([one, users]))


def service(*found, name="web"):
    return {**SERVICE, "metadata": {"name": name, "namespace": "foo"}, "spec": {"selector": WEB, "ports": [
        {"port": port, "targetPort": target} for port, target in found]}}  # fmt: skip


def test_a_waypoint_compares_the_services_port_and_a_policy_names_it():
    named = copy.deepcopy(PODS)
    named["spec"]["template"]["spec"] = {"containers": [{"ports": [{"name": "http", "containerPort": 8080}]}]}
    port = [{"key": "destination.port", "notValues": ["8080"]}]
    denies = web(action="DENY", rules=rules(TOKEN, {"ports": ["8080"]}, port))
    for one, expected in ((service((80, 8080)), ["80"]), (service((80, 8080), (81, 8080)), ["80", "81"]),
                          (service((80, "http")), ["80"]), (service((80, 9090)), ["8080"])):  # fmt: skip
        found = findings([denies, named, one])
        (rule,) = next(each for each in found if each.manifest).manifest["spec"]["rules"]
        assert rule["to"] == [{"operation": {"ports": expected}}]
        assert rule["when"] == [{"key": "destination.port", "notValues": expected}]
    for odd in ([service((80, 8080)), service((80, 9090), name="b")], [service((8080, 9090))], [service((80, "x"))]):
        warnings = [text for one in findings([denies, named, *odd]) for text in one.warnings]
        assert any("no policy was written" in text for text in warnings)
    address = web(action="DENY", rules=rules(TOKEN, None, [{"key": "destination.ip", "values": ["10.0.0.1"]}]))
    assert "no policy was written" in findings([address, SERVICE])[0].warnings[0]


def test_a_service_with_pods_that_a_policy_does_not_select_is_named():
    other = deployment("other", version="2", **WEB)
    found = findings([web(rules=rules(TOKEN)), PODS, other, SERVICE])
    assert not [text for one in found for text in one.warnings]
    one = policy(selector={"matchLabels": {"env": "prod"}}, rules=rules(TOKEN))
    (warning,) = [text for each in findings([one, PODS, other, SERVICE]) for text in each.warnings]
    assert "The Service foo/web also leads to pods that foo/p does not select" in warning


SOURCES = st.fixed_dictionaries({}, optional={
    "principals": st.sampled_from([[A], [B], ["*"]]), "notPrincipals": st.sampled_from([[A], [B]]),
    "requestPrincipals": st.just(["*"]), "notRequestPrincipals": st.just(["*"]),
    "trustDomains": st.sampled_from([["cluster.local"], ["other"]])})  # fmt: skip
OPERATIONS = st.fixed_dictionaries({}, optional={
    "paths": st.just(["/a*"]), "methods": st.just(["GET"]), "ports": st.sampled_from([["80"], ["81"]])})  # fmt: skip
KEYS = {"request.auth.claims[r]": "x", "source.namespace": "foo"}
WHEN = st.sampled_from([(), *(({"key": key, "values": [value]},) for key, value in KEYS.items())])
RULES = st.lists(st.builds(lambda *parts: rules(*parts)[0], SOURCES, OPERATIONS, WHEN), min_size=1, max_size=2)
WEBS = st.builds(lambda action, found: web(action=action, rules=found), st.sampled_from(["ALLOW", "DENY"]), RULES)
DRAWN = st.lists(WEBS, min_size=1, max_size=2)
CALLS = [Call(principal=caller, claims=claims, path=path, method=method, port="80", complete=True)
         for caller in (A, B, "other/ns/foo/sa/a", "") for claims in ({}, {"iss": "k", "sub": "u", "r": "x"})
         for path in ("/a", "/b") for method in ("GET", "POST")]  # fmt: skip


@given(DRAWN)
@settings(max_examples=200)
def test_what_differs_at_ztunnel_is_reported_and_the_new_policies_are_never_weaker(drawn):
    for number, one in enumerate(drawn):
        one["metadata"]["name"] = f"p{number}"
        at_ztunnel = [found for found in [ztunnel.enforced(copy.deepcopy(one))] if found]
        told = words(one)
        for call in CALLS:
            before, after = (evaluator.decide(found, call).allowed for found in ([one], at_ztunnel))
            assert before or not after or told & {"WEAKER", "IGNORED"}, call
            assert after or not before or told & {"DENIES MORE", "DENIES EVERYTHING"}, call
    made = [
        one.manifest
        for one in findings([*drawn, PODS, SERVICE])
        if one.manifest and one.manifest["kind"] == policies.RULES
    ]
    if not made:
        return
    guards = [one for one in made if one["metadata"]["name"].startswith("only-from-waypoint")]
    for call in CALLS:
        assert evaluator.decide(guards, call).allowed is False  # around the waypoint
        assert evaluator.decide(guards, Call(principal=THROUGH)).allowed
        moved = [one for one in made if one not in guards]
        stay = [
            one
            for one in drawn
            if not any(each["metadata"]["name"].startswith(one["metadata"]["name"]) for each in moved)
        ]
        both = evaluator.decide([*moved, *stay], call).allowed
        assert both == evaluator.decide(drawn, call).allowed, call


SELECTORS = st.sampled_from([WEB, {"env": "prod"}, {"istio": "ingressgateway"}, {}])
WIDER = st.builds(lambda home, labels, action, found: policy(namespace=home, action=action, rules=found, **(
    {"selector": {"matchLabels": labels}} if labels else {})), st.sampled_from(["foo", "istio-system"]), SELECTORS,
    st.sampled_from(["ALLOW", "DENY"]), RULES)  # fmt: skip


@given(st.lists(WIDER, min_size=1, max_size=3), st.sampled_from(["foo", "edge"]))
@settings(max_examples=200)
def test_gateways_keep_their_policies_and_hide_none_of_other_pods(drawn, home):
    for number, one in enumerate(drawn):
        one["metadata"]["name"] = f"p{number}"
    found = findings([*drawn, deployment("gw", home, **EDGE), PODS, SERVICE])
    made = [one.manifest for one in found if one.manifest and one.manifest["kind"] == policies.RULES]
    gone = {one["metadata"]["name"].removesuffix("-waypoint") for one in made if "targetRefs" in one["spec"]}
    final = [*made, *(one for one in drawn if one["metadata"]["name"] not in gone)]
    before, after = (policies.applying(each, policies.RULES, home, EDGE) for each in (drawn, final))
    for call in CALLS:
        assert evaluator.decide(before, call).allowed == evaluator.decide(after, call).allowed, call
    for one in policies.applying(drawn, policies.RULES, "foo", {**WEB, "env": "prod"}):
        assert told(one, found), one


class Live:
    """A cluster with one policy."""

    def find(self, api, kind, name, namespace):
        return {"data": {"mesh": "rootNamespace: root"}}

    def items(self, api, kind, namespace=None, labels=""):
        return {"AuthorizationPolicy": [policy(namespace="root", rules=rules(TOKEN))], "Service": [SERVICE]}.get(
            kind, []
        )


def test_the_command_reads_files_or_the_live_cluster(tmp_path, capsys):
    file = tmp_path / "mesh.yaml"
    file.write_text(manifests.as_yaml([web(rules=rules(TOKEN)), SERVICE]))
    assert main([str(file)]) == 0
    out, err = capsys.readouterr()
    assert "DENIES EVERYTHING" in out and "Not tried" in out and "only what is in the input" in err
    assert [one["kind"] for one in yaml.safe_load_all(out) if one] == [
        "AuthorizationPolicy",
        "Gateway",
        "AuthorizationPolicy",
    ]
    assert main([], Live()) == 0
    assert "kind: GatewayClass" in capsys.readouterr().out
    file.write_text("[")
    assert main([str(file)]) == 2
