"""Findings about ended sessions: which of them who closes, and that nothing stays of the authorizers that are asked."""

import base64
import json
import ssl

import pytest

from lib.crypto import certificates
from lib.istio.extension_providers import DENY_LIST, INTROSPECTION, PROVIDERS
from lib.keycloak import representations
from lib.keycloak.admin import Keycloak
from lib.login import application, closed, log_out, without_list
from lib.names import HARDENED, KEYCLOAK, LOGIN
from lib.probes import workloads
from lib.steps import authority, endpoints
from tests.support.fake_keycloak import FakeKeycloak
from tests.support.little_cluster import Served, new_run, no_file_is_left  # noqa: F401

WORKLOAD = workloads.PROFILES[HARDENED]
POLICY = "AuthorizationPolicy", HARDENED, "ended-sessions"
HOSTS = {"login_host": "app.example", "keycloak_host": "sso.example"}


class Ready(Served):
    """A cluster whose Deployments are ready at once, none of them istiod."""

    def wait_rolled_out(self, *_):
        """Wait for nothing."""

    def items(self, api_version, kind, namespace=None, labels=""):
        return [] if labels == "app=istiod" else super().items(api_version, kind, namespace, labels)


@pytest.fixture
def server():
    with FakeKeycloak() as fake:
        keycloak = Keycloak(fake.url, "admin", "secret")
        keycloak.ensure_realm(representations.realm("istio"))
        for name in ("istio", application.CLIENT):
            keycloak.ensure_client("istio", representations.client(name, attributes={"kept": "1"}))
        yield fake


@pytest.fixture
def run(server, tmp_path):
    made = new_run(Ready(server), deny_list_image="deny-list:1", authorizer_image="authorizer:1", **HOSTS)
    authority.trust(made)
    root = made.read_secret(authority.AUTHORITY, authority.HOME)
    pair = certificates.issue(root[authority.CERTIFICATE], root[authority.KEY], [endpoints.INSIDE])
    (tmp_path / "pair.pem").write_text("".join(pair))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "pair.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    made.cluster.kept["ConfigMap", "istio-system", "istio"] = {"data": {"mesh": "trustDomain: cluster.local"}}
    made.put_secret("keycloak-admin", endpoints.KEYCLOAK, username="admin", password="secret")
    made.put_secret("client-istio-istio", KEYCLOAK, **{"client-secret": "made-by-keycloak"})
    made.apply(log_out.objects(made))
    return made


def attributes(server, name):
    return next(one for one in server.realms["istio"]["clients"].values() if one["clientId"] == name)["attributes"]


def test_each_end_that_the_issuer_knows_is_closed_by_introspection_and_the_reported_ones_by_the_list():
    found = {one.id: one for one in closed.findings()}
    assert list(found) == [f"D35{letter}" for letter in "abcdefg"]
    by_list = [id for id, one in found.items() if closed.expected(one, DENY_LIST) == 401]
    assert by_list == ["D35a", "D35b", "D35c"]
    assert {closed.expected(one, INTROSPECTION) for one in found.values()} == {403}
    assert {closed.expected(one, closed.NOBODY) for one in found.values()} == {200}
    assert all(("Keycloak does not report" in one.closed_by) is (id not in by_list) for id, one in found.items())


def test_the_hardened_profile_borrows_the_deny_list_and_gives_it_back_even_after_an_error(run, server):
    before = dict(run.cluster.kept)
    with pytest.raises(ValueError), closed.deny_list(run):
        args = run.cluster.kept["Deployment", LOGIN, DENY_LIST]["spec"]["template"]["spec"]["containers"][0]["args"]
        assert f"-audience={run.params.client_id}" in args
        (asks, _) = run.cluster.kept["AuthorizationPolicy", LOGIN, DENY_LIST]["spec"]["rules"]
        assert asks["from"][0]["source"]["principals"] == [f"cluster.local/ns/{HARDENED}/sa/{WORKLOAD}"]
        spec = run.cluster.kept[POLICY]["spec"]
        assert (spec["action"], spec["provider"]) == ("CUSTOM", {"name": DENY_LIST})
        assert spec["selector"] == {"matchLabels": {"app": WORKLOAD}}
        assert attributes(server, "istio")["backchannel.logout.url"] == log_out.REPORTS
        raise ValueError
    assert run.cluster.kept == before
    assert attributes(server, "istio")["backchannel.logout.url"] == "" and attributes(server, "istio")["kept"] == "1"


def test_the_authorizer_that_asks_keycloak_has_its_secret_in_a_secret_and_goes_again(run):
    before = dict(run.cluster.kept)
    with closed.introspection(run):
        files = run.cluster.kept["Secret", LOGIN, INTROSPECTION]["data"]
        data = json.loads(base64.b64decode(files["data.json"]))
        assert data["url"].startswith("https://keycloak.") and data["url"].endswith("/token/introspect")
        assert (data["client"], data["secret"]) == ("istio", "made-by-keycloak") and "BEGIN CERT" in data["authority"]
        pod = run.cluster.kept["Deployment", LOGIN, INTROSPECTION]["spec"]["template"]["spec"]
        assert pod["volumes"] == [{"name": "policies", "secret": {"secretName": INTROSPECTION}}]
        assert f"{WORKLOAD}.rego" in files  # the authorizer takes the policy by the name of the workload
        (asks,) = run.cluster.kept["AuthorizationPolicy", LOGIN, INTROSPECTION]["spec"]["rules"]
        assert asks["from"] == [{"source": {"namespaces": [HARDENED]}}]
        assert run.cluster.kept[POLICY]["spec"]["provider"] == {"name": INTROSPECTION}
    assert run.cluster.kept == before
    (provider,) = [one["envoyExtAuthzGrpc"] for one in PROVIDERS if one["name"] == INTROSPECTION]
    assert provider["service"].startswith(f"{INTROSPECTION}.{LOGIN}.") and not provider["failOpen"]


def test_tokens_of_the_login_live_shortly_for_a_while(run, server):
    with pytest.raises(ValueError), without_list.short_life(run):
        assert attributes(server, application.CLIENT)["access.token.lifespan"] == str(without_list.LIFE)
        raise ValueError
    assert attributes(server, application.CLIENT)["access.token.lifespan"] == ""


@pytest.mark.parametrize(
    "changed", [{"login_engine": "none"}, {"deny_list_image": ""}, {"authorizer_image": ""}, {"profiles": ["figure-1"]}]
)
def test_an_environment_without_them_says_why(changed):
    given = {"deny_list_image": "deny-list:1", "authorizer_image": "authorizer:1", **changed}
    run = new_run(Served(), **given)
    assert len(closed.close(run)) == 0
    assert {check.reason for check in run.checks} == {closed.why_off(run)} and len(run.checks) == 7
    assert not run.changes


def test_without_a_list_no_design_is_measured():
    run = new_run(Served(), login_engine="none")
    assert len(without_list.measure(run)) == 0
    assert [check.verdict for check in run.checks] == ["skipped"] * 2
