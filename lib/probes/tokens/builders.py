"""How the tables' tokens are written down: what a token is, and the few ways in which most of them are made."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lib.crypto import jwt
from lib.errors import RunbookError
from lib.probes.tokens import forge

if TYPE_CHECKING:
    from lib.probes.tokens.catalogue import Kit

# what a kit may lack: the reason why a token is missing then
OWN, JWKS, CANARY = "own", "jwks", "canary"
NEEDS = {
    OWN: "needs a signing key of the realm",
    JWKS: "needs the keys that the issuer publishes, the good token's among them",
    CANARY: "needs the address of a server that must not be called",
}
LIFE = 300  # seconds that a token of the realm's own key has, as Keycloak's have
GONE = object()  # a member that is left out


class Missing(RunbookError):
    """There is no such token here; says why."""


@dataclass(frozen=True)
class Token:
    """A token by name: what it is in one line, and how it is made.

    `needs` is a name of NEEDS, or empty where the good token is enough. After `lasts` seconds it is made anew.
    """

    about: str
    make: Callable[[Kit], str]
    needs: str = ""
    lasts: float = math.inf


def own(about: str, /, lasts: float = math.inf, **claims) -> Token:
    """A token that the realm's key signed, good but for these claims. A value may be a function of the kit, or GONE."""
    return Token(about, lambda kit: forge.signed(kit.own, edited(kit, kit.claims(), claims)), OWN, lasts)


def own_bytes(about: str, /, payload: Callable[[dict], bytes]) -> Token:
    """A token that the realm's key signed, whose payload is made of the good claims as bytes."""
    return Token(about, lambda kit: forge.signed(kit.own, payload(kit.claims())), OWN)


def own_headed(about: str, /, alg: str = "", **header) -> Token:
    """A token that the realm's key signed under another header; with `alg` given, by that algorithm."""
    more = {"alg": alg} if alg else {}

    def make(kit: Kit) -> str:
        said = {"alg": "RS256", "typ": "JWT", "kid": kit.own.kid}
        return forge.signed(kit.own, kit.claims(), edited(kit, said, {**more, **header}), alg)

    return Token(about, make, OWN)


def own_header_bytes(about: str, /, header: Callable[[dict], bytes]) -> Token:
    """A token that the realm's key signed, whose header is made of the proper one as bytes."""
    return Token(
        about,
        lambda kit: forge.signed(kit.own, kit.claims(), header({"alg": "RS256", "typ": "JWT", "kid": kit.own.kid})),
        OWN,
    )


def foreign(about: str, /, needs: str = "", **header) -> Token:
    """A token of good claims that the attacker's key signed, under the good token's header but for these members."""
    return Token(
        about,
        lambda kit: forge.signed(kit.attacker, kit.claims(), edited(kit, jwt.header(kit.good), header)),
        needs,
    )


def reheaded(about: str, /, **header) -> Token:
    """The good token under another header, its signature kept."""
    return Token(about, lambda kit: forge.with_header(kit.good, edited(kit, jwt.header(kit.good), header)))


def repaid(about: str, /, payload: bytes) -> Token:
    """The good token with another payload, its header and signature kept."""
    return Token(about, lambda kit: forge.with_claims(kit.good, payload))


def ago(seconds: float) -> Callable[[Kit], int]:
    """Return the claim of a time so many seconds ago; negative ones are to come."""
    return lambda kit: int(kit.now()) - int(seconds)


def edited(kit: Kit, said: dict, changes: dict) -> dict:
    """Return a header or claims with these members instead; functions are asked with the kit, GONE is left out."""
    new = {name: value(kit) if callable(value) else value for name, value in changes.items()}
    return {name: value for name, value in {**said, **new}.items() if value is not GONE}
