"""Step 14: how long after its end in Keycloak a session still reaches an application, by the design of the login.

The deny-list is an external authorizer of the application's sidecar. Keycloak reports each ended session to it (OpenID
Connect Back-Channel Logout 1.0), and it refuses the tokens with that `sid`.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable

import pandas as pd
import requests

from lib.crypto import jwt
from lib.istio.extension_providers import DENY_LIST
from lib.keycloak.admin import path
from lib.keycloak.oidc import direct_session, send
from lib.kubernetes import port_forward
from lib.login import application
from lib.login.stage import Stage
from lib.login.visitor import Visitor, line
from lib.names import LOGIN
from lib.polling import until
from lib.probes import workloads
from lib.probes.model import FIGURE_1
from lib.probes.transport.messages import Reply
from lib.run import Run
from lib.steps import authority, endpoints, realm, tokens

TLS = "deny-list-tls"  # Secret
GOAL = 1.0  # seconds from the end in Keycloak to the refusal
PATIENCE = 10  # seconds
REQUESTS = 30  # whose median is the cost of a request
HOST = f"{DENY_LIST}.{LOGIN}.svc.cluster.local"
REPORTS = f"https://{HOST}:8443/backchannel-logout"


def why_off(run: Run) -> str:
    """Return why this environment has no deny-list; "" if it has one."""
    return application.why_off(run) or ("" if run.params.deny_list_image else "deny_list_image is empty")


def ensure_reports(run: Run) -> None:
    """Create the certificate of the deny-list, and let Keycloak report each ended session of the client to it."""
    if why_off(run):
        return
    authority.ensure_certificate(run, TLS, LOGIN, [HOST])
    client, name = application.client(run), run.params.realm
    client["attributes"] |= reported(REPORTS)
    ensured = endpoints.keycloak_admin(run).ensure_client(name, client)
    realm.record(run, "client", f"{name}/{application.CLIENT}", ensured)


def reported(url: str) -> dict[str, str]:
    """Return the attributes of a client whose ended sessions Keycloak reports to `url`; "" stops the reports."""
    return {"backchannel.logout.url": url, "backchannel.logout.session.required": "true"}


def set_attributes(run: Run, client_id: str, attributes: dict[str, str]) -> None:
    """Set attributes of a client for a while; Keycloak drops those that are empty. The record lists no change."""
    keycloak, name = endpoints.keycloak_admin(run), run.params.realm
    client = keycloak.get_client(name, client_id)
    changed = {**client, "attributes": {**client.get("attributes", {}), **attributes}}
    keycloak.call("PUT", path(name, "clients", client["id"]), changed)


def objects(run: Run) -> list[dict]:
    """Return the deny-list, and the policy that makes the sidecar of the application ask it; none without an image."""
    if why_off(run):
        return []
    return deny_list(run, application.CLIENT, endpoints.principal(run, LOGIN, application.NAME))


def deny_list(run: Run, client: str, asks: str) -> list[dict]:
    """Return the deny-list of a client's sessions, which the principal `asks` may ask; its last object asks it."""
    loaded = run.load(
        "login/deny-list.yaml",
        issuer=endpoints.issuer(run),
        jwks_uri=endpoints.jwks_uri(run),
        login_client=client,
        application=asks,
    )
    return authority.restart_on_ca_change(loaded, authority.authority(run))


def wait(run: Run) -> None:
    """Wait until the deny-list is rolled out."""
    if not why_off(run):
        run.cluster.wait_rolled_out("Deployment", DENY_LIST, LOGIN, run.params.deadline)


def location(reply: Reply) -> str:
    """Return where a reply sends the browser, or its status if it sends it nowhere."""
    return reply.headers.get("location", f"{reply.status}, nowhere")


class LogOuts:
    """Sessions of one person, each ended in another way while its token and its browser go on asking."""

    def __init__(self, run: Run) -> None:
        self.run, self.reason = run, why_off(run)
        self.rows: list[dict] = []
        if not self.reason:
            self.stage = Stage(run)
            self.session = direct_session()  # one connection for many requests, as programs have it

    def measure(self) -> pd.DataFrame:
        """End sessions in three ways; return the seconds until the deny-list refused, and who still gets in without."""
        for name, end in ENDS.items():
            if self.reason:
                self.run.skip(f"{name}: the deny-list refuses the token", True, self.reason)
            else:
                self._measure(name, end)
        return pd.DataFrame(self.rows)

    def _measure(self, name: str, end: Callable[[LogOuts, Visitor, dict], None]) -> None:
        browser = self.stage.visitor()
        browser.log_in()
        token, claims = self.token_of(browser)
        before = self.token_at_application(token).status_code, self.token_at_step_12(token).status_code
        self.run.check(f"{name}: before, the token reaches both applications", (200, 200), before)
        engine, jar = self.stage.engine, dict(browser.jar)
        before_end = time.monotonic()
        end(self, browser, claims)
        began = time.monotonic()
        refused = until(
            lambda: self.token_at_application(token).status_code,
            lambda status: status == 401,
            deadline=PATIENCE,
            pause=0.02,
        )
        seconds = round(time.monotonic() - began, 2)
        self.run.check(
            f"{name}: the deny-list refuses the token within {GOAL} s", True, refused.held and seconds <= GOAL
        )
        self.run.check_until(  # once, on a machine at its limit, an answer had no location
            f"{name}: the browser is sent to where its cookies end",
            application.SIGN_OUT,
            lambda: location(browser.ask("/headers", "Accept: text/html", cookies=jar)),
            deadline=PATIENCE,
        )
        alone = self.token_at_step_12(token).status_code
        self.run.check(f"{name}: without the list the token goes on", 200, alone)
        left = {key: value for key, value in jar.items() if key not in engine.short}
        renewed = self.stage.answer(browser.ask("/headers", cookies=left)) if engine.short else ""
        self.rows.append(
            {
                "ended by": name,
                "Keycloak took, s": round(began - before_end, 2),
                "deny-list: refused after, s": seconds,
                "no list: the token then": alone,
                "and at the latest refused after, s": round(claims["exp"] - time.time()) + tokens.SKEW,
                "login proxy: its next refresh": renewed,
            }
        )

    def token_of(self, browser: Visitor) -> tuple[str, dict]:
        """Return the token that the application gets of a browser's session, and its claims."""
        token = json.loads(browser.ask("/headers").body)["headers"]["Authorization"][0].removeprefix("Bearer ")
        self.run.record.secret(token)
        return token, jwt.claims(token)

    def token_at_application(self, token: str) -> requests.Response:
        """Return the answer of the application, whose sidecar asks the list, to a program with the token."""
        return self._ask(application.url(self.run), Authorization=f"Bearer {token}")

    def token_at_step_12(self, token: str) -> requests.Response:
        """Return the answer of step 12's application, which has the same policies and no list."""
        host = f"{workloads.PROFILES[FIGURE_1]}.example"
        return self._ask(endpoints.ingress_url(self.run), Authorization=f"Bearer {token}", Host=host)

    def costs(self) -> pd.DataFrame:
        """Return the median milliseconds of a request, by what looks at it."""
        if self.reason:
            return pd.DataFrame()
        browser = self.stage.visitor()  # the measurements may have ended the session of the stage
        browser.log_in()
        token, jar = self.stage.value("good"), browser.jar
        asked = {
            "JWT alone": lambda: self.token_at_step_12(token),
            "JWT and deny-list": lambda: self.token_at_application(token),
            "login, JWT and deny-list": lambda: self._ask(application.url(self.run), Cookie=line(jar)),
        }
        rows = []
        for name, ask in asked.items():
            replies = [ask() for _ in range(REQUESTS)]
            self.run.check(f"{name}: each request passes", {200}, {one.status_code for one in replies})
            median = statistics.median(one.elapsed.total_seconds() for one in replies)
            rows.append({"what looks": name, "median, ms": round(1000 * median, 1)})
        return pd.DataFrame(rows)

    def forge(self) -> pd.DataFrame:
        """Report ended sessions as those who may not; each report must be refused."""
        name = "forged reports of ended sessions are refused"
        if self.reason:
            self.run.skip(name, {}, self.reason)
            return pd.DataFrame()
        good = self.stage.value("good")
        reports = {
            "nothing": "",
            "an access token": good,
            "an ID token": tokens.user_tokens(self.run)["id_token"],
            "a token that nobody signed": jwt.unsigned(good),
            "a token that was changed": jwt.tampered(good),
        }
        got = {what: self._report(token) for what, token in reports.items()}
        self.run.check(name, dict.fromkeys(reports, 400), got)
        self.run.check("its token still passes", 200, self.token_at_application(good).status_code)
        return pd.DataFrame(got.items(), columns=["reported with", "status"])

    def _ask(self, url: str, **headers: str) -> requests.Response:
        return send(self.session, "GET", f"{url}/headers", headers=headers, allow_redirects=False)

    def _report(self, token: str) -> int:
        session: requests.Session = port_forward.session(
            lambda: self.run.cluster.connect(f"app={DENY_LIST}", LOGIN, 8443)
        )
        return send(session, "POST", REPORTS, data={"logout_token": token}).status_code


def _sign_out(log_outs: LogOuts, browser: Visitor, claims: dict) -> None:
    """The person signs out: the browser goes from the application to Keycloak, and confirms (RP-Initiated Logout)."""
    at = browser.ask(application.SIGN_OUT).headers["location"]
    send(browser.keycloak, "GET", at, allow_redirects=False)


def end_session(log_outs: LogOuts, browser: Visitor, claims: dict) -> None:
    """The administrator ends the session of a token's claims."""
    run = log_outs.run
    endpoints.keycloak_admin(run).call("DELETE", path(run.params.realm, "sessions", claims["sid"]))


def _end_all(log_outs: LogOuts, browser: Visitor, claims: dict) -> None:
    run = log_outs.run
    endpoints.keycloak_admin(run).call("POST", path(run.params.realm, "users", claims["sub"], "logout"))


ENDS: dict[str, Callable[[LogOuts, Visitor, dict], None]] = {
    "the person signs out": _sign_out,
    "the administrator ends the session": end_session,
    "the administrator ends all sessions of the person": _end_all,
}
