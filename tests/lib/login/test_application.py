"""The application behind the login: its client, Secrets and filter, and what an environment without a login gets."""

import base64

import pytest
import yaml

from lib.crypto import certificates
from lib.login import application
from lib.names import KEYCLOAK, LOGIN
from lib.planning import findings
from lib.probes.model import OAUTH2_PROXY
from lib.steps import authority
from tests.support.little_cluster import Served, new_run, no_file_is_left  # noqa: F401


@pytest.fixture
def run():
    made = new_run(Served(), login_host="app.example", keycloak_host="sso.example")
    made.put_secret(f"client-istio-{application.CLIENT}", KEYCLOAK, **{"client-secret": "the-secret-of-the-client"})
    return made


def oauth2(run):
    (made,) = application.login_objects(run)
    return made["spec"]["configPatches"][0]["patch"]["value"]["typed_config"]["config"]


def test_the_client_may_use_the_code_flow_with_pkce_and_one_address_only(run):
    client = application.client(run)
    assert client["redirectUris"] == ["https://app.example/oauth2/callback"]
    assert client["attributes"]["pkce.code.challenge.method"] == "S256"
    assert client["standardFlowEnabled"] and not client["directAccessGrantsEnabled"] and not client["publicClient"]


def test_the_filter_takes_no_address_from_the_request(run):
    config = oauth2(run)
    addresses = [config[key] for key in ("redirect_uri", "original_request_uri", "authorization_endpoint")]
    assert not [address for address in addresses if "%REQ" in address]
    assert config["redirect_uri"] == application.client(run)["redirectUris"][0]
    assert config["allowed_redirect_domains"] == ["app.example"]
    assert config["authorization_endpoint"].startswith("https://sso.example/realms/istio/")
    assert config["token_endpoint"]["uri"].startswith("https://keycloak.keycloak.svc.cluster.local/")


def test_each_cookie_is_for_one_host_and_not_sent_across_sites(run):
    config = oauth2(run)
    assert all(name.startswith("__Host-") for name in config["credentials"]["cookie_names"].values())
    assert {one["same_site"] for one in config["cookie_configs"].values()} == {"LAX"}
    assert len(config["cookie_configs"]) == len(config["credentials"]["cookie_names"]) == 7


def test_both_flags_against_the_padding_oracle_are_set_beside_the_params_topology():
    run = new_run(Served(), login_host="app.example", keycloak_host="sso.example", trusted_proxies=1)
    (deployment,) = [
        one
        for one in application.objects(run)
        if one["metadata"]["name"] == application.GATEWAY and one["kind"] == "Deployment"
    ]
    config = yaml.safe_load(deployment["spec"]["template"]["metadata"]["annotations"]["proxy.istio.io/config"])
    assert config["runtimeValues"] == {
        "envoy.reloadable_features.oauth2_use_gcm_encryption": "true",
        "envoy.reloadable_features.oauth2_legacy_cbc_decrypt_compat": "false",
    }
    assert config["gatewayTopology"] == {"numTrustedProxies": 1}


def test_envoy_reads_both_secrets_from_files_that_the_filter_names(run):
    application.ensure_secrets(run)
    data = run.cluster.kept["Secret", LOGIN, application.FILES]["data"]
    values = {}
    for file, text in data.items():
        (resource,) = yaml.safe_load(base64.b64decode(text))["resources"]
        values[file] = (resource["name"], resource["generic_secret"]["secret"]["inline_string"])
    config = oauth2(run)["credentials"]
    for key in ("token_secret", "hmac_secret"):
        file = config[key]["sds_config"]["path_config_source"]["path"].rpartition("/")[2]
        assert values[file][0] == config[key]["name"]
    assert values["client-secret.yaml"][1] == "the-secret-of-the-client"
    assert {value for _, value in values.values()} <= run.record.secrets


def test_the_policies_are_those_of_figure_1_with_the_login_gateway(run, monkeypatch):
    run.cluster.kept["ConfigMap", "istio-system", "istio"] = {"data": {"mesh": "trustDomain: cluster.local"}}
    authentication, authorization = application.policies(run)
    assert authentication["spec"]["jwtRules"][0]["issuer"] == "https://sso.example/realms/istio"
    users, services = authorization["spec"]["rules"]
    assert users["from"][0]["source"]["principals"] == ["cluster.local/ns/login/sa/gateway"]
    assert services["from"][0]["source"]["principals"] == ["cluster.local/ns/foo/sa/sleep"]


@pytest.mark.parametrize("changed", [{"tls": "off"}, {"login_engine": "none"}])
def test_an_environment_without_a_login_gets_no_object_of_it_and_its_plan_no_load_balancer(changed):
    run = new_run(Served(), **changed)
    made = [application.address_objects, application.login_objects, application.objects, application.policies]
    assert [one(run) for one in made] == [[], [], [], []]
    assert application.ensure_secrets(run) == {} and application.ensure_client(run) is None and not run.changes
    assert application.why_off(run) and "login gateway" not in findings.load_balancer_names(run.params)
    assert "login gateway" in findings.load_balancer_names(new_run(Served()).params)


@pytest.fixture
def by_proxy():
    made = new_run(Served(), login_engine=OAUTH2_PROXY, login_host="app.example", keycloak_host="sso.example")
    made.cluster.kept["ConfigMap", "istio-system", "istio"] = {"data": {"mesh": "trustDomain: cluster.local"}}
    made.put_secret(f"client-istio-{application.CLIENT}", KEYCLOAK, **{"client-secret": "the-secret-of-the-client"})
    return made


def named(objects, kind, name):
    (found,) = [one for one in objects if (one["kind"], one["metadata"]["name"]) == (kind, name)]
    return found["spec"] if "spec" in found else found["data"]


def test_the_gateway_asks_oauth2_proxy_about_all_but_two_paths_and_own_tokens_by_tls_only(by_proxy):
    asked = named(application.login_objects(by_proxy), "AuthorizationPolicy", "login")
    assert asked["action"] == "CUSTOM" and asked["provider"] == {"name": OAUTH2_PROXY}
    ((rule,), (port,)) = asked["rules"], asked["rules"][0]["to"]
    assert port["operation"] == {"ports": ["8443"], "notPaths": [application.CALLBACK, application.SIGN_OUT]}
    assert rule["when"] == [{"key": "request.headers[authorization]", "notValues": ["Bearer *"]}]


def test_only_oauth2_proxy_opens_redis_and_only_the_gateway_asks_oauth2_proxy(by_proxy):
    objects = application.login_objects(by_proxy)
    for name, account in (("redis", OAUTH2_PROXY), (OAUTH2_PROXY, application.GATEWAY)):
        (rule,) = named(objects, "AuthorizationPolicy", name)["rules"]
        assert rule["from"] == [{"source": {"principals": [f"cluster.local/ns/login/sa/{account}"]}}]


def test_oauth2_proxy_and_redis_have_no_right_and_no_secret_in_their_arguments(by_proxy):
    application.ensure_secrets(by_proxy)
    objects = application.login_objects(by_proxy)
    for name in (OAUTH2_PROXY, "redis"):
        pod = named(objects, "Deployment", name)["template"]["spec"]
        limits = pod["containers"][0]["securityContext"]
        assert pod["securityContext"]["runAsNonRoot"] and pod["automountServiceAccountToken"] is False
        assert limits["readOnlyRootFilesystem"] and limits["capabilities"] == {"drop": ["ALL"]}
    assert not [secret for secret in by_proxy.record.secrets if secret in yaml.safe_dump_all(objects)]
    config = yaml.safe_load(named(objects, "ConfigMap", OAUTH2_PROXY)["login.yaml"])
    (provider,) = config["providers"]
    assert provider["code_challenge_method"] == "S256" and provider["oidcConfig"]["insecureSkipNonce"] is False
    assert config["injectResponseHeaders"][0]["values"] == [
        {"claimSource": {"claim": "access_token", "prefix": "Bearer "}}
    ]


def test_with_another_configuration_oauth2_proxy_restarts(by_proxy):
    def note(run):
        pod = named(application.login_objects(run), "Deployment", OAUTH2_PROXY)["template"]
        return pod["metadata"]["annotations"]["runbook/config"]

    other = new_run(Served(), login_engine=OAUTH2_PROXY, login_host="other.example", keycloak_host="sso.example")
    other.cluster.kept.update(by_proxy.cluster.kept)
    assert note(by_proxy) == note(by_proxy) != note(other)


def test_with_another_authority_oauth2_proxy_restarts_and_redis_keeps_its_sessions(by_proxy):
    def templates():
        objects = application.login_objects(by_proxy)
        return [named(objects, "Deployment", name)["template"] for name in (OAUTH2_PROXY, "redis")]

    proxy, redis = templates()
    assert templates() == [proxy, redis]
    by_proxy.cluster.put(authority.AUTHORITY, authority.HOME, *certificates.generate_authority("two"))
    assert templates()[0] != proxy and templates()[1] == redis


def test_the_engine_that_the_params_do_not_name_is_deleted(run, by_proxy):
    istiod = {"metadata": {"name": "istiod", "namespace": "istio-system"}}
    istiod["spec"] = {"template": {"spec": {"containers": []}}}
    run.cluster.kept.update({**by_proxy.cluster.kept, ("Deployment", "istio-system", "istiod"): istiod})
    application.delete_other_engine(run)
    assert not run.changes[1:]  # nothing of oauth2-proxy is there
    run.apply(application.login_objects(by_proxy))
    application.delete_other_engine(run)
    kept = {(kind, name) for kind, _, name in run.cluster.kept}
    assert not {("Deployment", OAUTH2_PROXY), ("AuthorizationPolicy", "login"), ("VirtualService", "login")} & kept
