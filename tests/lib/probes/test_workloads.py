"""The worlds and the hardened profile: their objects parse, hold what they must, and are what the tables name."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from lib.errors import ClusterError
from lib.kubernetes import manifests
from lib.probes import model, workloads
from lib.probes.scenarios import fixtures, peers, requests, sessions, token_endpoint
from lib.probes.tokens.kit import Missing
from lib.run import MANIFESTS
from tests.support.little_cluster import Served, new_run

VALUES = {
    "issuer": "http://sso.example/realms/istio",
    "other_issuer": "http://sso.example/realms/other",
    "jwks_uri": "http://keycloak.example/certs",
    "other_jwks_uri": "http://keycloak.example/other",
    "client_id": "istio",
    "role": "reader",
    "gateway": "cluster.local/ns/hardened/sa/gateway",
    "sleep": "cluster.local/ns/foo/sa/sleep",
    "namespace": "foo",
    "annotations": "{}",
    "httpbin_image": "httpbin",
    "name": "open",
    "hosts": json.dumps(["open.example"]),
    "account": "gateway",
    "uninjected": "false",
}
FILES = sorted(path.relative_to(MANIFESTS) for home in ("probes", "hardened") for path in (MANIFESTS / home).glob("*"))
HOUR = timedelta(hours=1)
NAMES = ("cluster.local/ns/foo/sa/sleep", "cluster.local/ns/evil/sa/gateway")


def objects(*files):
    return [thing for file in files for thing in manifests.load(MANIFESTS / file, **VALUES)]


def one(kind, name, *files):
    (found,) = [thing for thing in objects(*files) if (thing["kind"], thing["metadata"]["name"]) == (kind, name)]
    return found["spec"]


def hardened(kind, name):
    return one(kind, name, *(file for file in FILES if file.parts[0] == "hardened"))


def identities(text):
    made = x509.load_pem_x509_certificate(text.encode())
    return made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(
        x509.UniformResourceIdentifier
    )


@pytest.mark.parametrize("file", FILES, ids=str)
def test_a_manifest_holds_named_objects(file):
    found = objects(file)
    assert found and all({"apiVersion", "kind", "metadata"} <= thing.keys() for thing in found)


def test_no_two_objects_have_one_name():
    keys = [(thing["kind"], thing["metadata"].get("namespace"), thing["metadata"]["name"]) for thing in objects(*FILES)]
    assert sorted(map(str, keys)) == sorted({*map(str, keys)})


def test_every_world_of_the_tables_is_there():
    known = {"", fixtures.WORLD, *workloads.WORLDS, *model.PROFILES}
    assert {probe.id: probe.world for probe in model.load() if probe.world not in known} == {}


def test_every_world_is_asked():
    assert {*workloads.WORLDS} - {probe.world for probe in model.load()} == set()


def test_every_sequence_of_the_mesh_is_known():
    others = {*requests.SCENARIOS, *sessions.SCENARIOS, *token_endpoint.SCENARIOS, "http"}
    asked = {probe.how for probe in model.load() if probe.family == "G"} - others
    files = [model.TABLES.parent / "scenarios" / name for name in ("peers.py", "ways_in.py")]
    text = "".join(file.read_text() for file in files)
    assert [how for how in sorted(asked) if f'"{how}":' not in text] == []


def test_who_is_another_may_not_pass_as_the_gateway_or_sleep():
    rows = {probe.how: probe for probe in model.load() if probe.family == "G"}
    for how in ("other namespace", "gateway's name elsewhere", "name with a suffix", "namespace with a suffix"):
        assert not rows[how].measured
        assert [rows[how].expected(profile) for profile in ("figure-1", "hardened")] == ["403 R, 403 R"] * 2


def test_policies_select_what_is_there():
    apps = {*workloads.COPIES, workloads.TCP, "exceptions"}
    labels = [thing["spec"].get("selector", {}).get("matchLabels", {}) for thing in objects("probes/policies.yaml")]
    assert {label["app"] for label in labels if label} - apps == {"tpyo"}  # misspelt on purpose


def test_hardened_reads_tokens_from_one_place_alone():
    (rule,) = hardened("RequestAuthentication", "tokens")["jwtRules"]
    assert rule["fromHeaders"] == [{"name": "Authorization", "prefix": "Bearer "}]
    assert rule["forwardOriginalToken"] is True and rule["audiences"] == ["istio"]
    assert not {"fromParams", "fromCookies"} & rule.keys()


def test_hardened_denies_what_nothing_allows():
    assert hardened("AuthorizationPolicy", "nothing") == {}


@pytest.mark.parametrize("name", ["gateway", "httpbin-hardened"])
def test_hardened_asks_for_kind_client_and_role_at_gateway_and_workload(name):
    rule = hardened("AuthorizationPolicy", name)["rules"][0]
    assert {one["key"]: one["values"] for one in rule["when"]} == {
        "request.auth.claims[typ]": ["Bearer"],
        "request.auth.claims[azp]": ["istio"],
        "request.auth.claims[realm_access][roles]": ["reader"],
    }
    assert rule["from"][0]["source"]["requestPrincipals"] == [f"{VALUES['issuer']}/*"]


def test_hardened_workload_takes_users_from_its_own_gateway_alone():
    users, service = hardened("AuthorizationPolicy", "httpbin-hardened")["rules"]
    assert users["from"][0]["source"]["principals"] == [VALUES["gateway"]]
    assert service == {"from": [{"source": {"principals": [VALUES["sleep"]]}}]}


def test_hardened_gateway_is_its_own_and_names_namespace_and_host():
    (server,) = hardened("Gateway", "gateway")["servers"]
    assert server["hosts"] == ["./httpbin-hardened.example"]
    assert hardened("Service", "gateway")["type"] == "LoadBalancer"
    pod = hardened("Deployment", "gateway")["template"]
    assert pod["spec"]["serviceAccountName"] == "gateway"
    assert hardened("Gateway", "gateway")["selector"] == pod["metadata"]["labels"]


def test_hardened_paths_are_decoded_and_merged():
    (patch,) = hardened("EnvoyFilter", "paths")["configPatches"]
    said = patch["patch"]["value"]["typed_config"]
    assert (said["normalize_path"], said["merge_slashes"]) == (True, True)
    assert said["path_with_escaped_slashes_action"] == "UNESCAPE_AND_FORWARD"


def test_admission_is_for_hardened_namespaces_and_fails_closed():
    policy = hardened("ValidatingAdmissionPolicy", "runbook-hardened")
    binding = hardened("ValidatingAdmissionPolicyBinding", "runbook-hardened")
    (home,) = objects("hardened/namespace.yaml")
    assert policy["failurePolicy"] == "Fail" and binding["validationActions"] == ["Deny"]
    wanted = binding["matchResources"]["namespaceSelector"]["matchLabels"]
    assert wanted.items() <= home["metadata"]["labels"].items()


@pytest.mark.parametrize(
    "way",
    [
        "sidecar.istio.io/inject",
        "traffic.sidecar.istio.io/",
        "sidecar.istio.io/interceptionMode",
        "inject.istio.io/templates",
        "proxy.istio.io/config",
        "proxy.istio.io/overrides",
        "hostNetwork",
        "privileged",
        "NET_ADMIN",
        "1337",
    ],
)
def test_admission_knows_each_way_around_the_sidecar(way):
    rules = hardened("ValidatingAdmissionPolicy", "runbook-hardened")["validations"]
    assert any(way in rule["expression"] for rule in rules)


def test_an_intruder_stands_outside_the_namespaces_whose_hosts_it_takes():
    routes = objects("probes/intruders.yaml")
    assert {route["metadata"]["namespace"] for route in routes} == {workloads.STRANGERS}
    assert {tuple(route["spec"]["hosts"]) for route in routes} == {("open.example",), ("httpbin-hardened.example",)}


def test_a_port_is_a_world_of_one_pod():
    ports = {port["port"] for port in one("Service", "exceptions", "probes/exceptions.yaml")["ports"]}
    assert ports == {*workloads.PORTS.values()}


@pytest.mark.parametrize("name", NAMES)
def test_a_certificate_names_who_it_is_for_and_is_signed_by_whom_it_says(name):
    by = peers.pair("spiffe://cluster.local")
    made = peers.pair(f"spiffe://{name}", by)
    assert identities(made.chain) == [f"spiffe://{name}"]
    leaf, root = (x509.load_pem_x509_certificate(text.encode()) for text in (made.chain, by.chain))
    assert leaf.public_key() == load_pem_private_key(made.key.encode(), None).public_key()
    leaf.verify_directly_issued_by(root)


@pytest.mark.parametrize(
    ("since", "until", "valid"), [(-HOUR, HOUR, True), (-2 * HOUR, -HOUR, False), (HOUR, 2 * HOUR, False)]
)
def test_a_certificate_has_the_times_that_were_asked_for(since, until, valid):
    made = x509.load_pem_x509_certificate(peers.pair("spiffe://x", since=since, until=until).chain.encode())
    assert (made.not_valid_before_utc <= datetime.now(UTC) <= made.not_valid_after_utc) is valid


def test_key_and_certificate_go_by_standard_input_alone():
    seen = []

    def execute(argv, stdin):
        seen.append((argv, stdin))
        return "", 0

    own = peers.pair("spiffe://x")
    peers.with_pair(execute, own)(["sh", "-c", "…", "curl", "7"], "url = x")
    ((argv, stdin),) = seen
    assert stdin == own.chain + own.key + "url = x"
    assert not any("BEGIN" in word for word in argv)
    assert argv[-2:] == [str(len(own.chain + own.key)), "7"] and "trap" in argv[2]


class Mesh(Served):
    """A cluster whose Deployments are ready, with a pod of each caller; it may refuse pods with hostNetwork."""

    def __init__(self, refusal=""):
        super().__init__()
        self.refusal, self.awaited, self.tried = refusal, [], []
        self.kept["Namespace", None, workloads.STRANGERS] = {"kind": "Namespace"}
        self.kept["ConfigMap", "istio-system", "istio"] = {"kind": "ConfigMap", "data": {"mesh": ""}}

    def items(self, api_version, kind, namespace=None, labels=""):
        return [] if labels == "app=istiod" else super().items(api_version, kind, namespace, labels)

    def wait_rolled_out(self, kind, name, *_):
        self.awaited.append(name)

    def try_apply(self, thing):
        self.tried.append(thing)
        account = "ServiceAccount", thing["metadata"]["namespace"], thing["spec"]["serviceAccountName"]
        return self.refusal if account in self.kept else "service account not found"

    def execute(self, labels, namespace, container):
        name = labels.removeprefix("app=")
        if name == workloads.NODE and ("Deployment", namespace, name) not in self.kept:
            raise ClusterError("No running pod")
        return lambda argv, stdin="": (name, 0)


REFUSAL = 'violates PodSecurity "baseline:latest": host namespaces'


@pytest.mark.parametrize("refusal", ["", REFUSAL])
def test_a_caller_has_the_nodes_network_where_the_cluster_allows_it(refusal):
    cluster = Mesh(refusal)
    run = new_run(cluster)
    workloads.ensure(run)
    workloads.wait(run)
    made = cluster.kept.get(("Deployment", workloads.STRANGERS, workloads.NODE))
    assert bool(made) == (workloads.NODE in cluster.awaited) == (not refusal)
    assert "second-gateway" in cluster.awaited
    (pod,) = cluster.tried
    assert (pod["kind"], pod["metadata"]["namespace"], pod["spec"]["hostNetwork"]) == ("Pod", workloads.STRANGERS, True)
    assert not made or made["spec"]["template"]["spec"] == pod["spec"]
    ask = workloads.callers_inside(run)[workloads.NODE]
    if refusal:
        with pytest.raises(Missing, match="refuses a pod with hostNetwork: violates PodSecurity"):
            ask(["sh"], "")
    else:
        assert ask(["sh"], "") == (workloads.NODE, 0)


def test_a_second_gateway_leads_to_each_profile_from_a_namespace_of_its_own():
    found = objects("probes/second-gateway.yaml")
    assert {thing["metadata"]["namespace"] for thing in found} == {workloads.STRANGERS}
    (routes,) = [thing["spec"] for thing in found if thing["kind"] == "VirtualService"]
    assert routes["hosts"] == [f"{name}.example" for name in workloads.PROFILES.values()]
    ways = [way["route"][0]["destination"]["host"].split(".")[:2] for way in routes["http"]]
    assert ways == [["httpbin", "foo"], ["httpbin-figure-1", "foo"], ["httpbin-hardened", "hardened"]]


@pytest.mark.parametrize(("ready", "left"), [("True", []), ("False", ["bad-keys-1"])])
def test_a_pod_that_got_a_placeholder_for_the_malformed_keys_is_deleted(ready, left):
    pod = {"kind": "Pod", "metadata": {"namespace": workloads.NAMESPACE, "name": "bad-keys-1"}}
    run = new_run(Mesh())
    run.cluster.apply({**pod, "status": {"conditions": [{"type": "Ready", "status": ready}]}})
    workloads.wait(run)
    assert [name for kind, _, name in run.cluster.kept if kind == "Pod"] == left
