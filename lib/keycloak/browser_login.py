"""The authorization code flow with PKCE (RFC 6749 section 4.1, RFC 7636), as a browser goes through it."""

from __future__ import annotations

import base64
import hashlib
import html
import re
import secrets
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

import requests

from lib.errors import KeycloakError
from lib.keycloak.oidc import direct_session, refusal, send

FORM = re.compile(r'<form[^>]*\bid="kc-form-login"[^>]*\baction="([^"]+)"')


def generate_verifier() -> str:
    """Return a new PKCE code verifier of 256 random bits."""
    return secrets.token_urlsafe(32)


def challenge(verifier: str) -> str:
    """Return the code challenge S256 of a verifier (RFC 7636, section 4.2)."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


@dataclass
class Browser:
    """One browser at one realm: `issuer` is the realm's address; it keeps cookies and follows no redirect."""

    issuer: str
    session: requests.Session = field(default_factory=direct_session)

    def open(self, client_id: str, redirect_uri: str, **more: str) -> requests.Response:
        """Return the authorization endpoint's answer: the login form, a redirect, or an error page.

        `more` are further parameters, such as code_challenge and code_challenge_method.
        """
        query = {"response_type": "code", "scope": "openid", "client_id": client_id, "redirect_uri": redirect_uri}
        at = f"{self.issuer}/protocol/openid-connect/auth"
        return send(self.session, "GET", at, params={**query, **more}, allow_redirects=False)

    def log_in(self, page: requests.Response, username: str, password: str) -> requests.Response:
        """Submit the login form of a page; return the answer, a redirect if the password is right."""
        form_tag = FORM.search(page.text)
        if not form_tag:
            raise refusal("a login form", page)
        form = {"username": username, "password": password, "credentialId": ""}
        return send(self.session, "POST", html.unescape(form_tag[1]), data=form, allow_redirects=False)

    def code(self, client_id: str, redirect_uri: str, username: str, password: str, **more: str) -> str:
        """Log the user in; return the authorization code, or raise KeycloakError if none came."""
        answer = self.log_in(self.open(client_id, redirect_uri, **more), username, password)
        parameters = redirect_parameters(answer)
        if "code" not in parameters:
            error = parameters.get("error", "")
            message = f"No code for {username}: {error or answer.status_code}. Check the user and the client."
            raise KeycloakError(message, answer.status_code, error)
        return parameters["code"]


def redirect_parameters(answer: requests.Response) -> dict[str, str]:
    """Return the parameters that a redirect takes to the client (code, or error); {} if the answer is no redirect."""
    query = urlsplit(answer.headers.get("Location", "")).query
    return {name: values[0] for name, values in parse_qs(query).items()}
