"""What Keycloak answered, in a word.

An answer is the status with OAuth's error and Keycloak's description of it, as in
`401 invalid_grant/Invalid_user_credentials`; or with what came instead: token, active, inactive, code, claims.
"""

from __future__ import annotations

import html
import re

import requests

from lib.keycloak import browser_login, oidc


def said(answer: requests.Response) -> str:
    """Return an answer in short; what is no letter or digit becomes _."""
    given = (
        browser_login.returned(answer) if answer.is_redirect else _json(answer) or _challenged(answer) or _shown(answer)
    )
    if "error" in given:
        parts = (given["error"], given.get("error_description", ""))
        return f"{answer.status_code} {'/'.join(_word(part) for part in parts if part)}"
    if "active" in given:
        return f"{answer.status_code} {'active' if given['active'] else 'inactive'}"
    names = {"access_token": "token", "code": "code", "sub": "claims"}
    return f"{answer.status_code} {next((word for name, word in names.items() if name in given), 'page')}"


def _json(answer: requests.Response) -> dict:
    kind = answer.headers.get("Content-Type", "")
    return oidc.body(answer) if answer.content and "json" in kind else {}


def _challenged(answer: requests.Response) -> dict:
    """Return what a WWW-Authenticate says (RFC 6750, section 3)."""
    return dict(re.findall(r'(\w+)="([^"]*)"', answer.headers.get("WWW-Authenticate", "")))


def _shown(answer: requests.Response) -> dict:
    """Return what a page for people says went wrong."""
    found = re.search(r'id="kc-error-message".*?<p[^>]*>\s*([^<]+?)\s*<', answer.text, re.DOTALL)
    return {"error": "page", "error_description": html.unescape(found[1])} if found else {}


def _word(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_")
