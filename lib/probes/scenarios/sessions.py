"""Tokens whose session, user or role is gone: what the issuer's introspection says, and what the mesh answers.

A policy that checks signatures never asks the issuer, so such a token passes until its exp.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Condition

from lib.crypto import jwt
from lib.keycloak import oidc, representations
from lib.keycloak.admin import Keycloak, path
from lib.probes.scenarios.requests import Context, Scenario
from lib.probes.scenarios.token_endpoint import WRONG
from lib.probes.tokens.issued import once
from lib.probes.transport.messages import Request


class Turns:
    """Lets scenarios that touch only their own user run at once, and a scenario that touches all users run alone."""

    def __init__(self) -> None:
        self._changed, self._running = Condition(), list[bool]()  # for each scenario that runs: whether alone

    @contextmanager
    def taken(self, alone: bool) -> Iterator[None]:
        """Wait for the turn, and keep it while the block runs."""
        with self._changed:
            self._changed.wait_for(lambda: not (self._running if alone else any(self._running)))
            self._running.append(alone)
        try:
            yield
        finally:
            with self._changed:
                self._running.remove(alone)
                self._changed.notify_all()


@dataclass(frozen=True)
class Sessions:
    """The realm that the mesh trusts, and a client whose users' sessions the scenarios end. See fixtures.sessions.

    Each scenario creates a user with the `role` and deletes it at the end. Scenarios take their `turns`, because some
    end other sessions too for a moment. `keep_secret` receives every token and password before its first use.
    """

    issuer: str
    realm: str
    client: str
    secret: str
    role: str
    admin: Keycloak
    keep_secret: Callable[[str], None]
    turns: Turns = field(default_factory=Turns)

    def introspected(self, token: str) -> str:
        """Return what introspection says about a token: `200 active` or `200 inactive`."""
        claims = oidc.introspection(self.issuer, self.client, self.secret, token)
        return f"200 {'active' if claims['active'] else 'inactive'}"

    @property
    def token_endpoint(self) -> str:
        """The URL of the realm's token endpoint."""
        return f"{self.issuer}/protocol/openid-connect/token"


@dataclass(frozen=True)
class TemporaryUser:
    """A user with a session, both made for one scenario, and the session's tokens."""

    name: str
    password: str
    access_token: str
    refresh_token: str


@dataclass(frozen=True)
class Ended:
    """A token, and what introspection says before and after its session, user or role ends."""

    token: str
    before: str
    after: str


End = Callable[[Sessions, TemporaryUser], None]


def log_out(sessions: Sessions, user: TemporaryUser) -> None:
    """The user logs out through the client."""
    oidc.logout(sessions.issuer, sessions.client, sessions.secret, user.refresh_token)


def end_session(sessions: Sessions, user: TemporaryUser) -> None:
    """The administrator revokes this session."""
    sessions.admin.call("DELETE", path(sessions.realm, "sessions", jwt.claims(user.access_token)["sid"]))


def end_sessions(sessions: Sessions, user: TemporaryUser) -> None:
    """The administrator logs the user out everywhere."""
    user_id = sessions.admin.get_user(sessions.realm, user.name)["id"]
    sessions.admin.call("POST", path(sessions.realm, "users", user_id, "logout"))


def disable_user(sessions: Sessions, user: TemporaryUser) -> None:
    """The administrator disables the user."""
    sessions.admin.ensure_user(sessions.realm, _representation(user.name, enabled=False))


def delete_user(sessions: Sessions, user: TemporaryUser) -> None:
    """The administrator deletes the user."""
    sessions.admin.delete_user(sessions.realm, user.name)


def change_password(sessions: Sessions, user: TemporaryUser) -> None:
    """The administrator sets another password."""
    sessions.admin.set_password(sessions.realm, user.name, user.password + WRONG)


def take_role(sessions: Sessions, user: TemporaryUser) -> None:
    """The administrator takes the role away."""
    admin, realm = sessions.admin, sessions.realm
    user_id, role = admin.get_user(realm, user.name)["id"], admin.ensure_role(realm, sessions.role)[0]
    admin.call("DELETE", path(realm, "users", user_id, "role-mappings", "realm"), [role])


def revoke_client(sessions: Sessions, user: TemporaryUser) -> None:
    """The administrator sets the client's not-before: Keycloak then refuses the client's older tokens."""
    sessions.admin.ensure_client(sessions.realm, representations.client(sessions.client, notBefore=_after(user)))


def revoke_realm(sessions: Sessions, user: TemporaryUser) -> None:
    """The administrator sets the realm's not-before: Keycloak then refuses all older tokens."""
    sessions.admin.ensure_realm(representations.realm(sessions.realm, notBefore=_after(user)))


def restore_client(sessions: Sessions) -> None:
    """Reset the client's not-before."""
    sessions.admin.ensure_client(sessions.realm, representations.client(sessions.client, notBefore=0))


def restore_realm(sessions: Sessions) -> None:
    """Reset the realm's not-before."""
    sessions.admin.ensure_realm(representations.realm(sessions.realm, notBefore=0))


def nothing(sessions: Sessions) -> None:
    """Restore nothing: the act concerns only the temporary user."""


# name: the act that ends a session, user or role, and the act that restores the realm and the client
SCENARIOS: dict[str, tuple[End, Callable[[Sessions], None]]] = {
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


def scenarios(sessions: Sessions) -> dict[str, Scenario]:
    """Return the scenarios by name. Answers: introspection before and after the end, then the mesh.

    All workloads get the same token, so each scenario ends only one session.
    """
    return {name: _scenario(sessions, end, restore) for name, (end, restore) in SCENARIOS.items()}


def ended(sessions: Sessions, end: End, restore: Callable[[Sessions], None]) -> Ended:
    """Create a user with a session, end it, restore the realm; return the token and what introspection said."""
    with sessions.turns.taken(alone=restore is not nothing), _temporary_user(sessions) as user:
        before = sessions.introspected(user.access_token)
        try:
            end(sessions, user)
            return Ended(user.access_token, before, sessions.introspected(user.access_token))
        finally:
            restore(sessions)


def _scenario(sessions: Sessions, end: End, restore: Callable[[Sessions], None]) -> Scenario:
    end_once = once(lambda: ended(sessions, end, restore))

    def run(context: Context) -> list[str]:
        it, label = end_once(), f"{context.label}-1"
        lines = (f"Host: {context.host}", f"Authorization: Bearer {it.token}", f"User-Agent: {label}")
        return [it.before, it.after, context.ask([Request("GET", "/headers", lines, label=label)])[0].answer]

    return run


@contextmanager
def _temporary_user(sessions: Sessions) -> Iterator[TemporaryUser]:
    name, password = f"probe-user-{uuid.uuid4().hex[:8]}", oidc.generate_password()
    sessions.keep_secret(password)
    sessions.admin.ensure_user(sessions.realm, _representation(name))
    try:
        sessions.admin.set_password(sessions.realm, name, password)
        sessions.admin.ensure_user_role(sessions.realm, name, sessions.role)
        tokens = oidc.password_token(sessions.token_endpoint, sessions.client, sessions.secret, name, password)
        for kind in ("access_token", "refresh_token", "id_token"):
            sessions.keep_secret(tokens[kind])
        yield TemporaryUser(name, password, tokens["access_token"], tokens["refresh_token"])
    finally:
        sessions.admin.delete_user(sessions.realm, name)


def _representation(name: str, **settings: bool) -> representations.Representation:
    return representations.user(name, firstName="Probe", lastName="Temporary", **settings)


def _after(user: TemporaryUser) -> int:
    """Return a not-before, in seconds since 1970, that is later than the token even within the second of its issue."""
    return max(jwt.claims(user.access_token)["iat"] + 1, int(time.time()))
