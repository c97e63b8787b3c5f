"""A browser without a screen, as the hostile probes need it: every cookie and every redirect is in their hands."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

import requests

from lib.errors import RunbookError
from lib.keycloak import browser_login
from lib.keycloak.oidc import direct_session, send
from lib.login.application import CALLBACK
from lib.login.engines import Engine
from lib.probes.transport.messages import Reply, Request, Transport

COOKIE = re.compile(r"(__Host-[\w.-]+)=([^;,]*);")
DELETED = ("deleted", "")  # the values with which an engine deletes a cookie


@dataclass(frozen=True)
class Flow:
    """One login under way: the address at Keycloak to which the gateway sent the browser."""

    location: str

    @property
    def state(self) -> str:
        """The parameter `state`, as the gateway wrote it."""
        return parse_qs(urlsplit(self.location).query)["state"][0]


@dataclass
class Visitor:
    """One browser: `jar` has its cookies for the application, `keycloak` those for Keycloak."""

    engine: Engine
    transport: Transport
    host: str
    issuer: str
    user: str
    password: str
    keycloak: requests.Session = field(default_factory=direct_session)
    jar: dict[str, str] = field(default_factory=dict)

    def twin(self) -> Visitor:
        """Return another browser of this person: no cookie for the application, still logged in at Keycloak."""
        keycloak = direct_session()
        keycloak.cookies.update(self.keycloak.cookies)
        return Visitor(self.engine, self.transport, self.host, self.issuer, self.user, self.password, keycloak)

    def ask(self, path: str, *headers: str, cookies: dict[str, str] | None = None) -> Reply:
        """Send one request with the jar's cookies or with `cookies`; keep the cookies that come back."""
        sent = self.jar if cookies is None else cookies
        lines = [f"Host: {self.host}", *headers, *([f"Cookie: {line(sent)}"] if sent else [])]
        (reply,) = self.transport([Request("GET", path, tuple(lines))])
        self.jar |= set_cookies(reply)
        self.jar = {name: value for name, value in self.jar.items() if value not in DELETED}
        return reply

    def flow_cookies(self, flow: Flow, kind: str) -> tuple[str, ...]:
        """Return the names of the cookies that hold the `nonce` or the `verifier` of a login under way."""
        return self.engine.flow_cookies(flow.state, kind)

    def begin(self, path: str = "/headers", *headers: str) -> Flow:
        """Ask for a page without a session; return the login that begins."""
        reply = self.ask(path, *headers, cookies={})
        if "location" not in reply.headers:
            raise RunbookError(f"expected a redirect to Keycloak for {path}, got {reply.answer}; run step 13 again.")
        return Flow(reply.headers["location"])

    def callback(self, flow: Flow) -> str:
        """Log in at Keycloak; return the path and query at which Keycloak sends the browser back."""
        browser = browser_login.Browser(self.issuer, self.keycloak)
        page = send(self.keycloak, "GET", flow.location, allow_redirects=False)
        if page.status_code == 200:
            page = browser.log_in(page, self.user, self.password)
        parts = urlsplit(page.headers["Location"])
        return f"{parts.path}?{parts.query}"

    def log_in(self, path: str = "/headers") -> Reply:
        """Log in from a page on; return the gateway's answer to the callback."""
        return self.ask(self.callback(self.begin(path)))

    def return_with(self, flow: Flow, changed: dict[str, str]) -> Reply:
        """Return to the callback of a flow, with other values of some cookies; "" leaves a cookie out."""
        cookies = {**self.jar, **changed}
        back = self.callback(flow)
        return self.ask(back, cookies={name: value for name, value in cookies.items() if value})


def callback_path(code: str, state: str) -> str:
    """Return the callback's path with a code and a state."""
    return f"{CALLBACK}?code={code}&state={state}"


def parameter(path: str, name: str) -> str:
    """Return a parameter of a path's query."""
    return parse_qs(urlsplit(path).query)[name][0]


def set_cookies(reply: Reply) -> dict[str, str]:
    """Return the cookies that a reply sets, by name."""
    return dict(COOKIE.findall(reply.headers.get("set-cookie", "")))


def line(cookies: dict[str, str]) -> str:
    """Return cookies as the value of the header Cookie."""
    return "; ".join(f"{name}={value}" for name, value in cookies.items())
