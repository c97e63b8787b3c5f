"""The faults of the login of steps 13 and 14, each with the request that shows it and the cause that `why` must name.

The browser of these requests has no screen (lib.login.visitor). It is logged in at Keycloak before the fault begins.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from lib.istio.extension_providers import DENY_LIST
from lib.keycloak import admin, oidc, representations
from lib.labs import changes
from lib.labs.fault import Fault, kept, nothing
from lib.labs.lab import Lab
from lib.login import application
from lib.login.visitor import line
from lib.probes.scenarios.rotation import stopped
from lib.steps import endpoints

# The request


def page(lab: Lab) -> str:
    """Return the URL of the application's page that shows the request's headers."""
    return f"{application.url(lab.run)}/headers"


def login_page(lab: Lab) -> str:
    """Return the URL at Keycloak to which the gateway sends a browser without a session."""
    return lab.log_outs.stage.visitor().begin().location


def callback(lab: Lab) -> str:
    """Log in at Keycloak; return the URL at which Keycloak sends the browser back, and keep its cookies."""
    browser = lab.log_outs.stage.visitor()
    path = browser.callback(browser.begin())
    lab.kept["cookies"] = line(browser.jar)
    return f"{application.url(lab.run)}{path}"


def session(lab: Lab) -> str:
    """Log in; return the URL of the page to ask for, and keep the session's cookies."""
    browser = lab.log_outs.stage.visitor()
    browser.log_in()
    lab.kept["cookies"] = line(browser.jar)
    return page(lab)


def cookies(lab: Lab) -> dict[str, str]:
    """Return the cookies that `callback` or `session` kept."""
    return {"Cookie": lab.kept["cookies"]}


# The faults


def logged_in(lab: Lab) -> tuple[admin.Keycloak, str]:
    """Let the person log in while that goes well; return Keycloak's administration, and the realm."""
    _ = lab.log_outs
    return endpoints.keycloak_admin(lab.run), lab.run.params.realm


@contextmanager
def client(lab: Lab, **changed: Any) -> Iterator[None]:
    """Give Keycloak's client of the login other values while the context lasts."""
    keycloak, realm = logged_in(lab)
    sound = {
        **keycloak.get_client(realm, application.CLIENT),
        "secret": keycloak.client_secret(realm, application.CLIENT),
    }
    try:
        keycloak.ensure_client(realm, {"clientId": application.CLIENT, **changed})
        yield
    finally:
        keycloak.ensure_client(realm, {"clientId": application.CLIENT, **{name: sound[name] for name in changed}})


def other_secret(lab: Lab) -> AbstractContextManager[None]:
    """Renew the client's secret at Keycloak; the gateway keeps the old one."""
    secret = oidc.generate_password()
    lab.run.record.secret(secret)
    return client(lab, secret=secret)


@contextmanager
def no_audience(lab: Lab) -> Iterator[None]:
    """Delete the audience mapper of the client while the context lasts."""
    keycloak, realm = logged_in(lab)
    mapper = representations.audience_mapper(lab.run.params.client_id)
    found = keycloak.ensure_audience_mapper(realm, application.CLIENT, mapper).object
    at = admin.path(
        realm, "clients", keycloak.get_client(realm, application.CLIENT)["id"], "protocol-mappers", "models"
    )
    try:
        keycloak.call("DELETE", at + admin.path(found["id"]))
        yield
    finally:
        keycloak.ensure_audience_mapper(realm, application.CLIENT, mapper)


@contextmanager
def other_gateway(lab: Lab) -> Iterator[None]:
    """Let the application's policy list the gateway of httpbin, as a policy does that was copied from there."""
    _, policy = application.policies(lab.run)
    users = changes.users(lab)["from"][0]["source"] | {"principals": [endpoints.gateway_principal(lab.run)]}
    spec = {**policy["spec"], "rules": [changes.source(**users), *policy["spec"]["rules"][1:]]}
    try:
        lab.apply([{**policy, "spec": spec}])
        yield
    finally:
        lab.apply([policy])
        application.wait_admitted(lab.run)


def end_session(lab: Lab) -> None:
    """Let the administrator end a session, and keep its token."""
    browser = lab.log_outs.stage.visitor()
    browser.log_in()
    lab.kept["token"], claims = lab.log_outs.token_of(browser)
    endpoints.keycloak_admin(lab.run).call("DELETE", admin.path(lab.run.params.realm, "sessions", claims["sid"]))


@contextmanager
def deny_list_down(lab: Lab) -> Iterator[None]:
    """Stop the deny-list while the context lasts."""
    logged_in(lab)
    with stopped(lab.run, DENY_LIST):
        yield


FAULTS = [
    Fault(
        "the login's address is not registered",
        "redirect-uri",
        "400",
        token=nothing,
        url=login_page,
        host="",
        within=lambda lab: client(lab, redirectUris=[f"{application.url(lab.run)}/callback"]),
        asks="a browser without a session follows the gateway's redirect to Keycloak",
    ),
    Fault(
        "the client's secret was renewed",
        "client-secret",
        "401",
        token=nothing,
        url=callback,
        host="",
        within=other_secret,
        headers=cookies,
        asks="a person logs in at Keycloak, and Keycloak sends the browser back to the gateway",
    ),
    Fault(
        "the login's client has no audience mapper",
        "audience",
        "403",
        token=nothing,
        url=session,
        host="",
        within=no_audience,
        headers=cookies,
        asks="a browser asks for `/headers` with the session of a login that went well",
    ),
    Fault(
        "the policy lists another gateway",
        "gateway-principal",
        "403",
        url=page,
        host="",
        within=other_gateway,
        asks="a program asks the application for `/headers` with a user's token",
    ),
    Fault(
        "the session has ended",
        "session-ended",
        "401",
        end_session,
        token=kept,
        url=page,
        host="",
        asks="a program asks for `/headers` with the token of a session that an administrator has ended",
    ),
    Fault(
        "the deny-list of the login is down",
        "authorizer-unreachable",
        "503",
        url=page,
        host="",
        within=deny_list_down,
        asks="a program asks the application for `/headers` with a user's token",
    ),
]
