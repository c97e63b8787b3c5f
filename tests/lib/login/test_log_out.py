"""The deny-list: its callers and its arguments, and an environment without a deny-list."""

import pytest

from lib.crypto import certificates
from lib.istio.extension_providers import DENY_LIST, PROVIDERS
from lib.login import application, log_out
from lib.names import LOGIN
from lib.steps import authority
from tests.support.little_cluster import Served, new_run, no_file_is_left  # noqa: F401


@pytest.fixture
def run():
    made = new_run(Served(), login_host="app.example", keycloak_host="sso.example", deny_list_image="deny-list:1")
    made.cluster.kept["ConfigMap", "istio-system", "istio"] = {"data": {"mesh": "trustDomain: cluster.local"}}
    return made


def of_kind(run, kind):
    return [one for one in log_out.objects(run) if one["kind"] == kind]


def test_the_list_fails_shut_and_only_the_applications_sidecar_may_ask_it(run):
    (provider,) = [one["envoyExtAuthzHttp"] for one in PROVIDERS if one["name"] == DENY_LIST]
    assert not provider.get("failOpen") and provider["service"].startswith(f"{DENY_LIST}.{LOGIN}.")
    allow, ask = of_kind(run, "AuthorizationPolicy")
    asks, reports = allow["spec"]["rules"]
    assert asks["from"][0]["source"]["principals"] == [f"cluster.local/ns/login/sa/{application.NAME}"]
    assert asks["to"][0]["operation"]["ports"] == ["8080"] and reports["to"][0]["operation"]["ports"] == ["8443"]
    assert ask["spec"]["action"] == "CUSTOM" and ask["spec"]["provider"] == {"name": DENY_LIST}
    (peers,) = of_kind(run, "PeerAuthentication")
    assert peers["spec"]["mtls"] == {"mode": "STRICT"} and peers["spec"]["portLevelMtls"] == {8443: {"mode": "DISABLE"}}


def test_the_list_believes_one_issuer_and_one_client_and_has_no_right(run):
    (deployment,) = of_kind(run, "Deployment")
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert "-issuer=https://sso.example/realms/istio" in container["args"]
    assert f"-audience={application.CLIENT}" in container["args"]
    assert pod["automountServiceAccountToken"] is False and pod["securityContext"]["runAsNonRoot"]
    limits = container["securityContext"]
    assert limits["readOnlyRootFilesystem"] and limits["capabilities"] == {"drop": ["ALL"]}


def test_with_another_authority_the_list_restarts_since_it_reads_the_authority_once(run):
    notes = lambda: of_kind(run, "Deployment")[0]["spec"]["template"]["metadata"]["annotations"]  # noqa: E731
    before = notes()
    assert before == notes()
    run.cluster.put(authority.AUTHORITY, authority.HOME, *certificates.generate_authority("two"))
    assert before != notes()


@pytest.mark.parametrize("changed", [{"login_engine": "none"}, {"deny_list_image": ""}])
def test_an_environment_without_a_list_gets_none_and_each_check_says_why(changed):
    run = new_run(Served(), **changed)
    log_outs = log_out.LogOuts(run)
    assert log_out.objects(run) == [] and log_out.ensure_reports(run) is None and log_out.wait(run) is None
    assert [len(table) for table in (log_outs.measure(), log_outs.forge(), log_outs.costs())] == [0, 0, 0]
    assert {check.verdict for check in run.checks} == {"skipped"} and len(run.checks) == len(log_out.ENDS) + 1
    assert {check.reason for check in run.checks} == {log_out.why_off(run)} and not run.changes
