"""Holes in the login turn the named probes red, their closing turns them green; the second engine is attacked too."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from lib import diagnose, params
from lib.http_client import over_http
from lib.istio import access_log, proxy
from lib.istio.extension_providers import DENY_LIST, INTROSPECTION
from lib.keycloak import admin
from lib.labs import callback, login
from lib.labs.lab import Lab
from lib.login import application, closed, hostile
from lib.login.log_out import LogOuts
from lib.login.person import Person
from lib.login.stage import Stage
from lib.names import HARDENED, LOGIN
from lib.polling import until, wait
from lib.probes.model import OAUTH2_PROXY
from lib.probes.scenarios.rotation import stopped
from lib.record.events import Record
from lib.run import Run
from lib.steps import endpoints, tokens
from sandbox.build import parts

pytestmark = pytest.mark.sandbox
PATIENCE = 180  # seconds until a hole, or its closing, is seen


@dataclass(frozen=True)
class Hole:
    """How it is made, and the probes that must turn red with what they get then."""

    make: Callable[[Run], None]
    red: dict[str, str]


def config(objects: list[dict]) -> dict:
    """The oauth2 filter's configuration among freshly loaded objects."""
    return objects[0]["spec"]["configPatches"][0]["patch"]["value"]["typed_config"]["config"]


def any_page_after_the_login(run: Run) -> None:
    objects = application.login_objects(run)
    del config(objects)["allowed_redirect_domains"]
    run.apply(objects)


def cookies_for_every_site(run: Run) -> None:
    objects = application.login_objects(run)
    del config(objects)["cookie_configs"]
    run.apply(objects)


def pkce_off(run: Run) -> None:
    keycloak, realm = endpoints.keycloak_admin(run), run.params.realm
    client = keycloak.get_client(realm, application.CLIENT)
    attributes = {**client["attributes"], "pkce.code.challenge.method": ""}
    keycloak.call("PUT", admin.path(realm, "clients", client["id"]), {**client, "attributes": attributes})


def trust_the_gateway_instead_of_the_token(run: Run) -> None:
    for policy in application.policies(run):
        run.delete(policy)
    objects = application.objects(run)
    (route,) = [one for one in objects if one["kind"] == "VirtualService"]
    del route["spec"]["http"][0]["headers"]["request"]
    run.apply([route])


HOLES = {
    "any page after the login": Hole(any_page_after_the_login, {"L05": "302 elsewhere"}),
    "cookies for every site": Hole(cookies_for_every_site, {"L81": "302 weak", "L82": "302 weak"}),
    "PKCE off": Hole(pkce_off, {"L20": "200 keycloak"}),
    "a trusted header instead of a verified token": Hole(
        trust_the_gateway_instead_of_the_token,
        {"L51": "200 app", "L52": "200 app", "L56": "200 app", "L57": "200 app", "L58": "200 app"},
    ),
}


def mend(run: Run) -> None:
    application.ensure_client(run)
    application.ensure_secrets(run)
    application.delete_other_engine(run)
    run.apply([*application.login_objects(run), *application.objects(run), *application.policies(run)])


def red(run: Run, ids: tuple[str, ...]) -> dict[str, str]:
    return {one.id: one.got for one in hostile.ask(run, ids) if one.verdict != "pass"}


def gateway_state(run: Run) -> str:
    """Where a change of the login may have been lost: in the cluster, on the way to Envoy, or in Envoy."""
    execute = run.cluster.execute("istio=login-gateway", LOGIN, access_log.PROXY)
    stats = proxy.admin_page(execute, "stats?filter=(listener_manager|control_plane|update_(success|rejected))")
    live = run.cluster.items("networking.istio.io/v1alpha3", "EnvoyFilter", LOGIN)
    texts = {"cluster": json.dumps(live), "Envoy": json.dumps(proxy.config_dump(execute))}
    keys = ("allowed_redirect_domains", "cookie_configs")
    return f"{ {place: [key for key in keys if key in text] for place, text in texts.items()} } {stats}"


@pytest.mark.parametrize("name", HOLES)
def test_each_hole_turns_its_probes_red_and_its_closing_turns_them_green(first, name):
    run, hole = Run("login-holes", params.load("dev"), Record()), HOLES[name]
    ids = (*hole.red, "L31")  # the control: a login that is broken refuses too, and has no holes
    assert red(run, ids) == {}
    try:
        hole.make(run)
        seen = until(lambda: red(run, ids), lambda got: got == hole.red, deadline=PATIENCE)
        assert seen.held, f"{name}: {seen.value} {seen.error}, and the gateway: {gateway_state(run)}"
    finally:
        mend(run)
    wait("the hole is closed", lambda: red(run, ids), lambda got: not got, streak=3, deadline=PATIENCE)


WHY_OF_OAUTH2_PROXY = {
    "no cookies": "cookies-blocked",
    "the cookies of another login": "state-mismatch",
    "a code that is used up": "code-refused",
    "the person refuses": "login-ended",
    "another client secret": "client-secret",
    "another authority": "keycloak-untrusted",
}


def why_of_oauth2_proxy(run: Run) -> dict[str, str]:
    """Make each fault of a login that returns, and ask `why`. The last one stays: the engine trusts nobody."""
    lab, found = Lab(run), {}

    def ask(fault: str, make: Callable[[Lab], str], headers: Callable[[Lab], dict] = login.cookies) -> None:
        found[fault] = diagnose.ask(run.cluster, make(lab), headers=headers(lab)).cause

    ask("no cookies", login.callback, lambda lab: {})
    ask("the cookies of another login", lambda lab: callback.returned(lab, callback.of_another_login))
    ask("a code that is used up", callback.used_callback)
    ask("the person refuses", callback.refused_callback)
    with login.other_secret(lab):
        ask("another client secret", login.callback)
    with callback.other_ca(lab):
        trust = lambda pod: next(one for one in pod["volumes"] if one["name"] == "ca")["secret"]  # noqa: E731
        change_oauth2_proxy(run, lambda pod: trust(pod).update(secretName=callback.OTHER_CA))
        ask("another authority", login.callback)
    return found


def change_oauth2_proxy(run: Run, change: Callable[[dict], object]) -> None:
    """Start oauth2-proxy again with a changed pod."""
    (deployment,) = [
        one
        for one in application.login_objects(run)
        if (one["kind"], one["metadata"]["name"]) == ("Deployment", OAUTH2_PROXY)
    ]
    change(deployment["spec"]["template"]["spec"])
    run.apply([deployment])
    application.wait(run)  # the gateway refuses everybody until it knows the new pod


def test_the_second_engine_logs_a_person_in_and_withstands_the_same_probes(first):
    run = Run("login-oauth2-proxy", params.load("dev", {"login_engine": OAUTH2_PROXY}), Record())
    person = Person(run)
    try:
        mend(run)
        application.wait(run)
        person.open_page()
        person.log_in()
        person.check_token()
        person.check_cookies()
        person.second_tab()
        person.outlive_token()
        person.sign_out()
        person.go_back()
        found = hostile.ask(run)
        assert len(found) == 75 and {one.profile for one in found} == {OAUTH2_PROXY}
        assert [check for check in run.checks if check.verdict != "pass"] == []
        own_page = over_http(f"{application.url(run)}/oauth2/static/css/all.min.css")  # the authorizer says 200
        assert (own_page.status, own_page.body) == (403, "RBAC: access denied")
        assert why_of_oauth2_proxy(run) == WHY_OF_OAUTH2_PROXY
        change_oauth2_proxy(run, lambda pod: pod["containers"][0]["args"].append("--cookie-secure=false"))
        weak = {"L81": "302 weak", "L82": "302 weak"}
        assert until(lambda: red(run, (*weak, "L31")), lambda got: got == weak, deadline=PATIENCE).held
    finally:
        person.close()
        again = Run("login-envoy", params.load("dev"), Record())
        mend(again)
        application.wait(again)
    left = lambda: run.cluster.find("apps/v1", "Deployment", OAUTH2_PROXY, LOGIN)  # noqa: E731
    wait("the second engine gone", left, lambda found: not found, deadline=PATIENCE)


def test_the_deny_list_believes_logout_tokens_alone(first, tmp_path):
    with (tmp_path / "log").open("w") as log:  # Go's own tests of the program; a failure raises
        parts._run_go(log, "test", "-mod=readonly", ".", stdout=log, folder="deny_list")
    assert (tmp_path / "log").read_text().startswith("ok")


def test_a_deny_list_that_is_down_lets_nobody_in_and_one_that_restarts_has_forgotten(first):
    run = Run("log-outs", params.load("dev"), Record())
    log_outs = LogOuts(run)
    token, claims = log_outs.token_of(log_outs.stage.person)
    other = tokens.user_token(run)  # of another session of the same person
    endpoints.keycloak_admin(run).call("DELETE", admin.path(run.params.realm, "sessions", claims["sid"]))

    def answers() -> tuple[int, int]:
        return log_outs.token_at_application(token).status_code, log_outs.token_at_application(other).status_code

    wait("the end of one session", answers, lambda got: got == (401, 200), deadline=PATIENCE)
    page = f"{application.url(run)}/headers"
    assert diagnose.ask(run.cluster, page, token).cause == "session-ended"
    with stopped(run, DENY_LIST):
        wait("everybody is shut out", answers, lambda got: got == (503, 503), streak=3, deadline=PATIENCE)
        assert diagnose.ask(run.cluster, page, other).cause == "authorizer-unreachable"
    wait("the list is empty", answers, lambda got: got == (200, 200), deadline=PATIENCE)


@pytest.mark.parametrize(
    ("cause", "changed"),
    [
        ("redirect-uri", {"redirect_uri": hostile.EVIL}),
        ("client-missing", {"client_id": "nobody"}),
        ("login-refused", {"code_challenge": "", "code_challenge_method": ""}),
    ],
)
def test_why_explains_what_keycloak_refuses_to_a_login(first, cause, changed):
    run = Run("login-why", params.load("dev"), Record())
    assert diagnose.ask(run.cluster, Stage(run).authorization_url(**changed)).cause == cause


def test_why_explains_a_missing_session_and_a_callback_of_no_login(first):
    run = Run("login-why", params.load("dev"), Record())
    page = application.url(run)
    assert diagnose.ask(run.cluster, f"{page}/headers").cause == "no-session"
    assert diagnose.ask(run.cluster, f"{page}{application.CALLBACK}?code=x&state=y").cause == "login-callback"


def test_the_findings_about_ended_sessions_are_closed_row_by_row_and_all_is_as_before(first):
    run = Run("closed", params.load("dev"), Record())
    closed.close(run)
    assert len(run.checks) == 24 and [check for check in run.checks if check.verdict != "pass"] == []
    assert run.cluster.find("security.istio.io/v1", "AuthorizationPolicy", "ended-sessions", HARDENED) is None
    assert run.cluster.find("apps/v1", "Deployment", INTROSPECTION, LOGIN) is None
    token = tokens.user_token(run)
    ask = lambda: LogOuts(run).token_at_application(token).status_code  # noqa: E731
    wait("the application has its list again", ask, lambda status: status == 200, deadline=PATIENCE)
