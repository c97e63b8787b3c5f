"""Keycloak's answer in short: the status, with OAuth's error and Keycloak's description.

Examples: `401 invalid_grant/Invalid_user_credentials`; `200 token`, `200 active`, `200 inactive`, `302 code`.
"""

from __future__ import annotations

import html
import re
from typing import Any

import requests

from lib.keycloak import browser_login, oidc


def outcome(answer: requests.Response) -> str:
    """Return an answer in short; `_` stands for characters that are no letters or digits."""
    if answer.is_redirect:
        content = browser_login.redirect_parameters(answer)
    else:
        content = _json(answer) or _challenge(answer) or _error_page(answer)
    if "error" in content:
        parts = (content["error"], content.get("error_description", ""))
        return f"{answer.status_code} {'/'.join(_word(part) for part in parts if part)}"
    if "active" in content:
        return f"{answer.status_code} {'active' if content['active'] else 'inactive'}"
    names = {"access_token": "token", "code": "code", "sub": "claims"}
    return f"{answer.status_code} {next((word for name, word in names.items() if name in content), 'page')}"


def _json(answer: requests.Response) -> dict[str, Any]:
    kind = answer.headers.get("Content-Type", "")
    return oidc.body(answer) if answer.content and "json" in kind else {}


def _challenge(answer: requests.Response) -> dict[str, str]:
    """Return the parameters of the header WWW-Authenticate (RFC 6750, section 3)."""
    return dict(re.findall(r'(\w+)="([^"]*)"', answer.headers.get("WWW-Authenticate", "")))


def _error_page(answer: requests.Response) -> dict[str, str]:
    """Return the message of Keycloak's error page for people."""
    found = re.search(r'id="kc-error-message".*?<p[^>]*>\s*([^<]+?)\s*<', answer.text, re.DOTALL)
    return {"error": "page", "error_description": html.unescape(found[1])} if found else {}


def _word(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_")
