"""A person with a browser: what they do in step 13, a picture of each page, and what must hold."""

from __future__ import annotations

import atexit
import base64
import html
import json
from functools import cached_property
from urllib.parse import parse_qs, urlsplit

from IPython.display import HTML
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webdriver import WebDriver

from lib import polling
from lib.crypto import jwt
from lib.login import application, chromium
from lib.login.engines import ENGINES, ENVOY
from lib.run import Run
from lib.steps import endpoints, tokens

PAGE = "/html?asked=first"  # a page of httpbin's that shows no header: a picture of it holds no token
CHROMIUM_ERROR = "chrome-error:"  # how the URL of an error page begins that is Chromium's own
TITLE = "Herman Melville - Moby-Dick"


class Person:
    """The user of the params with one browser. Each method acts, records checks, and returns a picture of the page."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.engine = ENGINES.get(run.params.login_engine, ENGINES[ENVOY])
        self.reason = application.why_off(run) or chromium.missing()

    @cached_property
    def _browser(self) -> chromium.Chromium:
        params = self.run.params
        files = [file for file in (params.authority_file, params.given_authority_file) if file and file.exists()]
        browser = chromium.Chromium(files)
        atexit.register(browser.close)
        return browser

    @property
    def driver(self) -> WebDriver:
        """Selenium's driver of the browser."""
        return self._browser.driver

    @cached_property
    def url(self) -> str:
        """The application's public URL."""
        return application.url(self.run)

    def open_page(self) -> HTML:
        """Open a page of the application without a session."""
        if self._skips(
            "a browser without a session is sent to Keycloak", "the request has a state and a PKCE challenge"
        ):
            return HTML()
        self._visit(PAGE)
        at, query = self._address()
        wanted = f"{endpoints.issuer(self.run)}/protocol/openid-connect/auth"
        self.run.check("a browser without a session is sent to Keycloak", wanted, at)
        found = {name: query.get(name, "") for name in ("response_type", "client_id", "code_challenge_method")}
        asked = {"response_type": "code", "client_id": application.CLIENT, "code_challenge_method": "S256"}
        self.run.check("the request is for a code, with PKCE", asked, found)
        self.run.check("the request has a state", True, len(query.get("state", "")) > 40)
        return self.picture("Keycloak's login page: fields for user name and password, and the button Sign In")

    def log_in(self) -> HTML:
        """Type the user's name and password into Keycloak's page."""
        if self._skips("after the login the browser is back at the page first asked for"):
            return HTML()
        user = self.run.params.user
        self.driver.find_element(By.ID, "username").send_keys(user)
        self.driver.find_element(By.ID, "password").send_keys(tokens.password(self.run))
        self.driver.find_element(By.ID, "kc-login").click()
        name = "after the login the browser is back at the page first asked for"
        if self._document().startswith(CHROMIUM_ERROR):
            self._visit(PAGE)  # Keycloak knows the person by now
        self.run.check_until(name, self.url + PAGE, self._address_without_code)
        self.run.check_until("the page is the application's", TITLE, self._heading)  # its URL comes before its text
        return self.picture(f"The application's page after the login: a chapter with the heading {TITLE}")

    def check_token(self) -> dict[str, object]:
        """Open a page that shows the request's headers; return the claims of the token that the application got."""
        if self._skips("the application gets the user's access token"):
            return {}
        claims = self._claims()
        wanted = {"preferred_username": self.run.params.user, "azp": application.CLIENT, "typ": "Bearer"}
        self.run.check(
            "the application gets the user's access token", wanted, {name: claims.get(name) for name in wanted}
        )
        self.run.check(
            "the refresh token stays at the gateway", False, ENGINES[ENVOY].whole in self._sent().get("Cookie", "")
        )
        return {name: claims.get(name) for name in ("iss", "aud", "azp", "typ", "preferred_username", "iat", "exp")}

    def check_cookies(self) -> list[dict]:
        """Record how the browser keeps the session; return its cookies without their values."""
        if self._skips("the session's cookies are Secure, HttpOnly, SameSite=Lax, and for this host alone"):
            return []
        keys = ("name", "path", "secure", "httpOnly", "sameSite", "expiry")
        cookies: list[dict] = [
            {**{key: one.get(key) for key in keys}, "bytes": len(one["value"])} for one in self._cookies()
        ]
        weak = [
            one["name"]
            for one in cookies
            if not (
                one["secure"] and one["httpOnly"] and one["sameSite"] == "Lax" and one["name"].startswith("__Host-")
            )
        ]
        self.run.check("the session's cookies", sorted(self.engine.session), [one["name"] for one in cookies])
        self.run.check("cookies that are not Secure, HttpOnly, SameSite=Lax, or for another host", [], weak)
        over = [one["name"] for one in cookies if one["bytes"] > 4000]
        self.run.check("cookies over 4,000 bytes, which browsers drop at 4,096", [], over)
        return cookies

    def second_tab(self) -> HTML:
        """Open the application in a second tab, then close that tab."""
        if self._skips("a second tab needs no password"):
            return HTML()
        first = self.driver.current_window_handle
        self.driver.switch_to.new_window("tab")
        self._visit("/uuid")
        self.run.check("a second tab needs no password", f"{self.url}/uuid", self.driver.current_url)
        picture = self.picture("The second tab: the application's page /uuid, without a login")
        self.driver.close()
        self.driver.switch_to.window(first)
        return picture

    def outlive_token(self) -> dict[str, object]:
        """Drop the cookies that live as long as the token, as the browser does at that time; ask again.

        The session's id is compared and not recorded.
        """
        if self._skips("beyond the token's life the session goes on with a new token"):
            return {}
        before = self._claims()
        for name in self.engine.short:
            self.driver.delete_cookie(name)
        new = lambda claims: claims["jti"] != before["jti"]  # noqa: E731
        after = polling.until(self._claims, new, deadline=self.run.params.answer_deadline).value
        self.run.check(
            "beyond the token's life the session goes on with a new token", True, before["jti"] != after["jti"]
        )
        same = before["sid"] == after["sid"]
        self.run.check("the session is the same", True, same)
        return {"before": before["jti"], "after": after["jti"], "same session": same}

    def sign_out(self) -> HTML:
        """Open the sign-out address: the gateway ends its session and Keycloak's."""
        if self._skips("after the sign-out the browser is at Keycloak's login page"):
            return HTML()
        self._visit(PAGE)
        self._visit(application.SIGN_OUT)
        wanted = f"{endpoints.issuer(self.run)}/protocol/openid-connect/auth"
        name = "after the sign-out the browser is at Keycloak's login page"
        self.run.check_until(name, wanted, lambda: self._address()[0])
        left = sorted(one["name"] for one in self._application_cookies() if one["name"] in self.engine.session)
        self.run.check("cookies of the session after the sign-out", [], left)
        return self.picture("Keycloak's login page again: the session has ended at both")

    def go_back(self) -> HTML:
        """Press the back button after the sign-out."""
        if self._skips("the back button shows no page of the application"):
            return HTML()
        self.driver.back()
        shown = self.driver.current_url.startswith(self.url)
        self.run.check("the back button shows no page of the application", False, shown)
        return self.picture("After the back button: Keycloak's page, not the application's")

    def close(self) -> None:
        """End the browser."""
        if "_browser" in self.__dict__:
            self._browser.close()

    def picture(self, words: str) -> HTML:
        """Return the page as the person sees it. `words` describe it for readers who see no picture."""
        text = base64.b64encode(self.driver.get_screenshot_as_png()).decode()
        text = text.replace("eyJ", "ey\nJ")  # no text of a record begins like a token; a browser skips the line break
        words = html.escape(words, quote=True)
        picture = f'<img alt="{words}" width="600" src="data:image/png;base64,{text}">'
        return HTML(f"<figure>{picture}<figcaption>{words}</figcaption></figure>")

    def _skips(self, *names: str) -> bool:
        for name in names if self.reason else ():
            self.run.skip(name, "", self.reason)
        return bool(self.reason)

    def _visit(self, path: str) -> None:
        """Open a page, again if Chromium shows an error of its own: it drops requests while a network link changes."""
        polling.wait(
            f"{path} in the browser",
            lambda: self._loaded(f"{self.url}{path}"),
            lambda at: not at.startswith(CHROMIUM_ERROR),
            deadline=self.run.params.answer_deadline,
        )

    def _loaded(self, url: str) -> str:
        """Load a page; return the URL of the document that the browser shows then."""
        self.driver.get(url)
        return self._document()

    def _document(self) -> str:
        """Return the URL of the document that is shown: of an error page by Chromium it is not the address."""
        return self.driver.execute_script("return document.URL")

    def _heading(self) -> str:
        return " ".join(one.text for one in self.driver.find_elements(By.TAG_NAME, "h1"))

    def _address_without_code(self) -> str:
        """Return the browser's address; of the callback without its query, which has the authorization code."""
        at = self.driver.current_url
        return at.partition("?")[0] if application.CALLBACK in at else at

    def _address(self) -> tuple[str, dict[str, str]]:
        """Return the browser's address without its query, and the query's parameters."""
        parts = urlsplit(self.driver.current_url)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        return f"{parts.scheme}://{parts.netloc}{parts.path}", query

    def _claims(self) -> dict:
        """Return the claims of the token that reached the application."""
        return jwt.claims(self._sent()["Authorization"].removeprefix("Bearer "))

    def _sent(self) -> dict[str, str]:
        """Return the request's headers as the application got them: httpbin's /headers shows them."""
        self._visit("/headers")
        headers = json.loads(self.driver.find_element(By.TAG_NAME, "body").text)["headers"]
        return {name: value if isinstance(value, str) else ", ".join(value) for name, value in headers.items()}

    def _cookies(self) -> list[dict]:
        return sorted(self.driver.get_cookies(), key=lambda one: one["name"])

    def _application_cookies(self) -> list[dict]:
        """Return the cookies of the application while the browser is elsewhere."""
        found = self.driver.execute_cdp_cmd("Network.getCookies", {"urls": [self.url]})
        return found["cookies"]
