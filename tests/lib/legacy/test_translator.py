"""The translation of old policies: the article's three objects, samples of each field, refusals and properties."""

import io
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from lib.errors import LegacyError
from lib.legacy import authn, translate
from lib.legacy.__main__ import main
from lib.legacy.services import Services
from lib.legacy.write import Translated, document

ROOT = Path(__file__).resolve().parents[3]
ARTICLE = sorted((ROOT / "notebooks" / "article").glob("*.yaml"))
SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: web, namespace: foo}
spec: {selector: {app: web}, ports: [{name: http, port: 80, targetPort: 8080}, {name: admin, port: 81, targetPort: a}]}
"""
JWT = {"issuer": "http://k", "jwksUri": "http://k/certs"}


def policy(name="web", namespace="foo", kind="Policy", api="authentication.istio.io", **spec):
    metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
    return {"apiVersion": f"{api}/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec}


def for_web(**spec):
    return policy(targets=[{"name": "web"}], **spec)


def made(*objects, **options):
    """Return the translated objects by kind, and the notes of all."""
    found = translate([*objects, yaml.safe_load(SERVICE)], **options)
    notes = " ".join(note for one in found for note in (*one.notes, *one.warnings))
    return {one.manifest["kind"]: one.manifest for one in found if one.manifest}, notes


def refused(*objects, **options):
    with pytest.raises(LegacyError) as caught:
        made(*objects, **options)
    return str(caught.value)


def test_the_articles_three_objects_become_figure_2():
    old = [manifest for path in ARTICLE for manifest in yaml.safe_load_all(path.read_text())]
    found = translate(old, Services({"httpbin": {"app": "httpbin"}}))
    objects = [one.manifest for one in found]
    issuer = "http://<keycloak public address>/auth/realms/istio"
    selector = {"matchLabels": {"app": "httpbin"}}
    assert [one.get("kind") for one in objects] == [
        None, "PeerAuthentication", "RequestAuthentication", "AuthorizationPolicy", "PeerAuthentication",
    ]  # fmt: skip
    assert "needless and harmful" in found[0].notes[0]
    assert objects[1]["spec"] == {"selector": selector, "mtls": {"mode": "STRICT"}}
    assert objects[2]["spec"] == {
        "selector": selector,
        "jwtRules": [{"issuer": issuer, "audiences": ["istio"], "jwksUri": f"{issuer}/protocol/openid-connect/certs",
                      "forwardOriginalToken": True}],
    }  # fmt: skip
    source = {"notRequestPrincipals": [f"{issuer}/*"]}
    assert objects[3]["spec"] == {"selector": selector, "action": "DENY", "rules": [{"from": [{"source": source}]}]}
    assert objects[4]["metadata"] == {"name": "default", "namespace": "istio-system"}
    assert authn.ORIGIN in found[2].notes and authn.OLD_PATH in found[2].notes


@pytest.mark.parametrize(
    ("spec", "mode"),
    [
        ({"peers": [{"mtls": {}}]}, "STRICT"),
        ({"peers": [{"mtls": None}]}, "STRICT"),
        ({"peers": [{"mtls": {"mode": "PERMISSIVE"}}]}, "PERMISSIVE"),
        ({"peers": [{"mtls": {}}], "peerIsOptional": True}, "STRICT"),  # the listener refused plain text
        ({"peers": [{"mtls": {}}, {"mtls": {"mode": "PERMISSIVE"}}]}, "STRICT"),  # the first decided
        ({"peers": []}, "DISABLE"),
        ({}, "DISABLE"),
    ],
)
def test_peers(spec, mode):
    objects, _ = made(policy("default", **spec))
    assert objects["PeerAuthentication"]["spec"] == {"mtls": {"mode": mode}}
    assert set(objects) == {"PeerAuthentication"}


def test_ports_are_the_workloads():
    target = {"name": "web", "ports": [{"number": 80}]}
    objects, _ = made(policy(targets=[target], peers=[{"mtls": {}}], origins=[{"jwt": JWT}]))
    assert objects["PeerAuthentication"]["spec"]["portLevelMtls"] == {8080: {"mode": "STRICT"}}
    assert objects["AuthorizationPolicy"]["spec"]["rules"][0]["to"] == [{"operation": {"ports": ["8080"]}}]
    by_name, _ = made(policy(targets=[{"name": "web", "ports": [{"name": "http"}]}]))
    assert list(by_name["PeerAuthentication"]["spec"]["portLevelMtls"]) == [8080]


def test_several_issuers_are_alternatives():
    objects, _ = made(for_web(origins=[{"jwt": JWT}, {"jwt": {**JWT, "issuer": "http://other"}}]))
    (rule,) = objects["AuthorizationPolicy"]["spec"]["rules"]
    assert rule["from"][0]["source"]["notRequestPrincipals"] == ["http://k/*", "http://other/*"]
    assert len(objects["RequestAuthentication"]["spec"]["jwtRules"]) == 2


@pytest.mark.parametrize("style", ["camel", "snake"])
def test_trigger_rules_are_the_paths_of_the_demand(style):
    rule = {"includedPaths": [{"prefix": "/api/"}, {"exact": "/x"}], "excludedPaths": [{"suffix": ".ico"}]}
    jwt = {**JWT, "triggerRules": [rule]}
    if style == "snake":
        rule = {"included_paths": rule["includedPaths"], "excluded_paths": rule["excludedPaths"]}
        jwt = {"issuer": "http://k", "jwks_uri": "http://k/certs", "trigger_rules": [rule]}
    objects, notes = made(for_web(origins=[{"jwt": jwt}]))
    (found,) = objects["AuthorizationPolicy"]["spec"]["rules"]
    assert found["to"] == [{"operation": {"paths": ["/api/*", "/x"], "notPaths": ["*.ico"]}}]
    assert authn.EVERYWHERE in notes


def test_headers_and_parameters_with_the_token():
    jwt = {**JWT, "jwtHeaders": ["Authorization", "X-Token"], "jwtParams": ["t"]}
    objects, _ = made(for_web(origins=[{"jwt": jwt}]))
    (rule,) = objects["RequestAuthentication"]["spec"]["jwtRules"]
    assert rule["fromHeaders"] == [{"name": "Authorization", "prefix": "Bearer "}, {"name": "X-Token"}]
    assert rule["fromParams"] == ["t"]


def test_an_optional_origin_demands_nothing_and_strict_refuses_it():
    optional = for_web(origins=[{"jwt": JWT}], originIsOptional=True)
    objects, notes = made(optional)
    assert "AuthorizationPolicy" not in objects and "Istio now answers 401, or 403" in notes
    assert "--strict refuses a translation with a warning: originIsOptional" in refused(optional, strict=True)


def test_a_namespace_and_a_mesh():
    objects, _ = made(policy("default", origins=[{"jwt": JWT}]))
    assert all("selector" not in one["spec"] for one in objects.values())
    mesh, _ = made(policy("default", "", "MeshPolicy", peers=[{"mtls": {}}]), root="mesh-root")
    assert mesh["PeerAuthentication"]["metadata"] == {"name": "default", "namespace": "mesh-root"}


ROLE = {"rules": [{"services": ["web.foo.svc.cluster.local"], "methods": ["GET"], "paths": ["/a*"],
                   "constraints": [{"key": "request.headers[v]", "values": ["1"]}]}]}  # fmt: skip
BINDING = {
    "subjects": [
        {"user": "cluster.local/ns/bar/sa/x"},
        {"properties": {"source.namespace": "baz", "request.auth.claims[group]": "admin"}},
    ],
    "roleRef": {"kind": "ServiceRole", "name": "viewer"},
}


def rbac(name, kind, **spec):
    return policy(name, kind=kind, api="rbac.istio.io", **spec)


ON = policy(
    "default", "", "ClusterRbacConfig", "rbac.istio.io", mode="ON_WITH_INCLUSION", inclusion={"namespaces": ["foo"]}
)


def test_a_role_and_its_binding_are_one_policy():
    objects, _ = made(ON, rbac("viewer", "ServiceRole", **ROLE), rbac("bind", "ServiceRoleBinding", **BINDING))
    spec = objects["AuthorizationPolicy"]["spec"]
    to = [{"operation": {"paths": ["/a*"], "methods": ["GET"]}}]
    header = {"key": "request.headers[v]", "values": ["1"]}
    assert spec["selector"] == {"matchLabels": {"app": "web"}} and spec["action"] == "ALLOW"
    assert spec["rules"] == [
        {"from": [{"source": {"principals": ["cluster.local/ns/bar/sa/x"]}}], "to": to, "when": [header]},
        {"from": [{"source": {"namespaces": ["baz"]}}], "to": to,
         "when": [{"key": "request.auth.claims[group]", "values": ["admin"]}, header]},
    ]  # fmt: skip


def test_user_star_becomes_a_rule_without_a_source():
    binding = {**BINDING, "subjects": [{"user": "*"}]}
    role = {"rules": [{"services": ["*"], "methods": ["*"]}]}
    objects, _ = made(ON, rbac("viewer", "ServiceRole", **role), rbac("bind", "ServiceRoleBinding", **binding))
    every = {"to": [{"operation": {"methods": ["*"]}}]}  # any HTTP method: this excludes plain TCP
    assert objects["AuthorizationPolicy"]["spec"] == {"action": "ALLOW", "rules": [every]}
    role = {"rules": [{"services": ["*"], "methods": ["GET"], "paths": ["*"]}]}
    objects, _ = made(ON, rbac("viewer", "ServiceRole", **role), rbac("bind", "ServiceRoleBinding", **binding))
    assert objects["AuthorizationPolicy"]["spec"]["rules"] == [{"to": [{"operation": {"methods": ["GET"]}}]}]


@pytest.mark.parametrize(
    ("spec", "homes"),
    [
        ({"mode": "ON"}, ["istio-system"]),
        ({"mode": "ON_WITH_INCLUSION", "inclusion": {"namespaces": ["a", "b"]}}, ["a", "b"]),
        ({"mode": "OFF"}, []),
    ],
)
def test_a_closed_cluster(spec, homes):
    found = translate([policy("default", "", "ClusterRbacConfig", "rbac.istio.io", **spec)])
    assert [one.manifest["metadata"]["namespace"] for one in found if one.manifest] == homes
    assert all(one.manifest["spec"] == {} for one in found if one.manifest)


@pytest.mark.parametrize(
    ("manifest", "words"),
    [
        (policy(targets=[{"name": "nobody"}]), "--selector nobody=app=nobody"),
        (policy(targets=[{"name": "web", "ports": [{"number": 9}]}]), "behind port 9 of the Service web is unknown"),
        (policy(targets=[{"name": "web", "ports": [{"number": 81}]}]), "the targetPort of web's port 81 is the name a"),
        (policy("other"), "no targets. Correct other"),
        (policy("default", "", "MeshPolicy", targets=[{"name": "web"}]), "only a MeshPolicy default without targets"),
        (policy("default", ""), "has no namespace. Write it"),
        (for_web(peers=[{"jwt": JWT}]), "peers has a jwt"),
        (for_web(peers=[{"mtls": {"allowTls": True}}]), "mtls has allowTls: true"),
        (for_web(origins=[{"jwt": {**JWT, "triggerRules": [{"includedPaths": [{"regex": "a|b"}]}]}}]), "the regex a|b"),
        (for_web(origins=[{"jwt": JWT}, {"jwt": {"issuer": "http://o", "triggerRules": [{"includedPaths": []}]}}]),
         "different triggerRules"),
        (for_web(origin=[]), "the field origin does not match the old API: Extra inputs are not permitted"),
        (for_web(origins=[{"jwt": {"jwksUri": "x"}}]),
         "origins.0.jwt.issuer does not match the old API: Field required"),
        (policy("x", kind="ConfigMap", api=""), "ConfigMap of /v1alpha1 is not an old policy"),
        (policy("default", "", "ClusterRbacConfig", "rbac.istio.io", mode="ON_WITH_INCLUSION",
                inclusion={"namespaces": ["istio-system"]}), "names the root namespace istio-system"),
        (policy("other", "", "MeshPolicy"), "Leave other out"),
        (policy("default", targets=[{"name": "web"}]), "the name default and no targets"),
        (policy("r", kind="ServiceRole", api="rbac.istio.io", rules=[{}]), "the files have no ClusterRbacConfig"),
    ],
)  # fmt: skip
def test_an_object_without_an_equal_is_refused_by_name(manifest, words):
    message = refused(manifest)
    assert words in message and message.startswith(f"{manifest['kind']} {manifest['metadata']['name']}: ")


def test_roles_that_have_no_equal():
    def refusal(role=None, subject=None):
        binding = {**BINDING, "subjects": [subject or {"user": "*"}]}
        rules = {"rules": [{"services": ["*"], **(role or {})}]}
        return refused(ON, rbac("viewer", "ServiceRole", **rules), rbac("bind", "ServiceRoleBinding", **binding))

    assert "a subject has no field" in refusal(subject={"names": []})
    assert "ignored the key destination.port" in refusal(subject={"properties": {"destination.port": "1"}})
    assert "web is not the full name of a Service. A short name" in refusal({"services": ["web"]})
    assert "web* is not the full name of a Service" in refusal({"services": ["web*"]})
    assert "the Service web.bar is not in the role's namespace" in refusal({"services": ["web.bar.svc.cluster.local"]})
    assert "has several values or a *" in refusal(
        {"constraints": [{"key": "destination.labels[v]", "values": ["1", "2"]}]}
    )
    assert "ignored the key destination.user" in refusal(
        {"constraints": [{"key": "destination.user", "values": ["1"]}]}
    )


NAMES = st.sampled_from(["http://a", "http://b/realms/x", "https://c"])
PATHS = st.one_of(st.builds(lambda kind, path: {kind: path}, st.sampled_from(["exact", "prefix", "suffix", "regex"]),
                            st.sampled_from(["/a", "/b/", ".css"])))  # fmt: skip
SOME = st.lists(PATHS, max_size=2)
TRIGGERS = st.lists(st.fixed_dictionaries({}, optional={"includedPaths": SOME, "excludedPaths": SOME}), max_size=2)
JWTS = st.builds(lambda issuer, audiences, triggers: {"jwt": {"issuer": issuer, "jwksUri": f"{issuer}/certs",
                 "audiences": audiences, "triggerRules": triggers}},
                 NAMES, st.lists(st.sampled_from(["istio", "x"]), max_size=2), TRIGGERS)  # fmt: skip
PEERS = st.lists(st.sampled_from([{"mtls": {}}, {"mtls": None}, {"mtls": {"mode": "PERMISSIVE"}},
                                  {"mtls": {"allowTls": True}}]), max_size=2)  # fmt: skip
SPECS = st.fixed_dictionaries({}, optional={
    "targets": st.just([{"name": "web"}]), "peers": PEERS, "peerIsOptional": st.booleans(),
    "origins": st.lists(JWTS, max_size=3), "originIsOptional": st.booleans(),
    "principalBinding": st.sampled_from(["USE_PEER", "USE_ORIGIN"])})  # fmt: skip


@given(SPECS)
def test_a_translation_is_complete_and_never_weaker(spec):
    try:
        found = translate([policy("default", **spec), yaml.safe_load(SERVICE)])
    except LegacyError as error:
        assert re.fullmatch(r"Policy default: .+\. [A-Z].+\.", str(error))  # what is wrong, then what to do
        return
    read = [one for one in yaml.safe_load_all(io.StringIO(document(found))) if one]
    assert read == [one.manifest for one in found if one.manifest]
    kinds = {one["kind"]: one["spec"] for one in read}
    assert all(one["apiVersion"] == "security.istio.io/v1" and one["metadata"]["namespace"] == "foo" for one in read)
    issuers = [one["jwt"]["issuer"] for one in spec.get("origins", [])]
    assert [one["issuer"] for one in kinds.get("RequestAuthentication", {}).get("jwtRules", [])] == issuers
    demanded = bool(issuers) and not spec.get("originIsOptional")
    assert ("AuthorizationPolicy" in kinds) == demanded
    if demanded:
        assert kinds["AuthorizationPolicy"]["action"] == "DENY"
        source = kinds["AuthorizationPolicy"]["rules"][0]["from"][0]["source"]
        assert source == {"notRequestPrincipals": [f"{one}/*" for one in issuers]}
    ways = [one["mtls"] or {} for one in spec.get("peers", [])]
    if ways and not spec.get("peerIsOptional") and not any(one.get("mode") for one in ways):
        assert kinds["PeerAuthentication"]["mtls"]["mode"] == "STRICT"


def command(*words, text=""):
    return subprocess.run(
        [sys.executable, "-m", "lib.legacy", *words], cwd=ROOT, input=text, capture_output=True, text=True, timeout=60
    )


def test_the_command_reads_files_and_standard_input(tmp_path):
    services = tmp_path / "services.yaml"
    services.write_text(SERVICE)
    done = command("-", "--services", str(services), text=yaml.safe_dump(for_web(peers=[{"mtls": {}}])))
    assert done.returncode == 0
    found = [one for one in yaml.safe_load_all(done.stdout) if one]
    assert found == [made(for_web(peers=[{"mtls": {}}]))[0]["PeerAuthentication"]]
    assert "careful: no MeshPolicy is among the files" in done.stderr and "were not seen" in done.stderr
    assert all(line.startswith("# ") for line in done.stdout.splitlines()[1:2])


def test_a_refusal_prints_no_objects(capsys, tmp_path):
    file = tmp_path / "old.yaml"
    file.write_text(yaml.safe_dump_all([policy("default"), policy("other")]))
    assert main([str(file)]) == 1
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("refused: Policy other: a Policy has either targets")


@pytest.mark.parametrize("text", ["a: [", "- 1", "kind: Policy"])
def test_an_unreadable_file_is_an_error(capsys, tmp_path, text):
    file = tmp_path / "old.yaml"
    file.write_text(text)
    assert main([str(file)]) == 2 and main([str(tmp_path / "none.yaml")]) == 2
    assert main([str(file), "--selector", "web"]) == 2
    assert "Give YAML of Kubernetes objects" in capsys.readouterr().err


def test_the_example_of_the_page_is_the_output():
    old, new = (ROOT / "docs" / "legacy.md").read_text().split("```yaml\n")[1:3]
    found = translate(list(yaml.safe_load_all(old.partition("```")[0])), Services({"httpbin": {"app": "httpbin"}}))
    assert new.partition("```")[0] == document(found)


BOTH = {"user": "u", "properties": {"source.principal": "p"}}


@pytest.mark.parametrize(
    ("objects", "words"),
    [
        (
            [rbac("viewer", "ServiceRole", **ROLE), rbac("b", "ServiceRoleBinding", **{**BINDING, "subjects": [BOTH]})],
            "the files have no ClusterRbacConfig",
        ),
        (
            [
                ON,
                rbac("viewer", "ServiceRole", **ROLE),
                rbac("b", "ServiceRoleBinding", **{**BINDING, "subjects": [BOTH]}),
            ],
            "names its callers in several fields",
        ),
        ([rbac("b", "ServiceRoleBinding", **BINDING)], "its ServiceRole 'viewer' is not among the files"),
        (
            [policy("viewer", "istio-system", "ServiceRole", "rbac.istio.io", rules=[{"services": ["*"]}])],
            "the files have no ClusterRbacConfig",
        ),
        (
            [ON, policy("viewer", "istio-system", "ServiceRole", "rbac.istio.io", rules=[{"services": ["*"]}])],
            "the ServiceRole is in the root namespace",
        ),
        ([policy("default", "istio-system", peers=[{"mtls": {"mode": "PERMISSIVE"}}])], "it is in istio-system"),
        ([policy("default", peers=[{}])], "peers has an empty entry"),
        (
            [for_web(peers=[{"mtls": {}}]), policy("b", targets=[{"name": "web"}])],
            "the policy web is for the same port of the Service web",
        ),
        ([policy(targets=[{"name": "web", "labels": {"v": "1"}}])], "a target has labels"),
        (
            [for_web(origins=[{"jwt": {**JWT, "triggerRules": [{"excludedPaths": [{"exact": "/a*"}]}]}}])],
            "a path has a * or a {",
        ),
    ],
)
def test_a_policy_that_would_be_weaker_today_is_refused(objects, words):
    assert words in refused(*objects)


def test_a_duplicate_key_is_refused(capsys, tmp_path):
    file = tmp_path / "old.yaml"
    file.write_text(yaml.safe_dump(policy("default", peers=[{"mtls": {}}])) + "spec: {}\n")
    assert main([str(file)]) == 2 and capsys.readouterr().out == ""


def test_exclusion_closes_the_mesh_and_opens_the_excluded_services():
    scope = {"namespaces": ["a"], "services": ["web.foo.svc.cluster.local"]}
    config = policy("default", "", "ClusterRbacConfig", "rbac.istio.io", mode="ON_WITH_EXCLUSION", exclusion=scope)
    found = [one.manifest for one in translate([config, yaml.safe_load(SERVICE)]) if one.manifest]
    assert [(one["metadata"]["namespace"], one["spec"].get("rules")) for one in found] == [
        ("istio-system", None), ("a", [{}]), ("foo", [{}]),
    ]  # fmt: skip
    assert found[2]["spec"]["selector"] == {"matchLabels": {"app": "web"}}


def test_labels_and_annotations_are_kept_except_those_about_the_old_object():
    old = policy("default", peers=[{"mtls": {}}])
    note = "kubectl.kubernetes.io/last-applied-configuration"
    old["metadata"] |= {"labels": {"team": "a"}, "annotations": {"why": "b", note: "{}"}}
    metadata = made(old)[0]["PeerAuthentication"]["metadata"]
    assert metadata["labels"] == {"team": "a"} and metadata["annotations"] == {"why": "b"}


def test_jwks_wins_over_jwks_uri():
    objects, notes = made(for_web(origins=[{"jwt": {**JWT, "jwks": "{}"}}]))
    (rule,) = objects["RequestAuthentication"]["spec"]["jwtRules"]
    assert rule["jwks"] == "{}" and "jwksUri" not in rule and authn.KEYS in notes


def test_policies_for_different_ports_become_one_peer_authentication():
    ports = [for_web(peers=[{"mtls": {}}]), policy("q", targets=[{"name": "web"}])]
    for one, number in zip(ports, (80, 82), strict=True):
        one["spec"]["targets"][0]["ports"] = [{"number": number}]
    service = yaml.safe_load(SERVICE)
    service["spec"]["ports"].append({"name": "http-b", "port": 82, "targetPort": 8082})
    found = [one.manifest for one in translate(ports, Services.of([service])) if one.manifest]
    assert [one["spec"]["portLevelMtls"] for one in found] == [{8080: {"mode": "STRICT"}, 8082: {"mode": "DISABLE"}}]


def test_a_token_is_demanded_only_on_http_ports_if_the_manifest_names_them():
    service = yaml.safe_load(SERVICE)
    service["spec"]["ports"] = [{"name": "http", "port": 80, "targetPort": 8080}, {"name": "tcp-db", "port": 90}]
    found = {
        one.manifest.get("kind"): one for one in translate([for_web(origins=[{"jwt": JWT}])], Services.of([service]))
    }
    assert found["AuthorizationPolicy"].manifest["spec"]["rules"][0]["to"] == [{"operation": {"ports": ["8080"]}}]
    assert not found["AuthorizationPolicy"].warnings


def test_origins_equal_to_the_meshs_are_not_repeated_and_others_are_refused():
    mesh = policy("default", "", "MeshPolicy", origins=[{"jwt": JWT}])
    same = policy("default", peers=[{"mtls": {}}], origins=[{"jwt": JWT}])
    kinds = [
        (one.manifest["kind"], one.manifest["metadata"]["namespace"]) for one in translate([mesh, same]) if one.manifest
    ]
    assert ("PeerAuthentication", "foo") in kinds and ("RequestAuthentication", "foo") not in kinds
    assert "today both would apply" in refused(mesh, policy("default", peers=[{"mtls": {}}]))


def test_services_that_may_share_pods_are_refused():
    other = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "b", "namespace": "foo"},
             "spec": {"selector": {"tier": "x"}, "ports": []}}  # fmt: skip
    assert "the Services web and b in foo may share pods" in refused(for_web(), other)


def test_the_same_object_twice_is_refused():
    assert "Policy default occurs twice in foo" in refused(policy("default"), policy("default"))


def test_a_path_still_includes_its_query():
    rules = {"rules": [{"services": ["*"], "paths": ["/a"], "not_paths": ["*.css"]}]}
    objects, notes = made(ON, rbac("viewer", "ServiceRole", **rules), rbac("b", "ServiceRoleBinding", **BINDING))
    asked = {"key": "request.headers[:path]", "values": ["/a"], "notValues": ["*.css"]}
    assert all(asked in rule["when"] for rule in objects["AuthorizationPolicy"]["spec"]["rules"])
    assert "the condition on :path keeps it so" in notes and "&id" not in document(
        [Translated(one) for one in objects.values()]
    )
