"""What the hostile probes of the login share: the application's address, two sessions of one person, and tokens."""

from __future__ import annotations

import json
from collections.abc import Callable
from threading import Lock
from urllib.parse import urlencode, urlsplit

from lib.diagnose.login import PROXYS_PAGE
from lib.keycloak.oidc import direct_session, send
from lib.login import application, visitor
from lib.login.engines import ENGINES, ENVOY
from lib.login.visitor import Visitor
from lib.probes.transport.messages import Reply, Request
from lib.probes.transport.sockets import TlsAddress, over_sockets
from lib.run import Run
from lib.steps import endpoints, tokens

FAILED_FLOW = "OAuth flow failed."  # the body of the filter's 401
PROXYS_JSON = "{}"  # the body of oauth2-proxy's 401
TIMEOUT = 20  # seconds: a callback includes a request to Keycloak


class Stage:
    """What the probes share: the application's address, two sessions of one person, and tokens."""

    def __init__(self, run: Run) -> None:
        self.run, self.host, self.issuer = run, application.host(run), endpoints.issuer(run)
        self.engine = ENGINES[run.params.login_engine]
        self._lock, self._values = Lock(), dict[str, str]()
        password = tokens.password(run)
        address = TlsAddress(f"{self.host}:443", self.host)
        transport = over_sockets(address, timeout=TIMEOUT)
        self.person = Visitor(self.engine, transport, self.host, self.issuer, run.params.user, password)
        self.person.log_in()
        self.other = self.person.twin()
        self.other.log_in()
        self.session, self.second = dict(self.person.jar), dict(self.other.jar)

    def send(self, request: Request) -> Reply:
        """Send one request to the application's gateway."""
        return self.person.transport([request])[0]

    def visitor(self) -> Visitor:
        """Return a new browser without a session at the application."""
        return self.person.twin()

    def value(self, name: str) -> str:
        """Return what a name in braces stands for in the table; each is made once."""
        if name == "expired":  # before the lock: the other names need not wait for it
            return tokens.expired_token(self.run)
        with self._lock:
            if name not in self._values:
                self._values[name] = self._made(name)
            return self._values[name]

    def _made(self, name: str) -> str:
        known: dict[str, Callable[[], str]] = {
            "good": lambda: tokens.user_token(self.run),
            "no_audience": lambda: tokens.user_token(self.run, client_id="no-audience"),
            "id_token": self._id_token,
        }
        if name in known:
            return known[name]()
        token = tokens.user_token(self.run) if name == "token_plain" else ""
        return visitor.line(self.engine.sessions(self.session, self.second, token)[name])

    def answer(self, reply: Reply) -> str:
        """Return a reply as a short answer."""
        return short_answer(reply, self.host, self.issuer)

    def authorization_url(self, **changed: str) -> str:
        """Return the URL at Keycloak at which a login begins, with changed parameters; "" leaves a parameter out."""
        callback = f"https://{self.host}{application.CALLBACK}"
        challenge = {"code_challenge": "A" * 43, "code_challenge_method": "S256"}
        query = {"client_id": application.CLIENT, "response_type": "code", "redirect_uri": callback, "state": "x"}
        query = {name: value for name, value in {**query, **challenge, **changed}.items() if value}
        return f"{self.issuer}/protocol/openid-connect/auth?{urlencode(query)}"

    def keycloak(self, **changed: str) -> str:
        """Ask Keycloak for a code with changed parameters, in a browser that is not logged in; return its answer."""
        got = send(direct_session(), "GET", self.authorization_url(**changed), allow_redirects=False)
        if got.status_code in (302, 303):
            return f"302 {'error' if 'error=' in got.headers['Location'] else 'code'}"
        return f"{got.status_code} keycloak"

    def _id_token(self) -> str:
        """Return an ID token: of the login, if the application gets it in a cookie, else of a client's own request."""
        if self.engine is not ENGINES[ENVOY]:
            return tokens.user_tokens(self.run, client_id="no-audience")["id_token"]
        reply = self.send(Request("GET", "/headers", (f"Host: {self.host}", f"Cookie: {visitor.line(self.session)}")))
        headers = json.loads(reply.body)["headers"]["Cookie"]
        return dict(part.split("=", 1) for part in "; ".join(headers).split("; "))["__Host-id"]


def short_answer(reply: Reply, host: str, issuer: str) -> str:
    """Return where a redirect leads, or who refused the request: as in `302 login`, `401 oauth`, `403 J16`.

    Args:
        reply: What came from the application's gateway.
        host: The application's host; a redirect to it is `page`.
        issuer: The realm's address; a redirect to it is `login` or `logout`. Any other place is `elsewhere`.
    """
    if location := reply.headers.get("location", ""):
        parts = urlsplit(location)
        at = f"{parts.scheme}://{parts.netloc}"
        ends = {f"{issuer}/protocol/openid-connect/{end}": name for end, name in (("auth", "login"), ("logout",) * 2)}
        relative = at == "://" and location.startswith("/") and "\\" not in location
        other = "page" if relative or at == f"https://{host}" else "elsewhere"
        return f"{reply.status} {ends.get(f'{at}{parts.path}', other)}"
    by_proxy = PROXYS_PAGE in reply.body if reply.status >= 400 else False
    refused = reply.body == FAILED_FLOW or by_proxy or (reply.status == 401 and reply.body == PROXYS_JSON)
    return f"{reply.status} oauth" if refused else reply.answer
