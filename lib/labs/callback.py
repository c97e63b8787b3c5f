"""The faults of a login on its way back from Keycloak: most of them end in a redirect loop, each for its own reason.

They are those of Envoy's filter (`login_engine: envoy`). Each has the request that shows it and the cause that `why`
must name, as in lib.labs.login.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from lib.crypto import certificates
from lib.errors import RunbookError
from lib.istio import policies
from lib.keycloak import admin
from lib.labs import changes
from lib.labs.fault import Fault, nothing
from lib.labs.lab import Lab, Object
from lib.labs.login import callback, cookies, logged_in, page
from lib.login import application
from lib.login.engines import ENVOY, flipped
from lib.login.visitor import Flow, Visitor, line
from lib.names import LOGIN
from lib.polling import wait
from lib.steps import endpoints

OTHER_CA = "other-ca"  # Secret
NOBODY = "nobody"  # Service
SEAL = "__Host-hmac"  # the cookie with which Envoy knows that nobody changed the others
LARGE = 4000  # characters of a claim that make the token's cookie too large for a browser

# The request


def returned(lab: Lab, change: Callable[[Visitor, Flow], dict[str, str]]) -> str:
    """Log in at Keycloak; return the callback's URL, and keep the cookies that `change` makes of the browser's."""
    browser = lab.log_outs.stage.visitor()
    flow = browser.begin()
    path = browser.callback(flow)
    lab.kept["cookies"] = line(change(browser, flow))
    return f"{application.url(lab.run)}{path}"


def of_another_login(browser: Visitor, flow: Flow) -> dict[str, str]:
    """Return the cookies of a login that the person began in another browser."""
    other = browser.twin()
    other.begin()
    return other.jar


def without_verifier(browser: Visitor, flow: Flow) -> dict[str, str]:
    """Return the cookies with a changed PKCE verifier."""
    names = browser.flow_cookies(flow, "verifier")
    return {name: flipped(value) if name in names else value for name, value in browser.jar.items()}


def used_callback(lab: Lab) -> str:
    """Log in; return the callback's URL, whose code is used up, and keep the cookies of the login."""
    browser = lab.log_outs.stage.visitor()
    path = browser.callback(browser.begin())
    lab.kept["cookies"] = line(browser.jar)
    browser.ask(path)
    return f"{application.url(lab.run)}{path}"


def refused_callback(lab: Lab) -> str:
    """Begin a login; return the URL at which Keycloak reports that the person refused."""
    browser = lab.log_outs.stage.visitor()
    flow = browser.begin()
    lab.kept["cookies"] = line(browser.jar)
    return f"{application.url(lab.run)}{application.CALLBACK}?error=access_denied&state={flow.state}"


def changed_session(lab: Lab) -> str:
    """Log in; return the URL of the page, and keep the session's cookies with a changed seal.

    The refresh token's cookie stays away: with it, the filter would renew the session.
    """
    browser = lab.log_outs.stage.visitor()
    browser.log_in()
    jar = {name: browser.jar[name] for name in browser.engine.short}
    lab.kept["cookies"] = line({**jar, SEAL: flipped(jar[SEAL])})
    return page(lab)


# The faults


@contextmanager
def changed(lab: Lab, sound: Callable[[], list[Object]], change: Callable[[Object], None]) -> Iterator[None]:
    """Apply changed objects of the login while the context lasts; at the end wait until a person can log in again."""
    logged_in(lab)
    if lab.run.params.login_engine != ENVOY:
        raise RunbookError("This fault is of Envoy's OAuth 2.0 filter. Set login_engine: envoy, then run step 13.")
    objects = sound()
    for one in objects:
        change(one)
    try:
        lab.run.apply(objects)
        yield
    finally:
        lab.run.apply(sound())
        healed(lab)


def healed(lab: Lab) -> None:
    """Wait until a person can log in, and gets the page."""

    def status() -> int:
        browser = lab.log_outs.stage.visitor()
        browser.log_in()
        return browser.ask("/headers").status

    streak = lab.run.params.streak  # an old connection to the gateway may have the filter of before
    wait("the login to be healed", status, lambda got: got == 200, streak=streak, deadline=changes.PATIENCE)


def oauth2_filter(lab: Lab, **values: Any) -> AbstractContextManager[None]:
    """Give fields of the filter other values while the context lasts."""

    def change(one: Object) -> None:
        for patch in one["spec"]["configPatches"]:
            patch["patch"]["value"]["typed_config"]["config"] |= values

    return changed(lab, lambda: application.login_objects(lab.run), change)


def token_endpoint(lab: Lab, host: str, realm: str) -> AbstractContextManager[None]:
    """Let the gateway redeem codes at a realm of another host, or at another realm."""
    uri = f"https://{host}/realms/{realm}/protocol/openid-connect/token"
    return oauth2_filter(lab, token_endpoint={"cluster": f"outbound|443||{host}", "uri": uri, "timeout": "10s"})


@contextmanager
def nobody_at_home(lab: Lab) -> Iterator[None]:
    """Let the gateway redeem codes at a Service without pods."""
    metadata = {"name": NOBODY, "namespace": LOGIN}
    spec = {"selector": {"app": NOBODY}, "ports": [{"name": "https", "port": 443}]}
    service = {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}
    lab.run.apply([service])
    try:
        with token_endpoint(lab, f"{NOBODY}.{LOGIN}.svc.cluster.local", lab.run.params.realm):
            yield
    finally:
        lab.run.delete(service)


@contextmanager
def other_ca(lab: Lab) -> Iterator[None]:
    """Create a Secret with an authority that did not sign Keycloak's certificate; delete it at the end."""
    certificate, _ = certificates.generate_authority("other")
    metadata = {"name": OTHER_CA, "namespace": LOGIN}
    data = {"ca.crt": base64.b64encode(certificate.encode()).decode()}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data}
    lab.run.apply([secret])
    try:
        yield
    finally:
        lab.run.delete(secret)


@contextmanager
def other_authority(lab: Lab) -> Iterator[None]:
    """Let the gateway trust an authority that did not sign Keycloak's certificate."""

    def rules() -> list[Object]:
        return [one for one in application.objects(lab.run) if one["kind"] == "DestinationRule"]

    def change(one: Object) -> None:
        one["spec"]["trafficPolicy"]["tls"]["credentialName"] = OTHER_CA

    with other_ca(lab), changed(lab, rules, change):
        yield


@contextmanager
def large_claim(lab: Lab) -> Iterator[None]:
    """Add a long claim to the access tokens of the login's client."""
    keycloak, realm = logged_in(lab)
    client = keycloak.get_client(realm, application.CLIENT)["id"]
    at = admin.path(realm, "clients", client, "protocol-mappers", "models")
    config = {"claim.name": "large", "claim.value": "x" * LARGE, "jsonType.label": "String"}
    mapper = {
        "name": "large",
        "protocol": "openid-connect",
        "protocolMapper": "oidc-hardcoded-claim-mapper",
        "config": {**config, "access.token.claim": "true"},
    }
    try:
        keycloak.call("POST", at, mapper)
        yield
    finally:
        for one in keycloak.get(at) or []:
            if one["name"] == "large":
                keycloak.call("DELETE", at + admin.path(one["id"]))


@contextmanager
def unknown_provider(lab: Lab) -> Iterator[None]:
    """Let the gateway ask an authorizer that the mesh does not have."""
    logged_in(lab)
    policy = {
        "apiVersion": policies.API,
        "kind": policies.RULES,
        "metadata": {"name": "ask-nobody", "namespace": LOGIN},
        "spec": {
            "selector": {"matchLabels": {"istio": "login-gateway"}},
            "action": "CUSTOM",
            "provider": {"name": "nobody"},
            "rules": [{}],
        },
    }
    try:
        lab.run.apply([policy])
        yield
    finally:
        lab.run.delete(policy)
        healed(lab)


ON_RETURN = "a person logs in at Keycloak, and Keycloak sends the browser back to the gateway"


def on_return(name: str, cause: str, prediction: str = "401", **more: Any) -> Fault:
    """Return a fault that shows when Keycloak sends the browser back."""
    given = {"token": nothing, "url": callback, "host": "", "headers": cookies, "asks": ON_RETURN, **more}
    return Fault(name, cause, prediction, **given)


FAULTS = [
    on_return("the browser blocks cookies", "cookies-blocked", headers=lambda lab: {}),
    on_return(
        "the callback of another browser's login", "state-mismatch", url=lambda lab: returned(lab, of_another_login)
    ),
    on_return(
        "the PKCE verifier was changed on its way", "pkce-verifier", url=lambda lab: returned(lab, without_verifier)
    ),
    on_return("the code is used up", "code-refused", url=used_callback),
    on_return("the person refuses at Keycloak", "login-ended", url=refused_callback),
    on_return("the gateway does not trust Keycloak's authority", "keycloak-untrusted", within=other_authority),
    on_return("nobody answers at the token endpoint", "keycloak-unreachable", within=nobody_at_home),
    on_return(
        "the token endpoint is of no realm",
        "token-endpoint",
        within=lambda lab: token_endpoint(lab, endpoints.INSIDE, "nowhere"),
    ),
    on_return("the token is too large for a cookie", "cookie-too-large", "302", within=large_claim),
    on_return(
        "the filter does not know its callback",
        "callback-caught",
        "302",
        within=lambda lab: oauth2_filter(lab, redirect_path_matcher={"path": {"exact": "/callback"}}),
    ),
    Fault(
        "the application's host is not allowed",
        "redirect-domain",
        "401",
        token=nothing,
        url=page,
        host="",
        within=lambda lab: oauth2_filter(lab, allowed_redirect_domains=["elsewhere.example"]),
        asks="a browser without a session asks for `/headers`",
    ),
    Fault(
        "the session's cookies were changed",
        "session-not-taken",
        "302",
        token=nothing,
        url=changed_session,
        host="",
        headers=cookies,
        asks="a browser asks for `/headers` with the cookies of a session, one of them changed",
    ),
    Fault(
        "a script asks without a session",
        "needs-browser",
        "401",
        token=nothing,
        url=page,
        host="",
        headers=lambda lab: {"Accept": "application/json"},
        asks="a page's script asks for JSON without a session",
    ),
    Fault(
        "the gateway asks an authorizer that the mesh does not have",
        "unknown-provider",
        "403",
        url=page,
        host="",
        within=unknown_provider,
        asks="a program asks for `/headers` with a user's token",
    ),
]
