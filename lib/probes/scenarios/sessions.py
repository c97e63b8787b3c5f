"""Tokens whose session is over, or whose user or rights are gone: what the issuer says of them, and what the mesh does.

A policy that checks signatures never asks the issuer, so such a token passes until its own end.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock

from lib.crypto import jwt
from lib.keycloak import oidc, representations
from lib.keycloak.admin import Keycloak, path
from lib.probes.scenarios.requests import Drill
from lib.probes.scenarios.token_endpoint import WRONG
from lib.probes.tokens.issued import once
from lib.probes.transport.messages import Request


@dataclass(frozen=True)
class Sessions:
    """The realm that the mesh trusts, and a client whose users' sessions are ended. Made by lib.probes.fixtures.

    Users are the drills' own, made with the `role` and deleted after. One drill at a time holds `lock`: some end more
    sessions than their own for a moment. `keep_secret` is told every token before it is used.
    """

    issuer: str
    realm: str
    client: str
    secret: str
    role: str
    admin: Keycloak
    keep_secret: Callable[[str], None]
    lock: Lock = field(default_factory=Lock)

    def introspected(self, token: str) -> str:
        """Return what the issuer says of a token, as an answer."""
        said = oidc.introspection(self.issuer, self.client, self.secret, token)
        return f"200 {'active' if said['active'] else 'inactive'}"

    @property
    def token_endpoint(self) -> str:
        """Where tokens come from."""
        return f"{self.issuer}/protocol/openid-connect/token"


@dataclass(frozen=True)
class Leaver:
    """A user with a session, both made for one drill, and the session's tokens."""

    name: str
    password: str
    access_token: str
    refresh_token: str


@dataclass(frozen=True)
class Ended:
    """A token, and what the issuer said of it before and after."""

    token: str
    before: str
    after: str


End = Callable[[Sessions, Leaver], None]


def log_out(here: Sessions, leaver: Leaver) -> None:
    """The user logs out, by the client."""
    oidc.logout(here.issuer, here.client, here.secret, leaver.refresh_token)


def end_session(here: Sessions, leaver: Leaver) -> None:
    """The administrator revokes this session."""
    here.admin.call("DELETE", path(here.realm, "sessions", jwt.claims(leaver.access_token)["sid"]))


def end_sessions(here: Sessions, leaver: Leaver) -> None:
    """The administrator logs the user out everywhere."""
    here.admin.call("POST", path(here.realm, "users", here.admin.get_user(here.realm, leaver.name)["id"], "logout"))


def disable_user(here: Sessions, leaver: Leaver) -> None:
    """The administrator disables the user."""
    here.admin.ensure_user(here.realm, _user(leaver.name, enabled=False))


def delete_user(here: Sessions, leaver: Leaver) -> None:
    """The administrator deletes the user."""
    here.admin.delete_user(here.realm, leaver.name)


def change_password(here: Sessions, leaver: Leaver) -> None:
    """The administrator sets another password."""
    here.admin.set_password(here.realm, leaver.name, leaver.password + WRONG)


def take_role(here: Sessions, leaver: Leaver) -> None:
    """The administrator takes the role away."""
    user, role = here.admin.get_user(here.realm, leaver.name)["id"], here.admin.ensure_role(here.realm, here.role)[0]
    here.admin.call("DELETE", path(here.realm, "users", user, "role-mappings", "realm"), [role])


def revoke_client(here: Sessions, leaver: Leaver) -> None:
    """The client's not-before is set: tokens from before are no good."""
    here.admin.ensure_client(here.realm, representations.client(here.client, notBefore=_after(leaver)))


def revoke_realm(here: Sessions, leaver: Leaver) -> None:
    """The realm's not-before is set."""
    here.admin.ensure_realm(representations.realm(here.realm, notBefore=_after(leaver)))


def restore_client(here: Sessions) -> None:
    """Let the client revoke nothing again."""
    here.admin.ensure_client(here.realm, representations.client(here.client, notBefore=0))


def restore_realm(here: Sessions) -> None:
    """Let the realm revoke nothing again."""
    here.admin.ensure_realm(representations.realm(here.realm, notBefore=0))


def nothing(here: Sessions) -> None:
    """What ends with the user needs no restoring."""


# name: what ends the session or the right, and what takes that back for all others
DRILLS: dict[str, tuple[End, Callable[[Sessions], None]]] = {
    "logged-out": (log_out, nothing),
    "session-revoked": (end_session, nothing),
    "logged-out-everywhere": (end_sessions, nothing),
    "user-disabled": (disable_user, nothing),
    "user-deleted": (delete_user, nothing),
    "password-changed": (change_password, nothing),
    "role-taken": (take_role, nothing),
    "client-not-before": (revoke_client, restore_client),
    "realm-not-before": (revoke_realm, restore_realm),
}


def drills(here: Sessions) -> dict[str, Callable[[Drill], list[str]]]:
    """Return the sequences as lib.probes.runner holds them: what the issuer says before and after, then the mesh.

    Of several workloads each is asked with the same token: sessions are ended once.
    """
    return {name: _drill(here, *drill) for name, drill in DRILLS.items()}


def ended(here: Sessions, end: End, restore: Callable[[Sessions], None]) -> Ended:
    """Return a token of a new user's whose session, user or right was ended, and what the issuer says of it."""
    with here.lock, _leaver(here) as leaver:
        before = here.introspected(leaver.access_token)
        try:
            end(here, leaver)
            return Ended(leaver.access_token, before, here.introspected(leaver.access_token))
        finally:
            restore(here)


def _drill(here: Sessions, end: End, restore: Callable[[Sessions], None]) -> Callable[[Drill], list[str]]:
    over = once(lambda: ended(here, end, restore))

    def held(drill: Drill) -> list[str]:
        found, label = over(), f"{drill.label}-1"
        lines = (f"Host: {drill.host}", f"Authorization: Bearer {found.token}", f"User-Agent: {label}")
        return [found.before, found.after, drill.ask([Request("GET", "/headers", lines, label=label)])[0].answer]

    return held


@contextmanager
def _leaver(here: Sessions) -> Iterator[Leaver]:
    name, password = f"probe-leaver-{uuid.uuid4().hex[:8]}", oidc.generate_password()
    here.keep_secret(password)
    here.admin.ensure_user(here.realm, _user(name))
    try:
        here.admin.set_password(here.realm, name, password)
        here.admin.ensure_user_role(here.realm, name, here.role)
        said = oidc.password_token(here.token_endpoint, here.client, here.secret, name, password)
        for kind in ("access_token", "refresh_token", "id_token"):
            here.keep_secret(said[kind])
        yield Leaver(name, password, said["access_token"], said["refresh_token"])
    finally:
        here.admin.delete_user(here.realm, name)


def _user(name: str, **settings: bool) -> representations.Representation:
    return representations.user(name, firstName="Probe", lastName="Leaver", **settings)


def _after(leaver: Leaver) -> int:
    """Seconds since 1970: later than the token, though the clock may still show the second that it was made in."""
    return max(jwt.claims(leaver.access_token)["iat"] + 1, int(time.time()))
