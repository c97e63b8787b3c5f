"""Step 15 in Keycloak: groups, roles, users, and a client whose mappers put the roles into tokens in five ways."""

from __future__ import annotations

from functools import partial

import pandas as pd

from lib.crypto import jwt
from lib.keycloak import groups, representations
from lib.keycloak.admin import Keycloak
from lib.keycloak.read_once import ReadOnce
from lib.parallel import at_once
from lib.roles.matrix import NO_ROLE
from lib.roles.policies import Claim
from lib.run import Run
from lib.steps import realm, tokens

CLIENT = "roles-app"
# role: the group that gives it, as a realm role and as a role of the client. A subgroup inherits its parent's roles.
GROUPS = {"guest": "/guests", "reader": "/staff", "editor": "/staff/editors", "admin": "/staff/admins"}
COMPOSITE = {"admin": ("editor", "reader")}  # realm roles that contain others
USERS = {NO_ROLE: "nora", "guest": "gina", "reader": "rita", "editor": "eddie", "admin": "ada"}
URL_CLAIM, DOTTED_CLAIM = "https://example.com/roles", "my-app.user-roles"  # names as people have them

CLAIMS = (
    Claim("realm", ("realm_access", "roles")),
    Claim("client", ("resource_access", CLIENT, "roles")),
    Claim("groups", ("groups",), GROUPS),
    Claim("url", (URL_CLAIM,)),
    Claim("dotted", (DOTTED_CLAIM,)),
)


def mappers() -> list[representations.Representation]:
    """Return the client's mappers. The first two claims need none: the client scope `roles` adds them."""
    escaped = [name.replace(".", r"\.") for name in (URL_CLAIM, DOTTED_CLAIM)]
    return [representations.group_mapper("groups"), *map(representations.realm_role_mapper, escaped)]


def ensure(run: Run, keycloak: Keycloak) -> None:
    """Create the client, the roles, the groups and the users, if they are missing; record each action."""
    name, keycloak = run.params.realm, ReadOnce(keycloak)
    client = representations.client(CLIENT, notBefore=0)
    realm.record(run, "client", f"{name}/{CLIENT}", keycloak.ensure_client(name, client))
    for mapper in (representations.audience_mapper(run.params.client_id), *mappers()):
        kept = keycloak.ensure_audience_mapper(name, CLIENT, mapper)
        realm.record(run, "mapper", f"{name}/{CLIENT}/{mapper['name']}", kept)
    realm.keep_client_secret(run, keycloak, name, CLIENT)
    for role in GROUPS:
        realm.record(run, "role", f"{name}/{role}", keycloak.ensure_role(name, role))
        run.changed("role of client", f"{name}/{CLIENT}", keycloak.ensure_client_role(name, CLIENT, role))
        run.changed("client role", f"{CLIENT}/{role}", groups.ensure_client_role(keycloak, name, CLIENT, role))
    for role, parts in COMPOSITE.items():
        for part in parts:
            run.changed("composite", f"{role}/{part}", groups.ensure_composite(keycloak, name, role, part))
    for role, group in GROUPS.items():
        run.changed("group", group, groups.ensure_group(keycloak, name, group))
        for owner in ("", CLIENT):
            action = groups.ensure_group_role(keycloak, name, group, role, owner)
            run.changed("role of group", f"{group} {owner or name}/{role}", action)
    at_once([partial(_ensure_user, run, keycloak, role) for role in USERS])


def _ensure_user(run: Run, keycloak: Keycloak, role: str) -> None:
    name, user = run.params.realm, USERS[role]
    realm.record(run, "user", f"{name}/{user}", keycloak.ensure_user(name, representations.user(user)))
    realm.ensure_password(run, keycloak, name, user)
    if role in GROUPS:
        run.changed("member", f"{GROUPS[role]}/{user}", groups.ensure_member(keycloak, name, user, GROUPS[role]))


def token(run: Run, caller: str) -> str:
    """Return an access token of the user with a role, or of the user with none (NO_ROLE)."""
    return tokens.user_token(run, CLIENT, user=USERS[caller])


def claims_table(run: Run, caller: str) -> pd.DataFrame:
    """Return what a caller's access token has at each claim."""
    claims = jwt.claims(token(run, caller))
    rows = [(one.name, one.key, ", ".join(roles_in(claims, one))) for one in CLAIMS]
    return pd.DataFrame(rows, columns=["roles by", "as a policy names the claim", "in the token"])


def roles_in(claims: dict, claim: Claim) -> list[str]:
    """Return the values that a token has at a claim; none if the claim is missing."""
    node = claims
    for part in claim.path:
        node = node.get(part, {}) if isinstance(node, dict) else {}
    return [node] if isinstance(node, str) else list(node)
