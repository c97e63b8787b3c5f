"""What the engines of the login differ in: the form of a state, and the cookies of a login and of a session."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass

from lib.probes.model import OAUTH2_PROXY

ENVOY = "envoy"  # with OAUTH2_PROXY, the values of `login_engine`
SESSION = "__Host-session"  # the cookie of oauth2-proxy
JUNK = "gcm." + "A" * 5000  # more than the 4,096 bytes that a browser keeps
Jar = dict[str, str]


@dataclass(frozen=True)
class Engine:
    """One engine, as its probes and browsers need it.

    Attributes:
        short: The names of the cookies that live as long as the access token.
        whole: The cookie with which the engine makes a session again.
        decoded: Returns the page (`url`) and the `csrf_token` in a state, and what else the state has.
        encoded: Returns the state with this content.
        flow_cookies: Returns the names of the cookies with the `nonce`, or the PKCE `verifier`, of a state's login.
        unsealed: Returns a cookie's value without what shows that somebody changed it.
        sessions: Returns changed sessions by name, made of a session's cookies, of another session's, and of a token.
    """

    short: tuple[str, ...]
    whole: str
    decoded: Callable[[str], dict[str, str]]
    encoded: Callable[[dict[str, str]], str]
    flow_cookies: Callable[[str, str], tuple[str, ...]]
    unsealed: Callable[[str], str]
    sessions: Callable[[Jar, Jar, str], dict[str, Jar]]

    @property
    def session(self) -> tuple[str, ...]:
        """The names of a session's cookies."""
        return (*self.short, self.whole)


def flipped(text: str) -> str:
    """Return a cookie's value with one bit changed, far from the end: base64 has no unused bits there."""
    place = len(text) // 2
    return text[:place] + ("B" if text[place] == "A" else "A") + text[place + 1 :]


def cut(text: str) -> str:
    """Return a cookie's value without its end."""
    return text[:-10]


# Envoy's filter: each token is a cookie, and an HMAC covers them


def _json_in(state: str) -> dict[str, str]:
    return json.loads(base64.urlsafe_b64decode(state + "=" * (-len(state) % 4)))


def _json_state(content: dict[str, str]) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")


def _envoys_sessions(own: Jar, other: Jar, token: str) -> dict[str, Jar]:
    tokens = {name: value for name, value in own.items() if name in ENGINES[ENVOY].short}
    without_id = {name: value for name, value in tokens.items() if name != "__Host-id"}
    access, seal, expires = (own[f"__Host-{name}"] for name in ("access", "hmac", "expires"))
    refresh = own["__Host-refresh"]
    return {
        "session": own,
        "tokens": tokens,
        "no_seal": {name: value for name, value in tokens.items() if name != "__Host-hmac"},
        "seal_cut": {**tokens, "__Host-hmac": cut(seal)},
        "seal_other": {**tokens, "__Host-hmac": other["__Host-hmac"]},
        "later": {**tokens, "__Host-expires": str(int(expires) + 3600)},
        "token_other": {**tokens, "__Host-access": other["__Host-access"]},
        "token_flipped": {**tokens, "__Host-access": flipped(access)},
        "token_cut": {**tokens, "__Host-access": cut(access)},
        "token_plain": {**without_id, "__Host-access": token},
        "junk": {**without_id, "__Host-access": JUNK},
        "whole": {"__Host-refresh": refresh},
        "whole_cut": {"__Host-refresh": cut(refresh)},
        "renamed": {"BearerToken": access, "OauthHMAC": seal, "OauthExpires": expires},
    }


# oauth2-proxy: one cookie `ticket|time|seal`. The ticket names a session in redis and has the key to it


def _pair_in(state: str) -> dict[str, str]:
    token, _, page = state.partition(":")
    return {"csrf_token": token, "url": page}


def _proxys_sessions(own: Jar, other: Jar, token: str) -> dict[str, Jar]:
    ticket, time, seal = own[SESSION].split("|")
    other_ticket, _, other_seal = other[SESSION].split("|")
    values = {
        "session": own[SESSION],
        "tokens": own[SESSION],
        "no_seal": f"{ticket}|{time}",
        "seal_cut": f"{ticket}|{time}|{cut(seal)}",
        "seal_other": f"{ticket}|{time}|{other_seal}",
        "later": f"{ticket}|{int(time) + 3600}|{seal}",
        "token_other": f"{other_ticket}|{time}|{seal}",
        "token_flipped": f"{flipped(ticket)}|{time}|{seal}",
        "token_cut": f"{cut(ticket)}|{time}|{seal}",
        "token_plain": token,
        "junk": f"{JUNK}|{time}|{seal}",
        "whole": own[SESSION],
        "whole_cut": cut(own[SESSION]),
    }
    return {**{name: {SESSION: value} for name, value in values.items()}, "renamed": {"_oauth2_proxy": own[SESSION]}}


ENGINES = {
    ENVOY: Engine(
        short=("__Host-access", "__Host-hmac", "__Host-expires", "__Host-id"),
        whole="__Host-refresh",
        decoded=_json_in,
        encoded=_json_state,
        flow_cookies=lambda state, kind: (f"__Host-{kind}.{_json_in(state)['flow_id']}", f"__Host-{kind}"),
        unsealed=lambda value: value.removeprefix("gcm."),  # the older form, AES-CBC
        sessions=_envoys_sessions,
    ),
    OAUTH2_PROXY: Engine(
        short=(),
        whole=SESSION,
        decoded=_pair_in,
        encoded=lambda content: f"{content.get('csrf_token', '')}:{content['url']}",
        flow_cookies=lambda state, kind: (f"{SESSION}_{state[:8]}_csrf",),
        unsealed=lambda value: value.partition("|")[0],
        sessions=_proxys_sessions,
    ),
}
