"""The few recipes that make most of the named tokens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lib.crypto import jwt
from lib.probes.tokens import forge
from lib.probes.tokens.kit import OWN, Kit, NamedToken

GONE = object()  # the value of a header member or claim that is left out


def own(about: str, /, *, kept: bool = True, **claims: Any) -> NamedToken:
    """A token signed by the realm's key, except for these claims good. A value may be a function of the kit or GONE."""
    return NamedToken(about, lambda kit: forge.signed(kit.own_key, edited(kit, kit.claims(), claims)), OWN, kept)


def own_bytes(about: str, /, payload: Callable[[dict], bytes]) -> NamedToken:
    """A token signed by the realm's key, whose payload bytes `payload` writes from the good claims."""
    return NamedToken(about, lambda kit: forge.signed(kit.own_key, payload(kit.claims())), OWN)


def own_headed(about: str, /, alg: str = "", **header: Any) -> NamedToken:
    """A token signed by the realm's key under a changed header; by the algorithm `alg` if it is given."""
    changes = {"alg": alg, **header} if alg else header
    return NamedToken(
        about,
        lambda kit: forge.signed(kit.own_key, kit.claims(), edited(kit, proper_header(kit), changes), alg),
        OWN,
    )


def own_header_bytes(about: str, /, header: Callable[[dict], bytes]) -> NamedToken:
    """A token signed by the realm's key, whose header bytes `header` writes from the proper header."""
    return NamedToken(about, lambda kit: forge.signed(kit.own_key, kit.claims(), header(proper_header(kit))), OWN)


def foreign(about: str, /, needs: str = "", **header: Any) -> NamedToken:
    """A token of good claims signed by the attacker's key, under the good token's header with these members changed."""
    return NamedToken(
        about,
        lambda kit: forge.signed(kit.attacker, kit.claims(), edited(kit, jwt.header(kit.good), header)),
        needs,
    )


def reheaded(about: str, /, **header: Any) -> NamedToken:
    """The good token under a changed header, with its old signature."""
    return NamedToken(about, lambda kit: forge.with_header(kit.good, edited(kit, jwt.header(kit.good), header)))


def repaid(about: str, /, payload: bytes) -> NamedToken:
    """The good token with another payload, with its old header and signature."""
    return NamedToken(about, lambda kit: forge.with_claims(kit.good, payload))


def proper_header(kit: Kit) -> dict:
    """Return the header of a token that the realm's key signs."""
    return {"alg": "RS256", "typ": "JWT", "kid": kit.own_key.kid}


def ago(seconds: float) -> Callable[[Kit], int]:
    """Return a time claim that lies this many seconds in the past; in the future if negative."""
    return lambda kit: int(kit.now()) - int(seconds)


def edited(kit: Kit, members: dict, changes: dict) -> dict:
    """Return a header or claims with `changes`: functions are called with the kit, GONE removes the member."""
    new = {name: value(kit) if callable(value) else value for name, value in changes.items()}
    return {name: value for name, value in {**members, **new}.items() if value is not GONE}
