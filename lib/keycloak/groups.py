"""Groups, client roles and composite roles of a realm, created through the admin API if they are missing.

Source: https://www.keycloak.org/docs-api/26.0/rest-api/index.html (Groups, Roles, Role Mapper, Roles (by ID)).
"""

from __future__ import annotations

from lib.errors import KeycloakError
from lib.keycloak.admin import Keycloak, only, path
from lib.keycloak.representations import Representation


def ensure_group(keycloak: Keycloak, realm: str, name: str) -> str:
    """Create the group `name`, a path as in `/staff/editors`, below its parent, which must exist; return the action."""
    if find_group(keycloak, realm, name):
        return "unchanged"
    parent, _, own = name.rpartition("/")
    holder = path(realm, "groups")
    if parent:
        holder += path(_group(keycloak, realm, parent)["id"], "children")
    keycloak.call("POST", holder, {"name": own})
    return "created"


def find_group(keycloak: Keycloak, realm: str, name: str) -> Representation | None:
    """Return the group at a path as in `/staff/editors`, or None."""
    return keycloak.get(path(realm, "group-by-path") + path(*name.strip("/").split("/")))


def ensure_member(keycloak: Keycloak, realm: str, username: str, group: str) -> str:
    """Make the user a member of the group; return the action."""
    user, wanted = keycloak.get_user(realm, username)["id"], _group(keycloak, realm, group)
    at = path(realm, "users", user, "groups")
    if only(keycloak.get(at), "id", wanted["id"]):
        return "unchanged"
    keycloak.call("PUT", at + path(wanted["id"]), {})
    return "created"


def ensure_no_member(keycloak: Keycloak, realm: str, username: str, group: str) -> str:
    """End the user's membership of the group; return "deleted" or "absent"."""
    user, wanted = keycloak.get_user(realm, username)["id"], _group(keycloak, realm, group)
    at = path(realm, "users", user, "groups")
    if not only(keycloak.get(at), "id", wanted["id"]):
        return "absent"
    keycloak.call("DELETE", at + path(wanted["id"]))
    return "deleted"


def ensure_client_role(keycloak: Keycloak, realm: str, client_id: str, role: str) -> str:
    """Create the client's own role; return the action. The client's tokens carry it in `resource_access`."""
    at = path(realm, "clients", keycloak.get_client(realm, client_id)["id"], "roles")
    if keycloak.get(at + path(role)):
        return "unchanged"
    keycloak.call("POST", at, {"name": role})
    return "created"


def ensure_group_role(keycloak: Keycloak, realm: str, group: str, role: str, client_id: str = "") -> str:
    """Give a group a realm role, or a role of the client; return the action.

    Members of the group get the role, and members of its subgroups too.
    """
    wanted = _role(keycloak, realm, role, client_id)
    kind = path("clients", wanted["containerId"]) if client_id else path("realm")
    at = path(realm, "groups", _group(keycloak, realm, group)["id"], "role-mappings") + kind
    return _ensure_listed(keycloak, at, wanted)


def ensure_composite(keycloak: Keycloak, realm: str, role: str, part: str) -> str:
    """Make the realm role `role` a composite: who has it has the realm role `part` too. Return the action."""
    at = path(realm, "roles", role, "composites")
    return _ensure_listed(keycloak, at, _role(keycloak, realm, part))


def _ensure_listed(keycloak: Keycloak, at: str, role: Representation) -> str:
    if only(keycloak.get(at), "name", role["name"]):
        return "unchanged"
    keycloak.call("POST", at, [role])
    return "created"


def _group(keycloak: Keycloak, realm: str, name: str) -> Representation:
    found = find_group(keycloak, realm, name)
    if found is None:
        raise KeycloakError(f"Keycloak has no group {name} in realm {realm}. Create it first (ensure_group).", 404)
    return found


def _role(keycloak: Keycloak, realm: str, role: str, client_id: str = "") -> Representation:
    holder = path("clients", keycloak.get_client(realm, client_id)["id"]) if client_id else ""
    found = keycloak.get(path(realm) + holder + path("roles", role))
    if found is None:
        owner = f"client {client_id}" if client_id else f"realm {realm}"
        raise KeycloakError(f"Keycloak has no role {role} in {owner}. Create it first.", 404)
    return found
