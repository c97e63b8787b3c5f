"""The tokens of the role probes: those that Keycloak issues to each role, and tokens with roles written otherwise."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from lib.crypto import jwt
from lib.parallel import at_once
from lib.probes.targets import this_mesh
from lib.probes.tokens import forge
from lib.probes.tokens.builders import ago, own, own_bytes
from lib.probes.tokens.issued import Make, by_name, once
from lib.probes.tokens.issued import issued_tokens as mesh_tokens
from lib.probes.tokens.kit import Kit, NamedToken
from lib.roles import people
from lib.roles.matrix import NO_ROLE
from lib.run import Run
from lib.steps import tokens

MANY, TOO_MANY = 200, 6000  # roles: a large header that still passes, and one beyond Envoy's limit of 60 KiB
OTHER_SCHEME = "http://example.com/roles"


def _realm(*roles: Any) -> dict:
    return {"realm_access": {"roles": list(roles)}}


def _named(about: str, *roles: Any) -> NamedToken:
    return own(about, **_realm(*roles))


def _escalated(kit: Kit) -> str:
    """The reader's token with the role admin written into it, under its old signature."""
    return forge.with_claims(kit.good, {**jwt.claims(kit.good), **_realm("reader", "editor", "admin")})


def _twice(*values: dict) -> Callable[[dict], bytes]:
    return lambda claims: forge.repeated(claims, "realm_access", list(values))


def _elsewhere(about: str, **claims: Any) -> NamedToken:
    """A token without any realm role, whose roles are in these claims alone."""
    return own(about, **{**_realm(), "groups": [], "resource_access": {}, **claims})


def _issued(name: str) -> NamedToken:
    return NamedToken(ISSUED[name], lambda kit: kit.issued(name))


ISSUED = {
    NO_ROLE: "a user in no group",
    **{role: f"the user with the role {role}" for role in people.GROUPS},
    "editor id": "the editor's ID token, which has the roles too",
    "editor refresh": "the editor's refresh token",
    "service account": "a client's own token, without a user",
}

NAMES = {
    "role in capitals": _named("EDITOR", "EDITOR"),
    "role capitalized": _named("Editor", "Editor"),
    "role longer": _named("editors", "editors"),
    "role shorter": _named("edit", "edit"),
    "role with a space": _named("a space before editor", " editor"),
    "role with a line break": _named("a line break after editor", "editor\n"),
    "role with a NUL": _named("U+0000 after editor", "editor\0"),
    "role in Cyrillic": _named("editor with a Cyrillic e", "\u0435ditor"),
    "role star": _named("a star", "*"),
    "role empty": _named("an empty name", ""),
    "roles with commas": _named("two roles in one item", "reader,editor"),
    "role of an item": _named("the role quoted as JSON", '"editor"'),
}

SHAPES = {
    "roles a string": own("roles is the string editor", realm_access={"roles": "editor"}),
    "roles in one string": own("roles is a string of two roles", realm_access={"roles": "reader editor"}),
    "roles an object": own("roles is an object", realm_access={"roles": {"editor": True}}),
    "roles null": own("roles is null", realm_access={"roles": None}),
    "roles nested": own("roles is a list of a list", realm_access={"roles": [["editor"]]}),
    "roles mixed": _named("numbers, null and the role", 1, True, None, "editor"),
    "roles twice": _named("the role twice", "editor", "editor"),
    "no roles": _named("no role at all"),
    "realm_access a list": own("realm_access is a list", realm_access=["editor"]),
    "realm_access twice, editor last": own_bytes(
        "twice, editor last", _twice({"roles": ["reader"]}, {"roles": ["editor"]})
    ),
    "realm_access twice, editor first": own_bytes(
        "twice, editor first", _twice({"roles": ["editor"]}, {"roles": ["reader"]})
    ),
    "many roles": _named(f"{MANY} roles, the last is editor", *(f"role-{n}" for n in range(MANY)), "editor"),
    "too many roles": _named(f"{TOO_MANY} roles", *(f"role-{n}" for n in range(TOO_MANY)), "editor"),
}

PLACES = {
    "group without slash": _elsewhere("the group without its slash", groups=["staff/editors"]),
    "group with two slashes": _elsewhere("a slash behind the group", groups=["/staff/editors/"]),
    "group below": _elsewhere("a subgroup of the editors", groups=["/staff/editors/juniors"]),
    "group by role name": _elsewhere("the role's name as a group", groups=["editor"]),
    "group of the same name": _elsewhere("a group editors elsewhere", groups=["/guests/editors"]),
    "groups alone": _elsewhere("the group and no role", groups=["/staff/editors"]),
    "role of the client": _elsewhere("the client's role alone", resource_access={people.CLIENT: {"roles": ["editor"]}}),
    "role of another client": _elsewhere("another client's role", resource_access={"other-app": {"roles": ["editor"]}}),
    "url claim alone": _elsewhere("the claim named by a URL", **{people.URL_CLAIM: ["editor"]}),
    "url claim of http": _elsewhere("the URL with http", **{people.URL_CLAIM: [], OTHER_SCHEME: ["editor"]}),
    "url claim as objects": _elsewhere(
        "the URL split at its dot", **{people.URL_CLAIM: [], "https://example": {"com/roles": ["editor"]}}
    ),
    "dotted claim alone": _elsewhere("the claim with a dot", **{people.DOTTED_CLAIM: ["editor"]}),
    "dotted claim as objects": _elsewhere(
        "the dotted name as objects", **{people.DOTTED_CLAIM: [], "my-app": {"user-roles": ["editor"]}}
    ),
    "realm roles by a dotted name": _elsewhere(
        "a claim named realm_access.roles", **{"realm_access.roles": ["editor"]}
    ),
}

FORGED = {
    "role written in": NamedToken("the reader's token with the role admin, under its old signature", _escalated),
    "role by a foreign key": NamedToken(
        "all roles, signed by a key that nobody trusts",
        lambda kit: forge.signed(kit.attacker, {**kit.claims(), **_realm("reader", "editor", "admin")}),
    ),
    "editor expired": own("an editor's token of five minutes ago", exp=ago(300), **_realm("editor")),
    "editor for others": own("an editor's token for another audience", aud="somebody-else", **_realm("editor")),
    "editor as an ID token": own("the type of an ID token, for this audience", typ="ID", **_realm("editor")),
    "editor of others": own("an editor of another issuer", iss="https://sso.evil.example/realms/x", **_realm("editor")),
    "editor service": own(
        "a service account with the role editor", azp="roles-job", client_id="roles-job", **_realm("editor")
    ),
}

CATALOGUE: dict[str, NamedToken] = {
    **{name: _issued(name) for name in ISSUED},
    **NAMES,
    **SHAPES,
    **PLACES,
    **FORGED,
}


def kit(run: Run) -> Kit:
    """Return the kit of this mesh with the tokens of the role probes; its good token is the reader's."""
    issued = issued_tokens(run)
    at_once([partial(issued, caller) for caller in people.USERS])
    return this_mesh.kit(run, CATALOGUE, issued, "reader")


def issued_tokens(run: Run) -> Callable[[str], str]:
    """Return a function that gives a token of ISSUED by name; Keycloak issues each once."""
    service = mesh_tokens(run)
    makers: dict[str, Make] = {caller: partial(people.token, run, caller) for caller in people.USERS}
    session = once(lambda: tokens.user_tokens(run, people.CLIENT, user=people.USERS["editor"]))
    more: dict[str, Make] = {
        "editor": lambda: session()["access_token"],
        "editor id": lambda: session()["id_token"],
        "editor refresh": lambda: session()["refresh_token"],
        "service account": lambda: service("service account"),
    }
    return by_name({**makers, **more}, run.record.secret)
