"""Keycloak 26's admin API: realm, client, mapper, user and role are created or updated as stated."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import quote

import requests

from lib.ensured import Ensured
from lib.errors import KeycloakError
from lib.keycloak.administrator import Administrator
from lib.keycloak.oidc import body, direct_session, password_token, refusal, send
from lib.keycloak.representations import Representation, audience_mapper

REQUIRED = object()  # for `call`: a 404 is an error


class Keycloak:
    """One Keycloak as its administrator sees it.

    Each `ensure_` takes the JSON that Keycloak gets (see lib.keycloak.representations). It compares only the fields
    in that JSON, writes only if one differs, and reads the object back. Errors are KeycloakErrors.
    A transport adapter may be mounted on `session`; `clock` returns seconds.
    """

    def __init__(
        self,
        url: str,
        user: str,
        password: str,
        session: requests.Session | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.url, self.user, self.session = url.rstrip("/"), user, session or direct_session()
        self.administrator = Administrator(self.url, user, password, self.session, clock)

    def ensure_realm(self, realm: Representation) -> Ensured:
        """Create or update the realm `realm["realm"]`."""
        at = path(realm["realm"])
        return ensure(
            f"realm {realm['realm']}",
            realm,
            read=lambda: self.get(at),
            create=lambda wanted: self.call("POST", "", wanted),
            change=lambda wanted: self.call("PUT", at, wanted),
        )

    def ensure_client(self, realm: str, client: Representation) -> Ensured:
        """Create or update the client `client["clientId"]`; the object returned has no secret."""
        client_id = client["clientId"]
        kept, action = ensure(
            f"client {client_id}",
            client,
            read=lambda: self._client(realm, client_id),
            create=lambda wanted: self.call("POST", path(realm, "clients"), wanted),
            change=lambda wanted: self.call("PUT", path(realm, "clients", wanted["id"]), wanted),
        )
        return Ensured(_without_secret(kept), action)

    def ensure_audience_mapper(self, realm: str, client_id: str, mapper: Representation) -> Ensured:
        """Create or update the client's protocol mapper `mapper["name"]`."""
        at = path(realm, "clients", self.get_client(realm, client_id)["id"], "protocol-mappers", "models")
        return ensure(
            f"mapper {mapper['name']}",
            mapper,
            read=lambda: only(self.get(at), "name", mapper["name"]),
            create=lambda wanted: self.call("POST", at, wanted),
            change=lambda wanted: self.call("PUT", at + path(wanted["id"]), wanted),
        )

    def ensure_user(self, realm: str, user: Representation) -> Ensured:
        """Create or update the user `user["username"]`, which must be in lower case."""
        username = user["username"]
        return ensure(
            f"user {username}",
            user,
            read=lambda: self.find_user(realm, username),
            create=lambda wanted: self.call("POST", path(realm, "users"), wanted),
            change=lambda wanted: self.call("PUT", path(realm, "users", wanted["id"]), wanted),
        )

    def ensure_realm_with_user(
        self,
        realm: Representation,
        clients: Iterable[Representation],
        user: Representation,
        password: str,
        audience: str,
    ) -> None:
        """Create or update a realm; its `user` gets tokens for `audience` through each of `clients`."""
        name = realm["realm"]
        self.ensure_realm(realm)
        for client in clients:
            self.ensure_client(name, client)
            self.ensure_audience_mapper(name, client["clientId"], audience_mapper(audience))
        self.ensure_user(name, user)
        self.set_password(name, user["username"], password)

    def ensure_password(self, realm: str, username: str, password: str, client_id: str) -> str:
        """Set the user's password unless the client already gets a token with it; return the action."""
        endpoint = f"{self.url}/realms/{quote(realm)}/protocol/openid-connect/token"
        grant = (endpoint, client_id, self.client_secret(realm, client_id), username, password)
        try:
            password_token(*grant, session=self.session)
            return "unchanged"
        except KeycloakError as error:
            if error.error != "invalid_grant":
                raise
        at = path(realm, "users", self.get_user(realm, username)["id"])
        had = any(one["type"] == "password" for one in self.get(f"{at}/credentials"))
        self.set_password(realm, username, password)
        password_token(*grant, session=self.session)
        return "changed" if had else "created"

    def set_password(self, realm: str, username: str, password: str) -> None:
        """Set the user's password; the user need not change it."""
        at = path(realm, "users", self.get_user(realm, username)["id"], "reset-password")
        self.call("PUT", at, {"type": "password", "value": password, "temporary": False})

    def ensure_role(self, realm: str, name: str) -> Ensured:
        """Create the realm role `name` if it is missing."""
        at = path(realm, "roles")
        return ensure(
            f"role {name}",
            {"name": name},
            read=lambda: self.get(at + path(name)),
            create=lambda wanted: self.call("POST", at, wanted),
            change=lambda wanted: self.call("PUT", at + path(name), wanted),
        )

    def ensure_user_role(self, realm: str, username: str, role: str) -> str:
        """Give the user a realm role; return the action."""
        return self._ensure_mapped(
            realm, path(realm, "users", self.get_user(realm, username)["id"], "role-mappings"), role
        )

    def ensure_client_role(self, realm: str, client_id: str, role: str) -> str:
        """Let the client's tokens carry a realm role of their user; return the action.

        A client made by `ensure_client` carries no other roles: its fullScopeAllowed is false.
        """
        client = self.get_client(realm, client_id)
        return self._ensure_mapped(realm, path(realm, "clients", client["id"], "scope-mappings"), role)

    def client_secret(self, realm: str, client_id: str) -> str:
        """Return the client's secret; keep it out of every output."""
        client = self.get_client(realm, client_id)
        return self.call("GET", path(realm, "clients", client["id"], "client-secret"))["value"]

    def get_client(self, realm: str, client_id: str) -> Representation:
        """Return the client without its secret, or raise KeycloakError."""
        client = _required(self._client(realm, client_id), f"client {client_id} in realm {realm}", "ensure_client")
        return _without_secret(client)

    def find_user(self, realm: str, username: str) -> Representation | None:
        """Return the user, or None."""
        name = username.lower()
        return only(self.get(path(realm, "users"), username=name, exact="true"), "username", name)

    def get_user(self, realm: str, username: str) -> Representation:
        """Return the user, or raise KeycloakError."""
        return _required(self.find_user(realm, username), f"user {username} in realm {realm}", "ensure_user")

    def delete_realm(self, name: str) -> str:
        """Delete the realm and everything in it; return "deleted" or "absent"."""
        return self._delete(path(name))

    def delete_user(self, realm: str, username: str) -> str:
        """Delete the user and the user's sessions; return "deleted" or "absent"."""
        user = self.find_user(realm, username)
        return self._delete(path(realm, "users", user["id"])) if user else "absent"

    def get(self, at: str, **query: str) -> Any:
        """Return the JSON at a path under /admin/realms, or None if Keycloak has nothing there (404)."""
        return self.call("GET", at, query=query, absent=None)

    def _delete(self, at: str) -> str:
        return "absent" if self.call("DELETE", at, absent="absent") == "absent" else "deleted"

    def _ensure_mapped(self, realm: str, holder: str, role: str) -> str:
        at = holder + path("realm")
        if only(self.get(at), "name", role):
            return "unchanged"
        wanted = _required(self.get(path(realm, "roles", role)), f"role {role} in realm {realm}", "ensure_role")
        self.call("POST", at, [wanted])
        return "created"

    def _client(self, realm: str, client_id: str) -> Representation | None:
        return only(self.get(path(realm, "clients"), clientId=client_id), "clientId", client_id)

    def call(
        self, method: str, at: str, content: Any = None, *, query: dict[str, str] | None = None, absent: Any = REQUIRED
    ) -> Any:
        """Return the JSON of the admin API's answer, None for an empty one. After a 401, log in and ask once more.

        Args:
            method: The HTTP method.
            at: The path under /admin/realms.
            content: The request's body, as JSON.
            query: The query's parameters.
            absent: The value to return for a 404; by default a 404 raises KeycloakError.
        """
        token = ""
        for _ in range(2):
            token = self.administrator.bearer(token)
            answer = send(
                self.session,
                method,
                f"{self.url}/admin/realms{at}",
                json=content,
                params=query,
                headers={"Authorization": f"Bearer {token}"},
            )
            if answer.status_code != 401:
                break
        if answer.status_code == 404 and absent is not REQUIRED:
            return absent
        if answer.status_code >= 400:
            raise refusal(f"{method} /admin/realms{at}", answer)
        return body(answer) if answer.content else None


def ensure(
    name: str,
    wanted: Representation,
    *,
    read: Callable[[], Representation | None],
    create: Callable[[Representation], Any],
    change: Callable[[Representation], Any],
) -> Ensured:
    """Create one object of the admin API, or change it if a field of `wanted` differs.

    Args:
        name: The kind and the name, for errors: "realm istio".
        wanted: The fields that the object must have.
        read: Returns the object, or None.
        create: Creates the object from `wanted`.
        change: Replaces the object by the one it gets: the present one, with the fields of `wanted`.
    """
    found = read()
    if found is not None and _has(found, wanted):
        return Ensured(found, "unchanged")
    create(wanted) if found is None else change(_merged(found, wanted))
    kept = read() or {}
    if not _has(kept, wanted):
        field = next(key for key, value in wanted.items() if not _has(kept.get(key), value))
        raise KeycloakError(
            f"{name}: Keycloak keeps another value of {field} than it got. "
            f"State {field} as Keycloak keeps it, or delete the {name.split()[0]} first."
        )
    return Ensured(kept, "created" if found is None else "changed")


def _has(found: Any, wanted: Any) -> bool:
    """Return whether `found` has what `wanted` states: a dict its keys, a list its members in any order."""
    if isinstance(wanted, dict):
        return isinstance(found, dict) and all(_has(found.get(key), value) for key, value in wanted.items())
    if isinstance(wanted, list):
        return sorted(map(str, found or [])) == sorted(map(str, wanted))
    return found == wanted


def _merged(found: Representation, wanted: Representation) -> Representation:
    """Return `found` with the fields of `wanted`, also inside dicts: a PUT of a part of `attributes` drops the rest."""
    inner = {key: _merged(found.get(key) or {}, value) for key, value in wanted.items() if isinstance(value, dict)}
    return {**found, **wanted, **inner}


def only(objects: list[Representation] | None, key: str, value: str) -> Representation | None:
    """Return the object whose `key` is `value`, or None."""
    return next((obj for obj in objects or [] if obj[key] == value), None)


def _without_secret(client: Representation) -> Representation:
    return {key: value for key, value in client.items() if key != "secret"}


def _required(obj: Representation | None, what: str, verb: str) -> Representation:
    if obj is None:
        raise KeycloakError(f"Keycloak has no {what}. Create it first ({verb}).", 404)
    return obj


def path(*parts: str) -> str:
    """Return the parts as an escaped path, each after a slash."""
    return "".join(f"/{quote(part, safe='')}" for part in parts)
